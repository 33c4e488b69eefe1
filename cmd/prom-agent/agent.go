package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"

	"promagent/config"
	"promagent/config/settings"
	"promagent/discovery"
	"promagent/remotewrite"
	"promagent/scrape"
	"promagent/wal"
	"promagent/wal/record"
	"promagent/web"
)

// agent is the stages and what wires them.
type agent struct {
	flags    *flags
	log      *slog.Logger
	features config.Features
	started  time.Time

	journal *wal.Log
	store   *record.Store
	finder  *discovery.Manager
	scraper *scrape.Manager
	sender  *remotewrite.Manager
	server  *web.Server
	reload  *reloader
}

// newAgent builds every stage; nothing runs yet, but the log is open and locked.
func newAgent(f *flags, logger *slog.Logger) (*agent, error) {
	a := &agent{flags: f, log: logger, started: time.Now(), features: config.ParseFeatures(f.features, logger)}
	if err := a.features.Check(); err != nil {
		return nil, err
	}
	logger.Info("Starting prom-agent", "version", fullVersion(), "revision", version.GetRevision(), "go", runtime.Version())
	sum, sumErr := config.Checksum(f.configFile) // before the files are read: a change in between is seen at the next look
	if sumErr != nil {
		sum = ""
	}
	first, err := config.Load(f.configFile, config.Options{Logger: logger, Features: a.features})
	if err != nil {
		abs, absErr := filepath.Abs(f.configFile)
		if absErr != nil {
			abs = f.configFile
		}
		logger.Error(fmt.Sprintf("Error loading config (--config.file=%s)", f.configFile), "file", abs, "err", err)
		return nil, exitError{code: 2}
	}
	settings.Log(logger, f.idle())

	registry := prometheus.NewRegistry()
	version.Version = fullVersion() // read by the build info collector and the API
	registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsGC, collectors.MetricsScheduler, syncMetrics)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfoMetric(),
	)

	fsync := newDurationMetric(registry, "prometheus_tsdb_wal_fsync_duration_seconds", "Time that a sync of the log took.")
	truncate := newDurationMetric(registry, "prometheus_agent_truncate_duration_seconds", "Time that the deletion of a segment of the log took.")
	if a.journal, err = wal.Open(f.storagePath, wal.Options{
		SyncInterval: time.Duration(f.syncInterval), MaxBytes: f.retentionBytes, MaxPercent: f.retentionPercent,
		MaxAge: time.Duration(f.retentionMaxTime), NoLock: f.noLockfile, Points: pointsOf,
		Logger: logger.With("component", "wal"), ObserveSync: fsync, ObserveDrop: truncate,
	}); err != nil {
		return nil, fmt.Errorf("opening storage failed: %w", err)
	}
	nameForeignLog(f.storagePath, logger)
	if err := a.build(registry, first, sum); err != nil {
		return nil, errors.Join(err, a.journal.Close())
	}
	return a, nil
}

func (a *agent) build(registry *prometheus.Registry, first *config.Config, sum string) (err error) {
	f, logger := a.flags, a.log
	a.store = record.NewStore(a.journal, record.Options{Logger: logger.With("component", "wal")})
	registry.MustRegister(newLogMetrics(a.journal, a.store))
	if a.finder, err = discovery.New(discovery.Options{
		Registerer: registry, Logger: logger.With("component", "discovery manager scrape"), UserAgent: userAgent(),
	}); err != nil {
		return err
	}
	if a.scraper, err = scrape.New(scrape.Options{
		Sink: a.store, Registerer: registry, Logger: logger.With("component", "scrape manager"), UserAgent: userAgent(),
		ReloadInterval: time.Duration(f.discoveryReload), AdjustTimestamps: f.adjustTimestamps, TimestampTolerance: f.timestampTolerance,
	}); err != nil {
		return err
	}
	if a.sender, err = remotewrite.NewManager(a.store, remotewrite.Options{
		Registerer: registry, Logger: logger.With("component", "remote"), UserAgent: userAgent(), FlushDeadline: time.Duration(f.flushDeadline),
		Metadata: func(yield func(remotewrite.Metadata) bool) {
			a.scraper.Metadata(func(m scrape.Metadata) bool { return yield(remotewrite.Metadata(m)) })
		},
	}); err != nil {
		return err
	}
	a.reload = newReloader(registry, logger, f.configFile, a.features, a.load, first, sum)
	a.server, err = web.New(web.Options{
		ListenAddresses: f.listenAddresses, WebConfigFile: f.webConfigFile, ReadTimeout: time.Duration(f.readTimeout),
		MaxConnections: f.maxConnections, ExternalURL: f.externalURL, RoutePrefix: f.routePrefix, UserAssets: f.userAssets,
		EnableLifecycle: f.enableLifecycle, CORS: f.cors, PageTitle: f.pageTitle,
		RemoteWriteReceiver: f.enableRWReceiver, OTLPReceiver: f.enableOTLP,
		Gatherer: prometheus.Gatherers{registry, connections}, Registerer: registry, Logger: logger.With("component", "web"),
		Reload: a.reload.now, Quit: a.reload.quit, Build: buildInfo(), Flags: f.values,
		Config: a.reload.yaml, Runtime: a.runtimeInfo, Pools: a.scraper.Pools, Remotes: a.sender.Status,
	})
	if err != nil {
		return fatal{"Unable to validate web configuration file", err}
	}
	return nil
}

func userAgent() string { return "Prometheus/" + fullVersion() }

// run starts the stages, applies the config, and stops them in the order of
// the data when ctx ends: first nothing new enters, then what entered is made
// durable, then what can be sent is sent. The server goes last.
func (a *agent) run(ctx context.Context) error {
	a.limitMemory(ctx)
	if err := a.server.Listen(); err != nil {
		return fatal{"Unable to start web listener", errors.Join(err, a.journal.Close())}
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	s := newStages(ctx)
	s.start("web", a.server.Run)
	s.start("wal", a.journal.Run)
	s.start("remote write", a.sender.Run)
	s.start("scrape", func(ctx context.Context) error { return a.scraper.Run(ctx, a.finder.Updates()) })
	s.start("discovery", a.finder.Run)
	if every := a.autoReload(); every > 0 {
		a.log.Info("Automatic configuration file reloading enabled", "interval", every)
	}
	err := a.reload.first()
	if err == nil {
		a.server.SetReady()
		a.log.Info("Server is ready to receive web requests.")
		s.start("reload", func(ctx context.Context) error { return a.reload.run(ctx, hup, a.autoReload()) })
		select {
		case <-ctx.Done():
			a.log.Warn("Received an OS signal, exiting gracefully...", "signal", signalOf(ctx))
		case <-a.reload.quitting:
			a.log.Warn("Received termination request via web service, exiting gracefully...")
		case err = <-s.failed:
		}
	}
	a.server.SetStopping()
	for _, name := range []string{"reload", "discovery", "scrape"} {
		s.stop(name)
	}
	if syncErr := a.journal.Sync(); syncErr != nil {
		a.log.Warn("The log's end could not be synced", "err", syncErr)
	}
	s.stop("remote write")
	s.stop("wal")
	s.stopAll()
	a.log.Info("See you next time!")
	return errors.Join(err, a.journal.Close())
}

// fatal is an error that ends the process, with the log line of Prometheus for it.
type fatal struct {
	line string
	error
}

func (f fatal) Unwrap() error { return f.error }

// signalOf names the signal that has ended ctx.
func signalOf(ctx context.Context) string {
	return strings.TrimSuffix(context.Cause(ctx).Error(), " signal received")
}

// autoReload is how often to look for a changed config; 0: never.
func (a *agent) autoReload() time.Duration {
	if a.flags.autoReload || a.features.AutoReload {
		return time.Duration(a.flags.autoReloadInterval)
	}
	return 0
}

// change is what a stage has made of a config. Neither can fail, nor do they
// make anything more.
type change interface {
	Commit()
	Drop()
}

// load has every stage make what it needs for the config; commit makes it
// the running one. Nothing changes when any stage refuses.
func (a *agent) load(cfg *config.Config) (commit func(), err error) {
	level := a.logLevel(cfg.Runtime)
	if err := promslog.NewLevel().Set(level); err != nil {
		return nil, err
	}
	changes, err := prepareAll(
		func() (change, error) { return a.sender.Prepare(cfg.RemoteWrite) },
		func() (change, error) { return a.scraper.Prepare(cfg.Scrape) },
		func() (change, error) { return a.finder.Prepare(cfg.Discovery) },
	)
	if err != nil {
		return nil, err
	}
	return func() {
		for _, c := range changes {
			c.Commit()
		}
		a.setGOGC(cfg.Runtime.GoGC)
		_ = a.flags.log.Level.Set(level) // which has taken the same above
	}, nil
}

// prepareAll makes a change of each, or none.
func prepareAll(prepare ...func() (change, error)) (changes []change, err error) {
	for _, p := range prepare {
		c, err := p()
		if err != nil {
			for _, made := range changes {
				made.Drop()
			}
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// limitMemory sets GOMEMLIMIT from the cgroup's or the machine's memory, and
// again at the interval of --auto-gomemlimit.refresh-interval until ctx ends.
func (a *agent) limitMemory(ctx context.Context) {
	if !a.flags.autoGOMEMLIMIT {
		return
	}
	if _, err := memlimit.Set(
		memlimit.WithRatio(a.flags.memLimitRatio),
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)),
		memlimit.WithRefreshInterval(ctx, time.Duration(a.flags.memLimitRefresh)),
		memlimit.WithLogger(a.log.With("component", "automemlimit")),
	); err != nil {
		a.log.Warn("Failed to set GOMEMLIMIT automatically", "component", "automemlimit", "err", err)
	}
}

func (a *agent) setGOGC(percent int) {
	if old := debug.SetGCPercent(percent); old != percent {
		a.log.Info("updated GOGC", "old", old, "new", percent)
	}
	_ = os.Setenv("GOGC", gogcText(percent)) // for runtimeinfo, as Prometheus does
}

// logLevel is the file's level of the log, without one that of the flag.
func (a *agent) logLevel(r config.Runtime) string {
	if r.LevelGiven && r.LogLevel != "" {
		return r.LogLevel
	}
	return a.flags.values["log.level"]
}

func gogcText(percent int) string {
	if percent < 0 {
		return "off"
	}
	return strconv.Itoa(percent)
}

func (a *agent) runtimeInfo() web.RuntimeInfo {
	ok, at := a.reload.last()
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "<error retrieving current working directory>"
	}
	host, err := os.Hostname()
	if err != nil {
		host = "<error retrieving hostname>"
	}
	return web.RuntimeInfo{
		StartTime: a.started.UTC(), CWD: cwd, Hostname: host, ServerTime: time.Now().UTC(),
		ReloadConfigSuccess: ok, LastConfigTime: at.UTC(), CorruptionCount: int64(a.journal.Stats().Corruptions),
		GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0), GOMEMLIMIT: debug.SetMemoryLimit(-1),
		GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"), StorageRetention: a.flags.retentionMaxSize,
	}
}
