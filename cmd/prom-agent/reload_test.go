package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"promagent/config"
)

// reloading is a reloader on a file, whose stages are prepare.
func reloading(t testing.TB, prepare func(*config.Config) (func(), error)) (r *reloader, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "prometheus.yml")
	writeFile(t, file, "")
	cfg, err := config.Load(file, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := config.Checksum(file)
	if err != nil {
		t.Fatal(err)
	}
	return newReloader(prometheus.NewRegistry(), slog.New(slog.DiscardHandler), file, config.Features{}, prepare, cfg, sum), file
}

func TestFileThatChangesWhileItIsLoadedIsLoadedAgain(t *testing.T) {
	var file string
	var applied []int // the number of jobs of each config that was applied
	r, file := reloading(t, func(cfg *config.Config) (func(), error) {
		return func() {
			applied = append(applied, len(cfg.Scrape.Jobs))
			if len(applied) == 1 {
				writeFile(t, file, "scrape_configs: [{job_name: a}, {job_name: b}]\n")
			}
		}, nil
	})
	writeFile(t, file, "scrape_configs: [{job_name: a}]\n")
	for range 3 {
		r.reloadIfChanged()
	}
	if len(applied) != 2 || applied[0] != 1 || applied[1] != 2 {
		t.Errorf("configs with %v jobs were applied, want 1 and then 2", applied)
	}
}

func TestRefusedFileIsTriedAtEveryLook(t *testing.T) {
	applied := 0
	r, file := reloading(t, func(*config.Config) (func(), error) { return func() { applied++ }, nil })
	writeFile(t, file, "global: {scrape_intervall: 1s}\n")
	for range 2 {
		r.mu.Lock()
		r.ok = true // to see whether it is tried
		r.mu.Unlock()
		r.reloadIfChanged()
		if ok, _ := r.last(); ok || applied != 0 {
			t.Errorf("a refused file: ok %v, applied %d times", ok, applied)
		}
	}
	writeFile(t, file, "scrape_configs: [{job_name: a}]\n")
	for range 2 {
		r.reloadIfChanged()
		if ok, _ := r.last(); !ok || applied != 1 {
			t.Errorf("the mended file: ok %v, applied %d times", ok, applied)
		}
	}
}

// However the reload that failed was asked for, the file as it was before it is loaded again.
func TestRevertedFileIsLoadedAgain(t *testing.T) {
	for name, fail := range map[string]func(*reloader) error{
		"at a look":    func(r *reloader) error { r.reloadIfChanged(); return nil },
		"by a request": (*reloader).apply,
	} {
		t.Run(name, func(t *testing.T) {
			applied := 0
			r, file := reloading(t, func(*config.Config) (func(), error) { return func() { applied++ }, nil })
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, file, "global: {scrape_intervall: 1s}\n")
			_ = fail(r) // its outcome is what last says
			if ok, _ := r.last(); ok {
				t.Fatal("the broken file was taken")
			}
			writeFile(t, file, string(good))
			r.reloadIfChanged()
			if ok, _ := r.last(); !ok || applied != 1 {
				t.Errorf("the reverted file: ok %v, applied %d times", ok, applied)
			}
		})
	}
}

func TestFileThatIsNotYAMLIsTriedAtEveryLook(t *testing.T) {
	r, file := reloading(t, func(*config.Config) (func(), error) { return func() {}, nil })
	writeFile(t, file, "global: [")
	for range 2 { // whether it has changed cannot be told
		r.mu.Lock()
		r.ok = true
		r.mu.Unlock()
		r.reloadIfChanged()
		if ok, _ := r.last(); ok {
			t.Error("it was not tried")
		}
	}
}

func TestReloadIsRefusedWhenTheAgentEnds(t *testing.T) {
	r, _ := reloading(t, func(*config.Config) (func(), error) { return func() {}, nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.run(ctx, make(chan os.Signal), 0) }()
	if err := r.now(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := r.now(); err == nil || err.Error() != "the agent is shutting down" {
		t.Errorf("after its end: %v", err)
	}
	r.quit()
	r.quit() // twice is once
}
