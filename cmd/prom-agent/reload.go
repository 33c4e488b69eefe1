package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"promagent/config"
	"promagent/config/settings"
)

// reloader applies the config file, one request at a time: a file that any
// stage refuses leaves the running config as it is.
type reloader struct {
	log      *slog.Logger
	file     string
	features config.Features
	prepare  func(*config.Config) (commit func(), err error)
	requests chan chan error
	quitting chan struct{}
	quitOnce sync.Once
	ended    chan struct{} // closed when no request is served any more

	successful, succeededAt prometheus.Gauge

	mu      sync.Mutex     // guards what follows
	current *config.Config // running
	ok      bool           // the last attempt
	at      time.Time      // of the last success
	sum     string         // of the files as they are in force; "": to be loaded at the next look
}

func newReloader(r prometheus.Registerer, logger *slog.Logger, file string, features config.Features,
	prepare func(*config.Config) (func(), error), first *config.Config, sum string) *reloader {
	rl := &reloader{
		log: logger, file: file, features: features, prepare: prepare, current: first,
		requests: make(chan chan error), quitting: make(chan struct{}), ended: make(chan struct{}),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prometheus_config_last_reload_successful", Help: "Whether the last attempt to load the config succeeded.",
		}),
		succeededAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prometheus_config_last_reload_success_timestamp_seconds", Help: "When the config was last loaded with success.",
		}),
	}
	r.MustRegister(rl.successful, rl.succeededAt)
	rl.succeeded(first, sum) // it has been validated; whether the stages take it is for apply to say
	return rl
}

// succeeded makes cfg the running config; sum is that of its files before
// they were read, or "" to have them loaded again at the next look.
func (r *reloader) succeeded(cfg *config.Config, sum string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.ok, r.at, r.sum = cfg, true, time.Now(), sum
	r.successful.Set(1)
	r.succeededAt.SetToCurrentTime()
}

// first applies the config that the agent starts with.
func (r *reloader) first() error {
	begin := time.Now()
	r.loading()
	commit, err := r.prepare(r.current)
	if err != nil {
		r.failed()
		return fmt.Errorf("error loading config from %q: %w", r.file, r.refused(err))
	}
	commit()
	settings.Log(r.log, r.current.Idle)
	r.completed(begin)
	return nil
}

// The lines of Prometheus, which operators look for.
func (r *reloader) loading() { r.log.Info("Loading configuration file", "filename", r.file) }

func (r *reloader) completed(begin time.Time) {
	r.log.Info("Completed loading of configuration file", "filename", r.file, "totalDuration", time.Since(begin))
}

// refused says that the stages did not take the config.
func (r *reloader) refused(err error) error {
	return fmt.Errorf("one or more errors occurred while applying the new configuration (--config.file=%q): %w", r.file, err)
}

func (r *reloader) failed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ok = false
	r.sum = "" // what the files refer to may change, too, and they may be as they were before
	r.successful.Set(0)
}

// apply reads the file and makes it the running config, or says why not.
func (r *reloader) apply() error {
	begin := time.Now()
	r.loading()
	sum, err := config.Checksum(r.file) // before the files are read: a change in between is seen at the next look
	if err != nil {
		sum = ""
	}
	cfg, err := config.Load(r.file, config.Options{Logger: r.log, Features: r.features})
	if err != nil {
		r.failed()
		return fmt.Errorf("couldn't load configuration (--config.file=%q): %w", r.file, err)
	}
	commit, err := r.prepare(cfg)
	if err != nil {
		r.failed()
		return r.refused(err)
	}
	commit()
	settings.Log(r.log, cfg.Idle) // not of a config that is refused: that may be tried at every look
	r.succeeded(cfg, sum)
	r.completed(begin)
	return nil
}

// run serves reload requests: by HTTP, by SIGHUP and, every interval (0:
// never), when the files have changed. It may be called once.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal, interval time.Duration) error {
	defer close(r.ended)
	var look <-chan time.Time
	if interval > 0 {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		look = tick.C
	}
	for {
		select {
		case <-hup:
			if err := r.apply(); err != nil {
				r.log.Error("Error reloading config", "err", err)
			}
		case done := <-r.requests:
			err := r.apply()
			if err != nil {
				r.log.Error("Error reloading config", "err", err)
			}
			done <- err
		case <-look:
			r.reloadIfChanged()
		case <-ctx.Done():
			return nil
		}
	}
}

// reloadIfChanged applies the files when they differ from those in force, and
// those that were refused at every look.
func (r *reloader) reloadIfChanged() {
	sum, err := config.Checksum(r.file)
	r.mu.Lock()
	same, refused := sum == r.sum, !r.ok
	r.mu.Unlock()
	switch {
	case err != nil:
		r.log.Warn("Cannot tell whether the config has changed; reloading it", "err", err)
	case same:
		return
	case refused:
		r.log.Info("The last attempt to load the configuration failed, trying again.")
	default:
		r.log.Info("Configuration file change detected, reloading the configuration.")
	}
	if err := r.apply(); err != nil {
		r.log.Error("Error reloading config", "err", err)
	}
}

// now asks for a reload and waits for its outcome.
func (r *reloader) now() error {
	done := make(chan error, 1)
	select {
	case r.requests <- done:
		return <-done
	case <-r.quitting:
	case <-r.ended:
	}
	return errors.New("the agent is shutting down")
}

// quit ends the agent.
func (r *reloader) quit() { r.quitOnce.Do(func() { close(r.quitting) }) }

// yaml is the running config.
func (r *reloader) yaml() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.YAML()
}

// last says whether the last attempt succeeded, and when one last did.
func (r *reloader) last() (ok bool, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ok, r.at
}
