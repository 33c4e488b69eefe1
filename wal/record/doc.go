// Package record is the log seen as batches: a Batch's bytes, and a Store that
// appends batches to the log and reads entries of it back.
//
// The path down: Store.Append encodes each part of a batch as a record, the
// difference to the block's last values, puts a block's anchor before its first
// record in a segment, and hands the group to wal. The path up: Entries lists
// the records from a position on by their frame headers alone; Load gives their
// columns, from the ring of newest ones or decoded.
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
//	flags   u8: 1 key, 2 states, 4 times, 8 starts, 16 extras
//	key u32, previous u32, little-endian: offsets in the segment; absent in a key
//	states  when flagged: runs of uvarint(length<<2 | state), for all slots; else every slot has a value
//	changes u8: 0 no value differs from the last one, 1 all do, 2 a bitmap follows (bit i%8 of byte i/8 for the i-th
//	        slot that has a value)
//	values  of those that differ, by slot, each by the two low bits of its first byte:
//	        0 integer   uvarint(zigzag(new-old)<<2): both are whole, below 2^53, not -0
//	        1 bits      u8 (1 | t<<2 | (n-1)<<5), then n bytes: (new XOR old)>>(8t), little-endian
//	        2 decimal   uvarint(zigzag(new-old)<<5 | (e-1)<<2 | 2), in units of 10^-e
//	times   when flagged, of slots that have a value: a column, see below
//	starts  when flagged, of slots that have a value: a column
//	extras  when flagged: uvarint count, then of each: uvarint slots since the last one, kind u8,
//	        varint time-batch time, value 8 bytes, and for exemplars uvarint number of strings and the strings
//
// The old value of a slot is the last one that the chain of records from the
// key on has for it, 0 in a key. A column is uvarint length and S2 bytes of
// runs: uvarint(length<<1 | none), and unless none varint(offset to the batch's time
// minus the offset of the run before).
package record
