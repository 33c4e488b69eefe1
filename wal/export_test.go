package wal

// Retain lets tests of the outside delete segments at once.
func (l *Log) Retain() { l.retain() }
