//go:build !linux

package watch

import "syscall"

// limitUnacknowledged does nothing: the limit is one of Linux.
func limitUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
