package main

import (
	"fmt"
	"io"
	"log/slog"

	"promagent/config"
)

// checkConfigs validates each file as the agent would and prints a summary.
// It goes on after a bad one, and then returns exit code 1.
func checkConfigs(out io.Writer, files, features []string) error {
	parsed := config.ParseFeatures(features, slog.New(slog.NewTextHandler(out, nil)))
	bad := 0
	for _, file := range files {
		cfg, err := config.Load(file, config.Options{Features: parsed})
		if err != nil {
			bad++
			fmt.Fprintf(out, "%s: FAILED\n  %v\n", file, err)
			continue
		}
		fmt.Fprintf(out, "%s: OK\n%s\n", file, cfg.Summary())
	}
	if bad > 0 {
		return exitError{1, fmt.Sprintf("%d of %d files failed", bad, len(files))}
	}
	return nil
}
