// Package record is the log seen as batches: a Batch's bytes, and a Store that
// appends batches to the log and reads entries of it back.
//
// The path down: Store.Append encodes each part of a batch as a record, the
// difference to the block's last values, puts a block's anchor before its first
// record in a segment, and hands the group to wal. The path up: Entries lists
// the records from a position on by their frame headers alone; Load gives their
// columns, from the ring of newest ones or decoded. Check and Dump show a
// log to people.
//
// # Anchor
//
// The S2-compressed (block format) bytes of
//
//	version u8 (1), then template.Block.AppendTo
//
// # Record
//
//	version u8 (1)
//	flags   u8: 1 key, 2 states, 4 times, 8 starts, 16 extras, 32 starts are those of the record before
//	key u32, previous u32, little-endian: offsets in the segment; absent in a key
//	states  when flagged: runs of uvarint(length<<2 | state), for all slots; else every slot has a value
//	changes u8: 0 no value differs from the last one, 1 all do, 2 a bitmap follows (bit i%8 of byte i/8 for the i-th
//	        slot that has a value)
//	values  of those that differ, by slot, each told by the low bits of its first byte:
//	        integer  .......0  uvarint(zigzag(new-old)<<1): old plus it, as floats, is new, bit for bit
//	        decimal  ......11  uvarint(zigzag(d)<<2 | 3): new is (round(old*10^e) + d) / 10^e, e as last announced for the slot
//	        bits     nnnttt01  n+1 bytes follow: (new XOR old)>>(8t), little-endian; t at most 6, t+n at most 7
//	        decimal  nnnttt01  with t = 7: announces e = n+1; with t = 6 and n at least 2: announces e = n+7; uvarint(zigzag(d)) follows
//	times   when flagged, of slots that have a value: a column, see below
//	starts  when flagged with 8 and not with 32, of slots that have a value: a column
//	extras  when flagged: uvarint count, then of each: uvarint slots since the last one, kind u8,
//	        varint time-batch time, value 8 bytes, and for exemplars uvarint number of strings, each its uvarint length and its bytes
//
// The old value of a slot is the last one that the chain of records from the
// key on has for it, 0 in a key; announcements hold until the next key. The
// starts of the record before are, by slot, the last that the chain has. A
// column is uvarint length and S2 bytes of runs: uvarint(length<<1 | none),
// and unless none varint(offset to the batch's time minus the offset of the
// run before, 0 at first).
//
// All floats come back bit for bit: negative zero, NaN with payload,
// infinities, integers beyond 2^53. A body that says anything else is an
// error, never a panic, and makes its reader allocate nothing beyond the
// column of the block that it leans on and what it holds itself.
package record
