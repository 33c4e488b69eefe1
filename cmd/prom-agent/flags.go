package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/grafana/regexp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"

	"promagent/config/settings"
)

// flags is the command line: Prometheus agent's, with a few of our own.
type flags struct {
	configFile         string
	autoReload         bool
	autoReloadInterval model.Duration

	listenAddresses  []string
	webConfigFile    string
	readTimeout      model.Duration
	maxConnections   int
	externalURLText  string
	externalURL      *url.URL
	routePrefix      string
	userAssets       string
	enableLifecycle  bool
	enableRWReceiver bool
	rwMessages       []string
	enableOTLP       bool
	pageTitle        string
	corsText         string
	cors             *regexp.Regexp

	autoGOMEMLIMIT     bool
	memLimitRatio      float64
	memLimitRefresh    model.Duration
	storagePath        string
	retentionMaxTime   model.Duration
	retentionMaxSize   string
	retentionBytes     int64   // of retentionMaxSize, or 0
	retentionPercent   float64 // of the volume, or 0
	syncInterval       model.Duration
	noLockfile         bool
	flushDeadline      model.Duration
	adjustTimestamps   bool
	timestampTolerance time.Duration
	discoveryReload    model.Duration
	features           []string
	log                promslog.Config
	writeDocumentation bool

	given  map[string]bool   // flags that the user typed
	values map[string]string // every flag's value, for /api/v1/status/flags
}

// serverOnly lists the flags that Prometheus refuses in agent mode, with
// their defaults as its API shows them: they are parsed so that they can be refused by name, and
// shown by /api/v1/status/flags. A leading "!" marks a boolean.
var serverOnly = []struct{ name, value string }{
	{"storage.tsdb.path", "data/"},
	{"storage.tsdb.min-block-duration", "2h"},
	{"storage.tsdb.max-block-duration", "0s"},
	{"storage.tsdb.max-block-chunk-segment-size", "0B"},
	{"storage.tsdb.wal-segment-size", "0B"},
	{"storage.tsdb.retention.time", "15d"},
	{"storage.tsdb.retention.size", "0B"},
	{"!storage.tsdb.no-lockfile", "false"},
	{"!storage.tsdb.allow-overlapping-compaction", "true"},
	{"!storage.tsdb.wal-compression", "true"},
	{"storage.tsdb.wal-compression-type", "snappy"},
	{"storage.tsdb.head-chunks-write-queue-size", "0"},
	{"storage.tsdb.samples-per-chunk", "120"},
	{"storage.tsdb.delayed-compaction.max-percent", "10"},
	{"storage.tsdb.delay-compact-file.path", ""},
	{"storage.tsdb.block-reload-interval", "1m"},
	{"storage.remote.read-sample-limit", "50000000"},
	{"storage.remote.read-concurrent-limit", "10"},
	{"storage.remote.read-max-bytes-in-frame", "1048576"},
	{"web.search.max-limit", "10000"},
	{"rules.alert.for-outage-tolerance", "1h"},
	{"rules.alert.for-grace-period", "10m"},
	{"rules.alert.resend-delay", "1m"},
	{"rules.max-concurrent-evals", "4"},
	{"alertmanager.notification-queue-capacity", "10000"},
	{"alertmanager.notification-batch-size", "256"},
	{"!alertmanager.drain-notification-queue-on-shutdown", "true"},
	{"query.lookback-delta", "5m"},
	{"query.timeout", "2m"},
	{"query.max-concurrency", "20"},
	{"query.max-samples", "50000000"},
}

// idle are the flags and features that the user typed and that do nothing.
func (f *flags) idle() (given []settings.Given) {
	for _, name := range slices.Sorted(maps.Keys(f.given)) {
		if g, ok := settings.OfFlag(name, f.values[name]); ok {
			given = append(given, g)
		}
	}
	return append(given, settings.OfFeatures(f.features)...)
}

const (
	messageV1 = "prometheus.WriteRequest"
	messageV2 = "io.prometheus.write.v2.Request"
)

// messages is the value of the flag that lists accepted remote-write messages.
type messages struct{ list *[]string }

func (m messages) String() string {
	if m.list == nil {
		return ""
	}
	return strings.Join(*m.list, ",")
}
func (m messages) IsCumulative() bool { return true }
func (m messages) Set(v string) error {
	if v != messageV1 && v != messageV2 {
		return fmt.Errorf("unknown remote write message %q, known are %s and %s", v, messageV1, messageV2)
	}
	for _, have := range *m.list {
		if have == v {
			return fmt.Errorf("remote write message %q is given twice", v)
		}
	}
	*m.list = append(*m.list, v)
	return nil
}

// exitError ends the process with a code; an empty message says nothing.
type exitError struct {
	code    int
	message string
}

func (e exitError) Error() string { return e.message }

// addRunFlags declares the flags of the agent itself on cmd.
func (f *flags) addRunFlags(cmd *kingpin.CmdClause) (checks []func() error) {
	cmd.Flag("config.file", "The prometheus.yml to run.").Default("prometheus.yml").StringVar(&f.configFile)
	cmd.Flag("config.auto-reload", "Reload by itself when the config file, or a scrape config file it names, has changed.").Default("false").BoolVar(&f.autoReload)
	cmd.Flag("config.auto-reload-interval", "How often to look for such a change; at least 1s.").Default("30s").SetValue(&f.autoReloadInterval)

	cmd.Flag("web.listen-address", "Address for UI, API and /metrics. May be repeated.").Default("0.0.0.0:9090").StringsVar(&f.listenAddresses)
	cmd.Flag("auto-gomaxprocs", "Accepted; GOMAXPROCS always follows the container's CPU quota, unless the environment sets it.").Default("true").Bool()
	cmd.Flag("auto-gomemlimit", "Set GOMEMLIMIT from the container's or the machine's memory.").Default("true").BoolVar(&f.autoGOMEMLIMIT)
	cmd.Flag("auto-gomemlimit.ratio", "The share of that memory which GOMEMLIMIT gets.").Default("0.9").FloatVar(&f.memLimitRatio)
	cmd.Flag("auto-gomemlimit.refresh-interval", "How often to look at the memory limit again; 0: once.").Default("0s").SetValue(&f.memLimitRefresh)
	cmd.Flag("web.config.file", "File with the server's TLS and authentication settings.").Default("").StringVar(&f.webConfigFile)
	cmd.Flag("web.read-timeout", "Longest time to read a request, and to keep an idle connection.").Default("5m").SetValue(&f.readTimeout)
	cmd.Flag("web.max-connections", "Most connections at once, over all listeners.").Default("512").IntVar(&f.maxConnections)
	cmd.Flag("web.max-notifications-subscribers", "Accepted; there are no live notifications.").Default("16").Int()
	cmd.Flag("web.external-url", "URL under which the agent is reached from outside, for example through a proxy. Its path becomes the route prefix.").PlaceHolder("<URL>").StringVar(&f.externalURLText)
	cmd.Flag("web.route-prefix", "Prefix of all HTTP routes. Default: the path of --web.external-url.").PlaceHolder("<path>").StringVar(&f.routePrefix)
	cmd.Flag("web.user-assets", "Directory served under /user.").PlaceHolder("<path>").StringVar(&f.userAssets)
	cmd.Flag("web.enable-lifecycle", "Allow reload and shutdown by HTTP request.").Default("false").BoolVar(&f.enableLifecycle)
	cmd.Flag("web.enable-admin-api", "Accepted; an agent has no admin API.").Default("false").Bool()
	cmd.Flag("web.enable-remote-write-receiver", "Accepted; there is no remote write receiver.").Default("false").BoolVar(&f.enableRWReceiver)
	cmd.Flag("web.remote-write-receiver.accepted-protobuf-messages", "Accepted; there is no remote write receiver. One of "+messageV1+", "+messageV2+".").Default(messageV1, messageV2).SetValue(messages{&f.rwMessages})
	cmd.Flag("web.enable-otlp-receiver", "Accepted; there is no OTLP receiver.").Default("false").BoolVar(&f.enableOTLP)
	cmd.Flag("web.console.templates", "Accepted; an agent has no consoles.").Default("consoles").String()
	cmd.Flag("web.console.libraries", "Accepted; an agent has no consoles.").Default("console_libraries").String()
	cmd.Flag("web.page-title", "Title of the web page.").Default("Prometheus Time Series Collection and Processing Server").StringVar(&f.pageTitle)
	cmd.Flag("web.cors.origin", `Regular expression, fully anchored, of the origins that may read the API. Example: 'https?://(domain1|domain2)\.com'`).Default(".*").StringVar(&f.corsText)

	cmd.Flag("storage.agent.path", "Directory of the log.").Default("data-agent/").StringVar(&f.storagePath)
	cmd.Flag("storage.agent.retention.max-time", "Oldest data to keep for a remote that does not take it. Default: no limit.").PlaceHolder("<duration>").SetValue(&f.retentionMaxTime)
	cmd.Flag("storage.agent.retention.max-size", "Most bytes that the log may take, as a size (10GB) or a share of the volume (80%). At the limit the oldest data goes first.").Default("80%").StringVar(&f.retentionMaxSize)
	cmd.Flag("storage.agent.wal-sync-interval", "Longest time for which a power cut can take written data; 0s syncs every scrape.").Default("1s").SetValue(&f.syncInterval)
	cmd.Flag("storage.agent.no-lockfile", "Do not lock the data directory.").Default("false").BoolVar(&f.noLockfile)

	segmentSize := cmd.Flag("storage.agent.wal-segment-size", "Accepted; segments end by themselves.").Hidden().PlaceHolder("<bytes>").Bytes()
	cmd.Flag("storage.agent.wal-compression", "Accepted; the log is always compact.").Default("true").Bool()
	cmd.Flag("storage.agent.wal-compression-type", "Accepted; the log is always compact.").Hidden().Default("snappy").Enum("snappy", "zstd")
	var duration, minTime model.Duration
	cmd.Flag("storage.agent.wal-truncate-frequency", "Accepted; data is deleted when every remote has it.").Hidden().PlaceHolder("<duration>").SetValue(&duration)
	cmd.Flag("storage.agent.retention.min-time", "Accepted; data is kept until every remote has it.").Default("5m").SetValue(&minTime)
	cmd.Flag("storage.agent.checkpoint-from-in-memory-series", "Accepted; there are no checkpoints.").Default("false").Bool()
	checkpointBatch := cmd.Flag("storage.agent.checkpoint-batch-size", "Accepted; there are no checkpoints.").Default("1000").Int()

	cmd.Flag("storage.remote.flush-deadline", "Longest wait at shutdown for remotes to take what is left; it ends at once for a remote that does not answer.").Default("1m").PlaceHolder("<duration>").SetValue(&f.flushDeadline)
	cmd.Flag("scrape.adjust-timestamps", "Align scrape timestamps with the schedule.").Hidden().Default("true").BoolVar(&f.adjustTimestamps)
	cmd.Flag("scrape.timestamp-tolerance", "By how much at most.").Hidden().Default("2ms").DurationVar(&f.timestampTolerance)
	cmd.Flag("scrape.discovery-reload-interval", "How often changed targets are taken over.").Hidden().Default("500ms").SetValue(&f.discoveryReload)
	cmd.Flag("enable-feature", "Comma separated names of features. It switches on: "+strings.Join(settings.Features(), ", ")+"; other features of Prometheus are accepted, and the log says what becomes of them.").StringsVar(&f.features)
	cmd.Flag("write-documentation", "Print the command line's documentation as Markdown.").Hidden().BoolVar(&f.writeDocumentation)
	cmd.Flag("agent", "Accepted; prom-agent is always an agent.").Default("true").Bool()

	for _, s := range serverOnly {
		if name, isBool := strings.CutPrefix(s.name, "!"); isBool {
			cmd.Flag(name, "Server only; refused.").Hidden().Default(s.value).Bool()
		} else {
			cmd.Flag(s.name, "Server only; refused.").Hidden().Default(s.value).String()
		}
	}

	return []func() error{
		func() error {
			const lowest, highest = 10 * units.MiB, 256 * units.MiB
			if n := *segmentSize; f.given["storage.agent.wal-segment-size"] && (n < lowest || n > highest) {
				return exitError{1, "flag 'storage.agent.wal-segment-size' must be set between 10MB and 256MB"}
			}
			if n := *segmentSize; n%(32*units.KiB) != 0 {
				return exitError{1, fmt.Sprintf("flag 'storage.agent.wal-segment-size' must be a multiple of 32KB, is %d", n)}
			}
			return nil
		},
		func() error {
			if *checkpointBatch <= 0 {
				return exitError{1, "--storage.agent.checkpoint-batch-size must be greater than 0."}
			}
			if f.memLimitRatio <= 0 || f.memLimitRatio > 1 {
				return exitError{1, "--auto-gomemlimit.ratio must be greater than 0 and less than or equal to 1."}
			}
			return nil
		},
		f.resolve,
	}
}

// note records what the user typed.
func (f *flags) note(ctx *kingpin.ParseContext) (refused []string) {
	f.given = map[string]bool{}
	server := map[string]bool{}
	for _, s := range serverOnly {
		server[strings.TrimPrefix(s.name, "!")] = true
	}
	for _, e := range ctx.Elements {
		flag, ok := e.Clause.(*kingpin.FlagClause)
		if !ok {
			continue
		}
		name := flag.Model().Name
		if server[name] && !f.given[name] {
			refused = append(refused, "--"+name)
		}
		f.given[name] = true
	}
	return refused
}

// show records every flag's value, as it has been resolved.
func (f *flags) show(app *kingpin.ApplicationModel, cmd *kingpin.CmdModel) {
	f.values = map[string]string{}
	for _, group := range [][]*kingpin.FlagModel{app.Flags, cmd.Flags} {
		for _, flag := range group {
			switch flag.Name {
			case "help", "help-long", "help-man", "version", "completion-bash", "completion-script-bash", "completion-script-zsh":
			default:
				f.values[flag.Name] = flag.Value.String()
			}
		}
	}
}

// resolve checks what the flags say together.
func (f *flags) resolve() error {
	var err error
	if f.retentionBytes, f.retentionPercent, err = f.maxSize(); err != nil {
		return exitError{2, err.Error()}
	}
	if f.externalURL, err = externalURL(f.externalURLText, f.listenAddresses[0], f.webConfigFile); err != nil {
		return exitError{2, fmt.Sprintf("parse external URL %q: %v", f.externalURLText, err)}
	}
	if f.cors, err = regexp.Compile("^(?s:" + f.corsText + ")$"); err != nil {
		return exitError{2, fmt.Sprintf("could not compile CORS regex string %q: %v", f.corsText, err)}
	}
	if f.routePrefix == "" {
		f.routePrefix = f.externalURL.Path
	}
	f.routePrefix = "/" + strings.Trim(f.routePrefix, "/")
	f.autoReloadInterval = max(f.autoReloadInterval, model.Duration(time.Second))
	if f.maxConnections <= 0 {
		return exitError{2, fmt.Sprintf("--web.max-connections must be positive, is %d", f.maxConnections)}
	}
	return nil
}

// maxSize reads --storage.agent.retention.max-size: a number of bytes, or a
// percentage of the volume.
func (f *flags) maxSize() (bytes int64, percent float64, err error) {
	text := f.retentionMaxSize
	if share, ok := strings.CutSuffix(text, "%"); ok {
		if _, err := fmt.Sscanf(share+" ", "%g ", &percent); err != nil || !(percent > 0 && percent <= 100) { // not so for NaN
			return 0, 0, fmt.Errorf("--storage.agent.retention.max-size: %q is not a percentage above 0 and up to 100", text)
		}
		return 0, percent, nil
	}
	n, err := units.ParseBase2Bytes(text)
	if err == nil && n < 1<<20 {
		err = errors.New("less than 1MB")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("--storage.agent.retention.max-size: %q: %w", text, err)
	}
	return int64(n), 0, nil
}

// externalURL is the given URL, or http://<host name>:<port of listen>/, with
// https where the web config file sets up TLS.
func externalURL(text, listen, webConfigFile string) (*url.URL, error) {
	if text == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return nil, fmt.Errorf("--web.listen-address=%s: %w", listen, err)
		}
		scheme := "http"
		if servesTLS(webConfigFile) {
			scheme = "https"
		}
		text = fmt.Sprintf("%s://%s/", scheme, net.JoinHostPort(host, port))
	}
	for _, quote := range []string{`"`, `'`} {
		if strings.HasPrefix(text, quote) || strings.HasSuffix(text, quote) {
			return nil, errors.New("URL must not begin or end with quotes")
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	path := strings.TrimRight(u.Path, "/")
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u.Path = path
	return u, nil
}

// servesTLS says whether the web config file sets up TLS. One that cannot be read does
// not; the server refuses it, and says why.
func servesTLS(webConfigFile string) bool {
	if webConfigFile == "" {
		return false
	}
	content, err := os.ReadFile(webConfigFile)
	if err != nil {
		return false
	}
	var web toolkit.Config
	return yaml.Unmarshal(content, &web) == nil && web.TLSConfig.IsEnabled()
}

// newApp declares the command line: `run` is what happens without a command.
func newApp(f *flags) (app *kingpin.Application, run *kingpin.CmdClause, checks []func() error) {
	app = kingpin.New(filepath.Base(os.Args[0]), "A metrics agent for edge clusters: scrape, log, forward. A drop-in replacement for Prometheus agent mode.")
	app.UsageWriter(os.Stdout)
	app.HelpFlag.Short('h')
	run = app.Command("run", "Run the agent (the default).").Default()
	checks = f.addRunFlags(run)
	promslogflag.AddFlags(app, &f.log)
	return app, run, checks
}
