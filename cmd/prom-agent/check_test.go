package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckConfigSaysWhatTheAgentWould(t *testing.T) {
	const good = `global: {external_labels: {cluster: edge}}
scrape_configs:
- job_name: node
  scrape_interval: 15s
  static_configs: [{targets: ['a:1', 'b:1']}]
- job_name: kinds
  file_sd_configs: [{files: ['x.yml']}]
  dns_sd_configs: [{names: ['x']}]
remote_write:
- {url: 'http://user:secret@central/api/v1/write', name: central, protobuf_message: io.prometheus.write.v2.Request}
`
	for _, c := range []struct {
		name, text string
		args       []string
		code       int
		want       []string
	}{
		{"good", good, nil, 0, []string{": OK\n", "scrape jobs: 2\n", "node: every 15s, timeout 10s; targets from static (2 targets)", "kinds: every 1m", "remote writes: 1", "central: io.prometheus.write.v2.Request to http://"}},
		{"empty", "", nil, 0, []string{": OK\n", "scrape jobs: 0"}},
		{"unknown field", "global: {scrape_intervall: 1s}", nil, 1, []string{": FAILED\n", "line 1", "scrape_intervall"}},
		{"bad value", "global: {scrape_interval: 1x}", nil, 1, []string{": FAILED\n", "1x"}},
		{"remote's CA missing", "remote_write: [{url: 'https://a/', tls_config: {ca_file: missing-ca.pem}}]", nil, 1, []string{": FAILED\n", "missing-ca.pem"}},
		{"job's CA missing", "scrape_configs: [{job_name: tls, tls_config: {ca_file: missing-ca.pem}}]", nil, 1, []string{": FAILED\n", "missing-ca.pem", "tls", "runs on without these jobs"}},
		{"CA missing, syntax only", "scrape_configs: [{job_name: tls, tls_config: {ca_file: missing-ca.pem}}]", []string{"--syntax-only"}, 0, []string{": OK\n"}},
		{"the same remote twice", "remote_write: [{url: 'http://a/'}, {url: 'http://a/'}]", nil, 1, []string{": FAILED\n", "duplicate remote write configs", "http://a/"}},
		{"unknown feature", "", []string{"--enable-feature=bogus"}, 0, []string{": OK\n", "Unknown option", "option: bogus"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yml")
			writeFile(t, file, c.text)
			got := executed(t, append([]string{"check", "config", file}, c.args...)...)
			if got.code != c.code || (got.stderr == "1 of 1 files failed\n") != (c.code == 1) {
				t.Errorf("%+v, want code %d", got, c.code)
			}
			for _, want := range append(c.want, file) {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("no %q in %s", want, got.stdout)
				}
			}
			if strings.Contains(got.stdout, "secret") {
				t.Errorf("a password is printed: %s", got.stdout)
			}
		})
	}
}

func TestCheckConfigNamesWhatIsNotPortableToPrometheus(t *testing.T) {
	const remote = "remote_write: [{name: central, url: 'http://a/'}]\n"
	const own = remote + "prom_agent:\n  remotes:\n  - name: central\n    start: oldest\n"
	const note = "  keys that Prometheus does not know, from line 2 on: prom_agent; check config --prometheus names them all\n"
	for _, c := range []struct {
		name, text string
		args       []string
		code       int
		want       []string
		not        []string
	}{
		{"portable", remote, nil, 0, []string{": OK\n"}, []string{"Prometheus does not", "Prometheus's"}},
		{"portable, as asked for", remote, []string{"--prometheus"}, 0, []string{": OK\n", "  no keys but Prometheus's\n"}, nil},
		{"ours", own, nil, 0, []string{": OK\n", "from the oldest record on", note}, []string{"FAILED", "start:"}},
		{"ours, for Prometheus", own, []string{"--prometheus"}, 1, []string{": FAILED\n", ":2: prom_agent\n", ":3: prom_agent.remotes\n",
			":4: prom_agent.remotes[0].name\n", ":5: prom_agent.remotes[0].start\n", "Prometheus does not know these keys"}, []string{": OK\n", "runs on without"}},
		{"wrong, and for Prometheus", own + "global: {scrape_intervall: 1s}", []string{"--prometheus"}, 1, []string{": FAILED\n", "line 6", "scrape_intervall"}, nil},
		{"a job left out, and for Prometheus", own + "scrape_configs: [{job_name: tls, tls_config: {ca_file: missing-ca.pem}}]", []string{"--prometheus"}, 1,
			[]string{":2: prom_agent\n", "missing-ca.pem", "runs on without these jobs"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yml")
			writeFile(t, file, c.text)
			got := executed(t, append([]string{"check", "config", file}, c.args...)...)
			if got.code != c.code || (got.stderr == "1 of 1 files failed\n") != (c.code == 1) {
				t.Errorf("%+v, want code %d", got, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("no %q in %s", want, got.stdout)
				}
			}
			for _, not := range c.not {
				if strings.Contains(got.stdout, not) {
					t.Errorf("%q in %s", not, got.stdout)
				}
			}
			if c.code == 1 && len(c.want) > 4 && !strings.Contains(got.stdout, "  "+file+":2: prom_agent\n") {
				t.Errorf("the file is not named beside the key: %s", got.stdout)
			}
		})
	}
}

func TestCheckConfigWarnsOfWhatMayComeLater(t *testing.T) {
	const warning = "  WARNING: "
	for _, c := range []struct {
		name, text string
		want       []string // warnings, in order
		syntax     bool     // also with --syntax-only
	}{
		{"nothing", "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['there-*.yml']}]}]", nil, false},
		{"targets", "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['there-*.yml', 'gone-*.yml']}]}]", []string{`gone-*.yml" for file_sd in scrape job "a" does not exist`}, false},
		{"password of a job", "scrape_configs: [{job_name: a, basic_auth: {username: u, password_file: gone}}]", []string{`gone" of scrape job "a" cannot be read: no such file or directory`}, false},
		{"credentials of a job", "scrape_configs: [{job_name: a, authorization: {credentials_file: gone}}]", []string{`gone" of scrape job "a"`}, false},
		{"OAuth secret of a job", "scrape_configs: [{job_name: a, oauth2: {client_id: x, token_url: 'http://t/', client_secret_file: gone}}]", []string{`gone" of scrape job "a"`}, false},
		{"password of a remote", "remote_write: [{name: c, url: 'http://a/', basic_auth: {username: u, password_file: gone}}]", []string{`gone" of remote_write "c"`}, false},
		{"password that is there", "remote_write: [{name: c, url: 'http://a/', basic_auth: {username: u, password_file: there-1.yml}}]", nil, false},
		{"empty variable", "global: {external_labels: {site: '${PROM_AGENT_TEST_UNSET}'}}", []string{"PROM_AGENT_TEST_UNSET"}, true},
		{"native histograms", "scrape_configs: [{job_name: a, scrape_native_histograms: true}]", []string{"histograms only, setting: scrape_native_histograms, in: job a"}, true},
		{"protobuf alone", "scrape_configs: [{job_name: a, scrape_protocols: [PrometheusProto]}]", []string{"setting: scrape_protocols: PrometheusProto, in: job a"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "c.yml")
			writeFile(t, file, c.text)
			writeFile(t, filepath.Join(dir, "there-1.yml"), "[]")
			for _, syntax := range []bool{false, true} {
				args := []string{"check", "config", file}
				want := c.want
				if syntax {
					args = append(args, "--syntax-only")
					if !c.syntax {
						want = nil
					}
				}
				got := executed(t, args...)
				if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, ": OK\n") {
					t.Errorf("%v: %+v", args[2:], got)
				}
				if n := strings.Count(got.stdout, warning); n != len(want) {
					t.Errorf("%v: %d warnings, want %d: %s", args[2:], n, len(want), got.stdout)
				}
				for _, w := range want {
					if !strings.Contains(got.stdout, w) {
						t.Errorf("%v: no %q in %s", args[2:], w, got.stdout)
					}
				}
			}
		})
	}
}

func TestCheckConfigSaysWhatDoesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	writeFile(t, file, "global: {evaluation_interval: 15s, convert_classic_histograms_to_nhcb: true}\nscrape_configs: [{job_name: a}]\n"+
		"remote_write: [{url: 'http://a/', queue_config: {capacity: 1}}]\n")
	got := executed(t, "check", "config", "--enable-feature=st-storage,search-api", file)
	for _, want := range []string{
		"WARNING: This setting is not implemented yet and has no effect: start timestamps are not read", ", setting: --enable-feature=st-storage\n",
		", settings: --enable-feature=search-api\n",
		"  WARNING: This setting is not implemented yet and has no effect: classic histograms are sent as _bucket", ", setting: convert_classic_histograms_to_nhcb, in: global\n",
		"  NOTE: These settings of Prometheus do not apply to prom-agent and have no effect", ", settings: remote_write.queue_config.capacity, global.evaluation_interval\n",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in %s", want, got.stdout)
		}
	}
	if got.code != 0 || strings.Contains(got.stdout, "enabled") {
		t.Errorf("%+v", got)
	}
}

func TestAgentRunsOnWithoutANewJobThatCannotBeMade(t *testing.T) {
	target, scrapes := exporter(t)
	const broken = "- job_name: tls\n  tls_config: {ca_file: missing-ca.pem}\n"
	a := startAgent(t, "scrape_configs:\n"+job("a", target)+broken)
	a.waitFor(`level=ERROR .*msg="error creating new scrape pool" .*missing-ca.pem.*scrape_pool=tls`)
	until(t, "the other job is scraped", func() bool { return scrapes.Load() > 1 })
	got := executed(t, "check", "config", a.file)
	if got.code != 1 || !strings.Contains(got.stdout, `job "tls": error creating HTTP client`) || !strings.Contains(got.stdout, "The agent takes such a file and runs on without these jobs") {
		t.Errorf("%+v", got)
	}
	writeFile(t, a.file, "scrape_configs:\n"+strings.Replace(job("a", target), "\n", "\n  tls_config: {ca_file: missing-ca.pem}\n", 1))
	if code, body := a.request("POST", "/-/reload"); code != 500 || !strings.Contains(body, "missing-ca.pem") {
		t.Errorf("a running job that gets a missing CA: %d %s", code, body)
	}
}

func TestCheckConfigGoesOnAfterABadFile(t *testing.T) {
	dir := t.TempDir()
	good, bad, missing := filepath.Join(dir, "good.yml"), filepath.Join(dir, "bad.yml"), filepath.Join(dir, "missing.yml")
	writeFile(t, good, "")
	writeFile(t, bad, "global: [")
	got := executed(t, "check", "config", bad, missing, good)
	if got.code != 1 || got.stderr != "2 of 3 files failed\n" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{bad + ": FAILED\n", missing + ": FAILED\n", good + ": OK\n"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in %s", want, got.stdout)
		}
	}
	if got := executed(t, "check", "config", "--enable-feature=otlp-deltatocumulative,otlp-native-delta-ingestion", good); got.code != 1 || !strings.Contains(got.stderr, "at the same time") {
		t.Errorf("features that exclude each other: %+v", got)
	}
}
