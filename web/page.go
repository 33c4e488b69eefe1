package web

import (
	"html/template"
	"net/http"
	"time"

	"promagent/remotewrite"
	"promagent/scrape"
)

// page shows what runs: targets and remotes, on one page without scripts.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	now := s.o.Now()
	_ = pageTemplate.Execute(w, struct {
		Title, Version string
		Pools          []scrape.PoolStatus
		Remotes        []remotewrite.RemoteStatus
		Now            time.Time
		Config         string
		Prefix         string
	}{s.o.PageTitle, s.o.Build.Version, s.sortedPools(), s.o.Remotes(), now, s.o.Config(), s.o.ExternalURL.Path}) // the client may be gone
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago": func(now, t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return now.Sub(t).Round(100*time.Millisecond).String() + " ago"
	},
	"took": func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) },
	"up": func(p scrape.PoolStatus) (n int) {
		for _, t := range p.Targets {
			if t.Health == scrape.HealthUp {
				n++
			}
		}
		return n
	},
}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>{{.Title}}</title>
<style>
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2733}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #dde3ea;vertical-align:top}
th{font-weight:600;color:#5a6b7d}code{font-size:12px;word-break:break-all}
.up{color:#0a7d38}.down{color:#b3261e}.unknown{color:#8a6d00}pre{background:#f4f6f8;padding:1rem;overflow:auto}
</style></head><body>
<h1>prom-agent <small>{{.Version}}</small></h1>
<h2>Remotes</h2>
{{if .Remotes}}<table><tr><th>name</th><th>URL</th><th>shards</th><th>pending</th><th>behind</th><th>lost</th><th>refused</th><th>state</th></tr>
{{range .Remotes}}<tr><td>{{.Name}}</td><td><code>{{.URL}}</code></td><td>{{.Shards}}</td><td>{{.Pending}}</td>
<td>{{.BehindSamples}} samples, {{printf "%.1f" .BehindSeconds}} s</td><td>{{.LostSamples}}</td><td>{{.RefusedSamples}}</td>
<td>{{if .Failing}}<span class="down">retrying</span>{{else if .Refusing}}<span class="down">refusing</span>{{else}}<span class="up">delivering</span>{{end}}
{{if .LastError}}<br>{{ago $.Now .LastErrorTime}}: <code>{{.LastError}}</code>{{end}}</td></tr>{{end}}</table>
{{else}}<p>No remote_write is configured: what is scraped stays in the log.</p>{{end}}
{{range .Pools}}<h2>{{.Job}} <small>{{up .}} of {{len .Targets}} up{{if .DroppedCount}}, {{.DroppedCount}} dropped by relabelling{{end}}</small></h2>
{{if .Targets}}<table><tr><th>target</th><th>labels</th><th>state</th><th>last scrape</th><th>took</th><th>error</th></tr>
{{range .Targets}}<tr><td><code>{{.URL}}</code></td><td><code>{{.Labels}}</code></td><td class="{{.Health}}">{{.Health}}</td>
<td>{{ago $.Now .LastScrape}}</td><td>{{took .LastDuration}}</td><td>{{.LastError}}</td></tr>{{end}}</table>{{else}}<p>No targets.</p>{{end}}
{{end}}
<h2>Configuration</h2><pre>{{.Config}}</pre>
<p><a href="{{.Prefix}}/metrics">metrics</a> · <a href="{{.Prefix}}/api/v1/targets">targets</a> · <a href="{{.Prefix}}/api/v1/status/runtimeinfo">runtime</a></p>
</body></html>
`))
