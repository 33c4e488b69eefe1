package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"promagent/config/settings"
)

// agentAndPrometheus run on one config beside each other.
func agentAndPrometheus(t *testing.T, config string) (agent, oracle *process) {
	t.Helper()
	if currentBinary == "" {
		t.Fatal("PROMETHEUS names no binary; run `make e2e`")
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "prometheus.yml"), config)
	addr := freeAddr(t)
	oracle = start(t, "prometheus", addr, "/-/ready", currentBinary, "--agent", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.agent.path="+filepath.Join(dir, "oracle"), "--web.listen-address="+addr, "--scrape.discovery-reload-interval=100ms")
	return startAgent(t, dir, freeAddr(t)), oracle
}

// The built Prometheus shows all of its flags, with those that its help hides.
// Each has a row in the table of settings, and is shown by the agent, too, unless it is refused as unknown.
func TestFlagsOfTheBuiltPrometheusHaveRows(t *testing.T) {
	agent, oracle := agentAndPrometheus(t, "")
	shown := func(p *process) map[string]string {
		body, err := p.get("/api/v1/status/flags")
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Data map[string]string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Data
	}
	theirs, ours := shown(oracle), shown(agent)
	if len(theirs) < 60 {
		t.Fatalf("Prometheus shows %d flags: %q", len(theirs), slices.Sorted(maps.Keys(theirs)))
	}
	for name := range theirs {
		_, taken := ours[name]
		if s, ok := settings.Of(settings.Flag, name); !ok || s.Own {
			t.Errorf("--%s has no row: what becomes of it?", name)
		} else if !taken && s.Status != settings.Refused {
			t.Errorf("--%s is not taken by the agent", name)
		}
	}
	for _, s := range settings.All() {
		if _, ok := theirs[s.Name]; s.Kind == settings.Flag && !s.Own && !ok && s.Name != "help" && s.Name != "version" {
			t.Errorf("%s has a row, and Prometheus no such flag", s)
		}
	}
}

// Prometheus takes every feature that has a row, and says which it does not know.
func TestFeaturesWithRowsAreKnownToTheBuiltPrometheus(t *testing.T) {
	if currentBinary == "" {
		t.Fatal("PROMETHEUS names no binary; run `make e2e`")
	}
	var names []string
	for _, s := range settings.All() {
		if s.Kind == settings.Feature && s.Name != "otlp-native-delta-ingestion" && s.Name != "use-uncached-io" { // excludes another one; needs a kernel
			names = append(names, s.Name)
		}
	}
	dir, addr := t.TempDir(), freeAddr(t)
	writeFile(t, filepath.Join(dir, "prometheus.yml"), "")
	p := start(t, "prometheus", addr, "/-/ready", currentBinary, "--agent", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.agent.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--enable-feature="+strings.Join(names, ","))
	log, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(log), "\n") {
		if strings.Contains(line, "Unknown option for --enable-feature") && !strings.HasSuffix(line, "option=agent") { // of older versions
			t.Error(line)
		}
	}
}

// zone is what a DNS server knows.
type zone struct {
	mu      sync.Mutex
	records []dnsmessage.Resource
}

func (z *zone) add(name string, typ dnsmessage.Type, body dnsmessage.ResourceBody) {
	z.mu.Lock()
	defer z.mu.Unlock()
	header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET, TTL: 1}
	z.records = append(z.records, dnsmessage.Resource{Header: header, Body: body})
}

// answer is what the server says to a question.
func (z *zone) answer(m *dnsmessage.Message) dnsmessage.Message {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RCode: dnsmessage.RCodeNameError}, Questions: m.Questions}
	for _, r := range z.records {
		if q := m.Questions[0]; r.Header.Name == q.Name {
			a.RCode = dnsmessage.RCodeSuccess
			if r.Header.Type == q.Type {
				a.Answers = append(a.Answers, r)
			}
		}
	}
	return a
}

// serve answers on the address that /etc/resolv.conf then has, which must be the test's own.
func (z *zone) serve(t *testing.T) {
	t.Helper()
	const file = "/etc/resolv.conf"
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(mounts), " - tmpfs run ") {
		t.Fatalf("%s is that of the machine: run `make e2e`, whose test/netns gives the test its own; %v", file, err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(file, nil, 0o644) })
	go func() {
		buf := make([]byte, 1<<12)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			answer := z.answer(&m)
			if b, err := answer.Pack(); err == nil {
				conn.WriteTo(b, from)
			}
		}
	}()
}

func TestTargetsOfDNSAreThoseOfPrometheus(t *testing.T) {
	zone := new(zone)
	zone.add("_m._tcp.example.", dnsmessage.TypeSRV, &dnsmessage.SRVResource{Port: 9100, Target: dnsmessage.MustNewName("one.example.")})
	zone.add("_m._tcp.example.", dnsmessage.TypeSRV, &dnsmessage.SRVResource{Port: 9200, Target: dnsmessage.MustNewName("two.example.")})
	zone.add("one.example.", dnsmessage.TypeA, &dnsmessage.AResource{A: [4]byte{10, 42, 0, 1}})
	zone.add("one.example.", dnsmessage.TypeA, &dnsmessage.AResource{A: [4]byte{10, 42, 0, 2}})
	zone.add("one.example.", dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: [16]byte{0xfd, 15: 1}})
	zone.add("example.", dnsmessage.TypeMX, &dnsmessage.MXResource{MX: dnsmessage.MustNewName("mail.example.")})
	zone.add("example.", dnsmessage.TypeNS, &dnsmessage.NSResource{NS: dnsmessage.MustNewName("names.example.")})
	zone.serve(t)
	agent, oracle := agentAndPrometheus(t, `
scrape_configs:
- {job_name: srv, dns_sd_configs: [{names: [_m._tcp.example, _none._tcp.example]}]}
- {job_name: a, dns_sd_configs: [{names: [one.example, none.example], type: A, port: 81, refresh_interval: 1s}]}
- {job_name: aaaa, dns_sd_configs: [{names: [one.example], type: AAAA, port: 82}]}
- {job_name: mx, dns_sd_configs: [{names: [example], type: MX, port: 83}]}
- {job_name: ns, dns_sd_configs: [{names: [example], type: NS, port: 84}]}
`)
	asPrometheus := func(want int) {
		t.Helper()
		eventually(t, 30*time.Second, "the targets are those of Prometheus", func() error {
			got, err := agent.shownTargets()
			if err != nil {
				return err
			}
			their, err := oracle.shownTargets()
			if err != nil {
				return err
			}
			if len(their.active) != want {
				return fmt.Errorf("Prometheus has %d targets, want %d", len(their.active), want)
			}
			return got.against(their)
		})
	}
	asPrometheus(7)
	zone.add("one.example.", dnsmessage.TypeA, &dnsmessage.AResource{A: [4]byte{10, 42, 0, 3}}) // seen by the job that looks often
	asPrometheus(8)
}
