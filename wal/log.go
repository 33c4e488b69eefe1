package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// Options are the settings of a log. Zero values mean the stated defaults.
type Options struct {
	SyncInterval time.Duration // 0: every append is synced before it returns
	MaxBytes     int64         // bound on the log's size; 0: MaxPercent of the volume
	MaxPercent   float64       // default 80
	FreePercent  float64       // of the volume to leave free, whoever fills it; default 10
	MaxAge       time.Duration // of a segment's newest data; 0: no limit
	MemoryBytes  int64         // bound on what is not on disk yet; default 64 MiB
	NoLock       bool
	Logger       *slog.Logger
	FS           FS
	Now          func() time.Time
	ObserveSync  func(time.Duration) // each sync of a segment
	ObserveDrop  func(time.Duration) // each deletion of a segment

	// Points are the positions that a cursor's state speaks of beside the
	// lowest. The id of a segment that never came to the disk is not used
	// again when one of them is in it: it would be a position in other data.
	Points func(state []byte) ([]Pos, error)
}

// Errors of Append.
var (
	// ErrSegment: another segment is active now; nothing was taken. Encode for
	// that one and append again.
	ErrSegment = errors.New("wal: the segment has ended")
	// ErrNotOnDisk: the group is in the log's end in memory, readers see it,
	// but the disk has not taken it (yet).
	ErrNotOnDisk = errors.New("wal: accepted, but not on disk")
	errClosed    = errors.New("wal: closed")
)

// segment is one file of the log and what of it is still in memory only.
type segment struct {
	id      uint64
	path    string
	before  uint64 // samples in the log before it
	created time.Time

	size        int64 // published bytes
	samples     uint64
	anchorBytes int64
	recordBytes int64
	newest      int64 // ms

	// Of a segment of this process: what is not written yet. mem holds the
	// bytes from memOff to size; the writer drops what it has written.
	own     bool
	mem     []byte
	memOff  int64
	synced  int64
	file    File  // nil until the writer has made it
	started bool  // header and directory entry are synced
	ended   bool  // no more appends
	nosync  bool  // an fsync failed: never synced again
	gone    bool  // not readable: deleted, or alien
	alien   bool  // no segment at all, by its header
	reason  error // why it is alien
	cut     bool  // its end was dropped unwritten, at size
	busy    int   // so many bytes of mem are being written
}

// Log is an append-only sequence of frames in segments. All methods may be
// called from any goroutine.
type Log struct {
	o    Options
	dir  string // <path>/log
	lock *lockFile

	mu       sync.Mutex // guards all that follows
	segments []*segment // ascending by id
	active   *segment
	total    uint64        // samples in the log so far
	changed  chan struct{} // closed at the next publication
	progress chan struct{} // closed when the writer has got on, or has failed
	work     chan struct{} // tells the writer that there is something
	memory   int64         // bytes that are not on disk
	failing  error         // why the disk does not take bytes, nil while it does
	hurry    chan struct{} // tells the cursors' writer that somebody waits for it
	cursors  map[string]*Cursor
	stats    Stats
	limit    int64  // size bound as last computed
	free     uint64 // bytes of the volume, as last asked for
	volume   uint64 // its size; 0: not known
	growth   forecast
	tooLate  int64 // bytes that were deleted before everybody had them
	closed   bool
	torn     map[uint64]bool // segments whose damage has been counted

	cursorsFailing bool

	// Taken in this order, before mu and never under it: a disk that hangs must
	// not keep anybody from appending and reading.
	writing  sync.Mutex // one writer at a time
	deleting sync.Mutex // one deletes at a time
	syncing  sync.Mutex // one syncs at a time
	// cursorFiles guards the files of the cursors.
	cursorFiles sync.Mutex
	renames     *renames // nil: none wait; changed under both, cursorFiles and mu

	reads readFiles
}

// Stats are the log's numbers.
type Stats struct {
	Segments          int
	Bytes             int64
	MemoryBytes       int64 // not on disk yet
	Current           uint64
	Appended          uint64 // samples by this process
	WritesFailed      uint64
	Corruptions       uint64
	Truncations       uint64 // segments deleted
	TruncationsFailed uint64
	SyncsFailed       uint64
	DroppedUnwritten  uint64 // samples that were never on disk, dropped at the memory bound
	NotOnDisk         bool   // the disk does not take bytes
	WrittenBytes      uint64
	LimitBytes        int64
	FullSeconds       float64 // until the size limit is reached, or the volume's reserve, at the growth of the last minutes; +Inf: it does not grow
	CleanStart        int     // of the lock: -1 disabled, 0 a stale file was replaced, 1 clean
}

// Open takes the lock and begins a new segment. Old files are listed, not
// read, but for the frame headers of the newest one (how many samples it holds).
func Open(path string, o Options) (*Log, error) {
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxPercent == 0 {
		o.MaxPercent = 80
	}
	if o.FreePercent == 0 {
		o.FreePercent = 10
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 64 << 20
	}
	l := &Log{
		o: o, dir: filepath.Join(path, "log"), changed: make(chan struct{}), progress: make(chan struct{}),
		work: make(chan struct{}, 1), hurry: make(chan struct{}, 1), cursors: map[string]*Cursor{}, torn: map[uint64]bool{},
	}
	if err := o.FS.MkdirAll(filepath.Join(l.dir, cursorDir)); err != nil {
		return nil, fmt.Errorf("make the log's directory: %w", err)
	}
	for _, dir := range []string{path, l.dir} {
		if err := o.FS.SyncDir(dir); err != nil {
			return nil, fmt.Errorf("sync the data directory: %w", err)
		}
	}
	lock, state, err := takeLock(path, o)
	if err != nil {
		return nil, err
	}
	l.lock, l.stats.CleanStart = lock, state
	if err := l.load(); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return l, nil
}

// Close releases the files and the lock; it waits for a write that is under
// way. Run must have returned.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.deleting.Lock()
	defer l.deleting.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.cursorFiles.Lock()
	defer l.cursorFiles.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.progress) // who waits for the disk waits no longer
	l.progress = make(chan struct{})
	var files []File
	for _, s := range l.segments {
		if s.file != nil {
			files = append(files, s.file)
			s.file = nil
		}
	}
	cursors := l.allCursors()
	l.mu.Unlock()
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	for _, c := range cursors {
		errs = append(errs, c.close())
	}
	l.reads.close()
	errs = append(errs, l.lock.release())
	return errors.Join(errs...)
}
