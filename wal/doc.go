// Package wal is an append-only log of frames in segment files, with its end
// in memory, named positions (cursors) and retention. It knows bytes only;
// package wal/record gives them meaning. This comment is the reference of the
// format. Files of every version that was ever released lie in testdata, and
// every later release reads them.
//
// # Files
//
//	<storage path>/lock                        held with flock while a log is open
//	<storage path>/log/<id as %020d>.seg       a segment
//	<storage path>/log/cursors/<hash>.cur      a cursor; hash: xxhash64 of its name, 16 hex digits
//	<storage path>/log/cursors/<hash>.cur.tmp  a cursor that is being made
//	<storage path>/log/cursors/<hash>.cur.bad  a cursor that could not be read, kept aside
//
// Every start begins a segment whose id is above that of every file and every
// cursor; nothing is ever added to a segment of an earlier process. Other
// files are left alone.
//
// All integers are little-endian. CRC is CRC-32C (Castagnoli).
//
// # Segment
//
// A segment begins with a header of 48 bytes:
//
//	 0               8       12      16              24
//	+---------------+-------+-------+---------------+
//	| "PROMALOG"    |version| flags | segment id    |
//	| 8 bytes       | u32: 1| u32: 0| u64           |
//	+---------------+-------+-------+---------------+
//	 24              32              40      44      48
//	+---------------+---------------+-------+-------+
//	| samples in the| made at       | CRC of| zero  |
//	| log before it | i64, ms       | 0-39  | u32   |
//	+---------------+---------------+-------+-------+
//
// A file whose header does not check, or is of a newer version, is skipped,
// named in the log output and counted. Frames follow up to the end of the file.
//
// # Frame
//
// A frame is a header of 28 bytes and a body:
//
//	 0       4       8               16      20      24      28
//	+-------+-------+---------------+-------+-------+-------+------------+
//	| length| kind, | time          | ref   | CRC of| CRC of| body       |
//	| u32   | more, | i64, ms       | u32   | body  | 0-23  | length     |
//	|       | count |               |       |       |       | bytes      |
//	+-------+-------+---------------+-------+-------+-------+------------+
//
// The second word is
//
//	bits 0-3   kind: 1 anchor, 2 record; 0 is no frame
//	bits 4-6   zero
//	bit  7     more: the group goes on in the next frame
//	bits 8-31  count: the samples in the body
//
// length is at most 256 MiB. ref is the offset in the segment of an earlier
// frame, 0 for none. A frame's position ([Pos]) is the segment's id and the
// offset of the frame's first byte.
//
// A group is what one [Log.Append] adds: frames that have more set, and a last
// one that has not. A group can be read when all its frames are there. A frame
// header that does not check, or that reaches beyond the end of the file, ends the
// segment for its readers, before the group that it is in: the end is torn, or
// the file is damaged. This is counted once. A body that does not check costs
// its frame only ([ErrCorrupt]).
//
// # Cursor
//
// The file has two slots of equal size, at least 4096 bytes each:
//
//	 0               8       12              20      24        24+n    28+n
//	+---------------+-------+---------------+-------+---------+-------+-------+
//	| "PROMACUR"    |version| sequence      | n     | payload | CRC of| zeros |
//	| 8 bytes       | u32: 1| u64           | u32   | n bytes | all   | to the|
//	|               |       |               |       |         | before| end   |
//	+---------------+-------+---------------+-------+---------+-------+-------+
//
// The payload is
//
//	name's length uvarint | name | segment u64 | offset u32 | the owner's state, to the end
//
// The valid slot with the higher sequence counts. Both slots are laid out and
// synced when the file is made, so that writing in place needs no space. One
// of the two is synced at any time; the other is written to, until it is
// synced, every 5 s, and they change places. So a process that is killed loses
// what moved in the last 250 ms; power loss, or a kill in the middle of the
// write, what moved since the last sync. What is lost is sent again, nothing
// else. A state that does not fit is written to another file, which is renamed.
//
// # The path of an append
//
//	Append ── takes the lock, copies frames to the end of the active segment's memory,
//	  │       publishes them: from here on readers see the group
//	  ├─ wakes the readers (Changed) and the writer
//	  └─ waits, at most 1 s, until the writer has got that far
//	writer ── takes the oldest segment that has unwritten bytes
//	  ├─ new: makes the file, writes its header, syncs file and directory
//	  ├─ writes at the offset, lets go of the memory
//	  ├─ wal-sync-interval 0: syncs before it wakes who waits
//	  └─ on error: keeps the memory, tries again after 10 ms and up to 5 s
//	syncer ── every wal-sync-interval: syncs what is written; closes what has ended
//
// While the disk fails or hangs, Append returns [ErrNotOnDisk] and the log
// grows in memory, up to Options.MemoryBytes. Beyond that the end of the oldest
// segment with unwritten bytes is dropped and counted; what of the segment is
// written can still be read. On a full disk, half of that bound is kept in memory
// before the oldest segment on it is deleted. A
// segment whose sync failed is never synced again, for nobody knows what of it
// is stored: another one is begun.
//
// A segment ends when its records weigh 16 times its anchors (from 1 MiB on), at
// a quarter of the size limit (from 4 times on), after 2 hours, at a quarter of
// Options.MemoryBytes unwritten, and after a failed sync. The Append that finds
// it ended returns [ErrSegment]: its frames refer to others in that segment, and
// have to be encoded anew.
//
// # The path of a read
//
//	Next(position) ── the position, or the first one after it that exists
//	Scan(position) ── headers of whole groups, from memory or the file
//	  ├─ at the active segment's end: none, and the same position; wait for Changed
//	  └─ at the end of an ended segment, or where it is damaged: the next segment's start
//	Read(header)   ── the body, checked
//
// A segment that is deleted meanwhile is [ErrGone]; ask Next again. What a position has missed is
// the difference of [Log.SamplesBefore]. A reader keeps its position in a
// [Cursor]; retention deletes the segments that all cursors have passed, after
// the cursors' files say so, and the oldest ones beyond the limits of size, free
// space and age, whoever has not read them yet.
package wal
