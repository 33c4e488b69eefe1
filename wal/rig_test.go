package wal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

const dataDir = "/data"

// rig is a log that runs on a file system in memory.
type rig struct {
	t    *testing.T
	disk *waltest.FS
	log  *wal.Log
	skew atomic.Int64 // of the log's clock, ns
	end  context.CancelFunc
	done chan error
}

// start opens a log on disk and runs it. It must not be called when Open may fail.
func start(t *testing.T, disk wal.FS, o wal.Options) *rig {
	t.Helper()
	r, err := tryStart(t, disk, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return r
}

func tryStart(t *testing.T, disk wal.FS, o wal.Options) (*rig, error) {
	t.Helper()
	r := &rig{t: t, done: make(chan error, 1)}
	r.disk, _ = disk.(*waltest.FS)
	o.FS, o.NoLock = disk, true
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) }
	}
	l, err := wal.Open(dataDir, o)
	if err != nil {
		return nil, err
	}
	r.log = l
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	t.Cleanup(cancel)
	go func() { r.done <- l.Run(ctx) }()
	return r, nil
}

// age lets the log's clock jump.
func (r *rig) age(d time.Duration) { r.skew.Add(int64(d)) }

// stop ends Run and closes the log.
func (r *rig) stop() error {
	r.end()
	return errors.Join(<-r.done, r.log.Close())
}

func (r *rig) mustStop() {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Fatalf("stop: %v", err)
	}
}

// group is a group of two frames whose bodies say which group they are of.
func group(n, size int) []wal.Frame {
	body := binary.LittleEndian.AppendUint32(nil, uint32(n))
	body = append(body, strings.Repeat("x", size)...)
	return []wal.Frame{
		{Kind: wal.Record, Samples: 1, Time: int64(n), Body: append(slices.Clone(body), 'a')},
		{Kind: wal.Record, Samples: 1, Time: int64(n), RefFrame: 1, Body: append(body, 'b')},
	}
}

// append appends group n to whatever segment is active.
func (r *rig) append(n, size int) (wal.Pos, error) {
	for range 3 {
		at, err := r.log.Append(r.log.Segment(), group(n, size), nil)
		if errors.Is(err, wal.ErrSegment) {
			continue
		}
		if len(at) == 0 {
			return wal.Pos{}, err
		}
		return at[0], err
	}
	return wal.Pos{}, errors.New("no segment takes the group")
}

func (r *rig) mustAppend(n, size int) wal.Pos {
	r.t.Helper()
	p, err := r.append(n, size)
	if err != nil {
		r.t.Fatalf("append %d: %v", n, err)
	}
	return p
}

// read reads the groups from p on, as far as there are any. A frame whose
// body does not check is left out.
func (r *rig) read(p wal.Pos) (groups []int, end wal.Pos, err error) {
	for p = r.log.Next(p); ; {
		hs, next, err := r.log.Scan(nil, p, wal.Pos{}, 3)
		if errors.Is(err, wal.ErrGone) {
			p = r.log.Next(p)
			continue
		}
		if err != nil {
			return groups, p, err
		}
		for i, h := range hs {
			b, err := r.log.Read(h, nil)
			if errors.Is(err, wal.ErrCorrupt) || errors.Is(err, wal.ErrGone) {
				continue
			}
			if err != nil {
				return groups, hs[i&^1].Pos, err
			}
			if len(b) < 5 {
				return groups, p, fmt.Errorf("a body of %d bytes", len(b))
			}
			n := int(binary.LittleEndian.Uint32(b))
			if first := b[len(b)-1] == 'a'; first == h.More {
				if !h.More {
					groups = append(groups, n)
				}
				continue
			}
			return groups, p, fmt.Errorf("half of group %d", n)
		}
		if next == p {
			return groups, p, nil
		}
		p = next
	}
}

func (r *rig) mustRead() []int {
	r.t.Helper()
	got, _, err := r.read(wal.Pos{})
	if err != nil {
		r.t.Fatalf("read: %v", err)
	}
	return got
}

func (r *rig) wantRead(want []int) {
	r.t.Helper()
	if got := r.mustRead(); !slices.Equal(got, want) {
		r.t.Fatalf("read groups %v, want %v", got, want)
	}
}

// ascending says whether every group is there at most once, in order.
func ascending(groups []int) bool {
	for i := 1; i < len(groups); i++ {
		if groups[i] <= groups[i-1] {
			return false
		}
	}
	return true
}

// numbers is from, from+1 ... to.
func numbers(from, to int) (all []int) {
	for i := from; i <= to; i++ {
		all = append(all, i)
	}
	return all
}
