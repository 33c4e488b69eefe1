package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/discovery/file"

	"promagent/config"
	"promagent/config/settings"
	"promagent/remotewrite"
	"promagent/scrape"
)

// checkConfigs validates each file as the agent would and prints a summary.
// It goes on after a bad one, and then returns exit code 1. syntaxOnly leaves
// out what a config needs to be there beside it, such as certificates. portable
// makes keys bad that Prometheus does not know.
func checkConfigs(out io.Writer, files, features []string, syntaxOnly, portable bool) error {
	of := records{from: slog.LevelInfo}
	parsed := config.ParseFeatures(features, slog.New(&of))
	settings.Log(slog.New(&of), settings.OfFeatures(features))
	if err := parsed.Check(); err != nil {
		return err
	}
	of.print(out, "")
	bad := 0
	for _, name := range files {
		said := records{from: slog.LevelInfo}
		cfg, err := config.Load(name, config.Options{Features: parsed, Logger: slog.New(&said)})
		var leftOut []string
		if err == nil && !syntaxOnly {
			leftOut, err = checkStages(cfg)
		}
		var foreign []config.Key
		if err == nil {
			settings.Log(slog.New(&said), cfg.Idle)
			foreign = cfg.OwnKeys
		}
		if err != nil || len(leftOut) > 0 || portable && len(foreign) > 0 {
			bad++
			printFailed(out, name, err, leftOut)
			if portable {
				printForeign(out, name, foreign)
			}
			continue
		}
		fmt.Fprintf(out, "%s: OK\n%s", name, cfg.Summary())
		switch {
		case len(foreign) > 0:
			fmt.Fprintf(out, "  keys that Prometheus does not know, from line %d on: %s; check config --prometheus names them all\n", foreign[0].Line, foreign[0].Path)
		case portable:
			fmt.Fprintln(out, "  no keys but Prometheus's")
		}
		if !syntaxOnly {
			said.lines = append(said.lines, missingFiles(cfg)...)
		}
		said.print(out, "  ")
		fmt.Fprintln(out)
	}
	if bad > 0 {
		return exitError{1, fmt.Sprintf("%d of %d files failed", bad, len(files))}
	}
	return nil
}

// printFailed says why the agent would not take a file: all of it for err,
// or the jobs that it would leave out, if any.
func printFailed(out io.Writer, name string, err error, leftOut []string) {
	fmt.Fprintf(out, "%s: FAILED\n", name)
	for _, text := range leftOut {
		fmt.Fprintf(out, "  %s\n", text)
	}
	if err != nil {
		fmt.Fprintf(out, "  %v\n", err)
		return
	}
	if len(leftOut) == 0 {
		return
	}
	fmt.Fprintln(out, "  The agent takes such a file and runs on without these jobs, as Prometheus does; a running job that is changed so is a failed reload.")
}

// printForeign names the keys of a file that Prometheus would refuse.
func printForeign(out io.Writer, name string, keys []config.Key) {
	for _, k := range keys {
		fmt.Fprintf(out, "  %s:%d: %s\n", name, k.Line, k.Path)
	}
	if len(keys) > 0 {
		fmt.Fprintln(out, "  Prometheus does not know these keys and refuses the file.")
	}
}

// checkStages asks the stages what they would make of cfg, and returns what there
// is to say of jobs that the agent would leave out. It makes no
// service discovery: that may need to be where the agent is to run.
func checkStages(cfg *config.Config) (leftOut []string, err error) {
	jobs, err := scrape.Check(cfg.Scrape.Jobs)
	if err != nil {
		return nil, err
	}
	for _, l := range jobs {
		leftOut = append(leftOut, l.Err.Error())
	}
	return leftOut, remotewrite.Check(cfg.RemoteWrite)
}

// missingFiles says which files that cfg names are not there: the agent reads
// them when it needs them, and they may come later.
func missingFiles(cfg *config.Config) (lines []string) {
	for _, job := range cfg.Scrape.Jobs {
		for _, c := range cfg.Discovery[job.Job] {
			files, ok := c.(*file.SDConfig)
			if !ok {
				continue
			}
			for _, pattern := range files.Files {
				if found, err := filepath.Glob(pattern); err == nil && len(found) == 0 {
					lines = append(lines, fmt.Sprintf("file %q for file_sd in scrape job %q does not exist", pattern, job.Job))
				}
			}
		}
		lines = append(lines, missingSecrets(job.HTTP, fmt.Sprintf("scrape job %q", job.Job))...)
	}
	for _, r := range cfg.RemoteWrite {
		lines = append(lines, missingSecrets(r.HTTP, fmt.Sprintf("remote_write %q", r.RemoteName))...)
	}
	return lines
}

// missingSecrets says which files of an HTTP client's passwords are not there.
func missingSecrets(c commonconfig.HTTPClientConfig, of string) (lines []string) {
	var names [][2]string
	if b := c.BasicAuth; b != nil {
		names = append(names, [2]string{"username_file", b.UsernameFile}, [2]string{"password_file", b.PasswordFile})
	}
	if a := c.Authorization; a != nil {
		names = append(names, [2]string{"credentials_file", a.CredentialsFile})
	}
	if o := c.OAuth2; o != nil {
		names = append(names, [2]string{"client_secret_file", o.ClientSecretFile})
	}
	for _, n := range names {
		if n[1] == "" {
			continue
		}
		if _, err := os.Stat(n[1]); err != nil {
			lines = append(lines, fmt.Sprintf("%s %q of %s cannot be read: %v", n[0], n[1], of, errors.Unwrap(err)))
		}
	}
	return lines
}

// records is a log handler that keeps lines of a level and above.
type records struct {
	from  slog.Level
	lines []string // warnings and errors
	notes []string // others
}

func (r *records) Enabled(_ context.Context, l slog.Level) bool { return l >= r.from }
func (r *records) WithAttrs([]slog.Attr) slog.Handler           { return r }
func (r *records) WithGroup(string) slog.Handler                { return r }

func (r *records) Handle(_ context.Context, rec slog.Record) error {
	text := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s: %s", a.Key, a.Value)
		return true
	})
	if rec.Level < slog.LevelWarn {
		r.notes = append(r.notes, text)
	} else {
		r.lines = append(r.lines, text)
	}
	return nil
}

// print shows the lines, those that matter more first.
func (r *records) print(out io.Writer, indent string) {
	for _, text := range r.lines {
		fmt.Fprintf(out, "%sWARNING: %s\n", indent, text)
	}
	for _, text := range r.notes {
		fmt.Fprintf(out, "%sNOTE: %s\n", indent, text)
	}
}
