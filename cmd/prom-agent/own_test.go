package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// The whole way of a setting of our own: from the file into force, shown,
// changed by a reload, and refused where it is wrong.
func TestLimitOfARemoteIsTakenShownAndLiftedByAReload(t *testing.T) {
	target, _ := exporter(t)
	var requests atomic.Int32
	central := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(central.Close)
	stages := "scrape_configs:\n" + job("a", target) + "remote_write: [{name: central, url: '" + central.URL + "', queue_config: {batch_send_deadline: 100ms}}]\n"
	block := func(name string) string {
		return fmt.Sprintf("prom_agent:\n  remotes:\n  - name: %s\n    max_bytes_per_second: 1B\n    start: oldest\n", name)
	}
	a := startAgent(t, block("central")+stages)
	limited := func() float64 {
		_, body := a.request("GET", "/metrics")
		m := regexp.MustCompile(`(?m)^prom_agent_remote_rate_limited_seconds_total\{.*remote_name="central".*\} (\S+)$`).FindStringSubmatch(body)
		if m == nil {
			return 0
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	until(t, "requests wait", func() bool { return limited() > 0 })
	if n := requests.Load(); n > 1 { // the first one leaves a debt of minutes
		t.Errorf("%d requests", n)
	}
	shown := func() string {
		code, body := a.request("GET", "/api/v1/status/config")
		var answer struct{ Data struct{ YAML string } }
		if err := json.Unmarshal([]byte(body), &answer); code != 200 || err != nil {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		return answer.Data.YAML
	}
	const want = "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: 1B\n    start: oldest\n    newest_first: false\n"
	if got := shown(); !strings.HasSuffix(got, want) {
		t.Errorf("got %s", got)
	}

	writeFile(t, a.file, stages+block("centrl"))
	if code, body := a.request("POST", "/-/reload"); code != 500 || !strings.Contains(body, a.file) || !strings.Contains(body, `no remote_write block is named "centrl"; the names are "central"`) {
		t.Errorf("an unknown remote: %d %s", code, body)
	}
	if got := shown(); !strings.HasSuffix(got, want) {
		t.Errorf("after a refused file: got %s", got)
	}
	writeFile(t, a.file, stages)
	if code, body := a.request("POST", "/-/reload"); code != 200 {
		t.Fatalf("reload: %d %s", code, body)
	}
	before := requests.Load()
	until(t, "requests go out", func() bool { return requests.Load() > before+3 })
	if got := shown(); strings.Contains(got, "prom_agent") {
		t.Errorf("after the reload: got %s", got)
	}
}
