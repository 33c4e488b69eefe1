package main

import (
	"io/fs"
	"log/slog"
	"path/filepath"
)

// nameForeignLog says that the data directory also holds the log of a
// Prometheus agent. It is left as it is, so that going back is possible.
func nameForeignLog(dir string, logger *slog.Logger) {
	path := filepath.Join(dir, "wal")
	var size int64
	err := filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		return // there is none, or none that can be read
	}
	logger.Info("The log of a Prometheus agent is left as it is, and not sent; when there is no way back, remove it with rm -r", "dir", path, "bytes", size)
}
