package scrape

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/prometheus/common/promslog"
)

// failureLog is a job's scrape_failure_log_file: a JSON line per failed fetch,
// as Prometheus writes them.
type failureLog struct {
	log *slog.Logger

	mu   sync.Mutex // guards file
	file *os.File
}

// openFailureLog opens the file for lines to be added, and says whether it had to be made.
func openFailureLog(name string) (f *os.File, made bool, err error) {
	f, err = os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o666)
	made = err == nil
	if errors.Is(err, os.ErrExist) {
		f, err = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open scrape failure log: %w", err)
	}
	return f, made, nil
}

// checkFailureLog says why the file could not be opened. It makes none.
func checkFailureLog(name string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("open scrape failure log: %w", err)
	}
	if f != nil {
		f.Close() // nothing was written
	}
	return nil
}

// newFailureLog returns the log in a file; nil for none.
func newFailureLog(file *os.File) *failureLog {
	if file == nil {
		return nil
	}
	l := &failureLog{file: file}
	format := promslog.NewFormat()
	_ = format.Set("json") // which it knows
	l.log = promslog.New(&promslog.Config{Format: format, Writer: l})
	return l
}

// Write takes a line of log's.
func (l *failureLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(line)
}

// write notes a failed scrape; l may be nil.
func (l *failureLog) write(job string, t *target, err error) {
	if l != nil {
		l.log.Error(err.Error(), "job_name", job, "target", t.url.String())
	}
}

// replace goes on in another file; l and file may both be nil.
func (l *failureLog) replace(file *os.File) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close() // every line is written already
	l.file = file
}

// close closes the file; l may be nil.
func (l *failureLog) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close() // every line is written already
}

// closeAfter closes the log once the loops have ended: a scrape that outlives a
// reload still says how it failed.
func (l *failureLog) closeAfter(loops []*loop) {
	for _, o := range loops {
		<-o.done
	}
	l.close()
}
