// Package remotewrite delivers the log to remote-write receivers: every sample
// at least once, in order per series, whatever happens to the receiver, the
// process or the configuration. It knows nothing of scraping; it reads the log
// through record.Store and persists its positions in the log's cursors.
//
// The path of a sample through an Endpoint (one remote_write block):
//
//	walk    opens spans of the log and yields them step by step: live data in
//	        log order (a Run), a backlog grouped by block and slot (a Window)
//	sheet   holds one step's columns and deals its samples: those of a Run to
//	        the lanes of the shards, those of a Window to portions
//	ledger  keeps the books: per shard a lane of batches, first in, first out,
//	        or the portions that any shard takes; and what is final (by its At)
//	shard   takes the next batch, encodes it, sends it until there is a final
//	        answer, halves what is refused, and reports to the ledger
//	cursor  the ledger's State, written to the log at every final answer
//
// The Endpoint's goroutine reads, each shard has one goroutine, and the
// ledger's mutex is all that they share. The reader waits when there is no room,
// and nothing but the reader waits: the log is the queue.
//
// walk, sheet, ledger and division are state machines without clock, I/O or
// goroutines of their own; the model test drives them through schedules that no
// scheduler would find.
//
// A Manager owns the endpoints of a configuration and changes them on reload
// without losing a position.
package remotewrite
