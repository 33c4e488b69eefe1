package scrape

import (
	"fmt"
	"log/slog"
	"os"
)

// failureLog is a job's scrape_failure_log_file: a JSON line per failed fetch.
type failureLog struct {
	file *os.File
	log  *slog.Logger
}

func openFailureLog(name string) (*failureLog, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open scrape failure log: %w", err)
	}
	return &failureLog{f, slog.New(slog.NewJSONHandler(f, nil))}, nil
}

// write notes a failed scrape; l may be nil.
func (l *failureLog) write(job string, t *target, err error) {
	if l != nil {
		l.log.Error(err.Error(), "job_name", job, "target", t.url.String())
	}
}

func (l *failureLog) close() {
	l.file.Close() // every line is written already; a loop that still writes loses its line only
}
