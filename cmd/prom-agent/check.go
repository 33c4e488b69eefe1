package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"promagent/config"
	"promagent/remotewrite"
	"promagent/scrape"
)

// checkConfigs validates each file as the agent would and prints a summary.
// It goes on after a bad one, and then returns exit code 1. syntaxOnly leaves
// out what a config needs to be there beside it, such as certificates.
func checkConfigs(out io.Writer, files, features []string, syntaxOnly bool) error {
	parsed := config.ParseFeatures(features, slog.New(slog.NewTextHandler(out, nil)))
	if err := parsed.Check(); err != nil {
		return err
	}
	bad := 0
	for _, file := range files {
		cfg, err := config.Load(file, config.Options{Features: parsed})
		if err == nil && !syntaxOnly {
			err = prepareStages(cfg)
		}
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

// prepareStages has the stages make their clients for cfg, and drops them. It
// makes no service discovery: that may need to be where the agent is to run.
func prepareStages(cfg *config.Config) error {
	var refused refusals
	scraper, err := scrape.New(scrape.Options{Logger: slog.New(&refused)})
	if err != nil {
		return err
	}
	if _, err := scraper.Prepare(cfg.Scrape); err != nil {
		return err
	}
	_, err = new(remotewrite.Manager).Prepare(cfg.RemoteWrite) // without a log: it makes clients only
	return errors.Join(append(refused.errs, err)...)
}

// refusals is a log handler that keeps the errors: a job that cannot be made
// is logged by the agent and left out.
type refusals struct{ errs []error }

func (*refusals) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (r *refusals) WithAttrs([]slog.Attr) slog.Handler         { return r }
func (r *refusals) WithGroup(string) slog.Handler              { return r }

func (r *refusals) Handle(_ context.Context, rec slog.Record) error {
	text := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s: %s", a.Key, a.Value)
		return true
	})
	r.errs = append(r.errs, errors.New(text))
	return nil
}
