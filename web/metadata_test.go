package web

import (
	"reflect"
	"strings"
	"testing"

	"net/url"

	"promagent/scrape"
)

// withMetadata gives the two targets of alpha metadata: of some_total the same, of x two kinds.
func withMetadata(o *Options) {
	pools := o.Pools()
	some := scrape.Metadata{Family: "some_total", Type: "counter", Help: "Some.", Unit: ""}
	pools[1].Targets[0].Metadata = func() []scrape.Metadata {
		return []scrape.Metadata{{Family: "x", Type: "gauge", Help: "An x.", Unit: "s"}, some}
	}
	pools[1].Targets[1].Metadata = func() []scrape.Metadata {
		return []scrape.Metadata{some, {Family: "x", Type: "unknown"}}
	}
	o.Pools = func() []scrape.PoolStatus { return pools }
}

func TestMetadata(t *testing.T) {
	s := newServer(t, &calls{}, withMetadata)
	const (
		local = `"target":{"instance":"localhost:8080","job":"alpha"}`
		other = `"target":{"instance":"<a>:2","job":"alpha"}`
		some  = `{"type":"counter","help":"Some.","unit":""}`
		x1    = `{"type":"gauge","help":"An x.","unit":"s"}`
		x2    = `{"type":"unknown","help":"","unit":""}`
	)
	of := func(target, metric, md string) string {
		if metric != "" {
			metric = `"metric":"` + metric + `",`
		}
		return "{" + target + "," + metric + strings.TrimPrefix(md, "{")
	}
	first := of(local, "some_total", some) + "," + of(local, "x", x1)
	second := of(other, "some_total", some) + "," + of(other, "x", x2)
	for _, c := range []struct{ path, want string }{
		{"/metadata", `{"some_total":[` + some + `],"x":[` + x1 + `,` + x2 + `]}`},
		{"/metadata?metric=x", `{"x":[` + x1 + `,` + x2 + `]}`},
		{"/metadata?metric=none", `{}`},
		{"/metadata?limit=1", `{"some_total":[` + some + `]}`},
		{"/metadata?limit=0", `{}`},
		{"/metadata?limit_per_metric=1", `{"some_total":[` + some + `],"x":[` + x1 + `]}`},
		{"/targets/metadata", `[` + first + `,` + second + `]`},
		{"/targets/metadata?metric=x", `[` + of(local, "", x1) + `,` + of(other, "", x2) + `]`},
		{"/targets/metadata?limit=1", `[` + first + `]`}, // between two targets
		{"/targets/metadata?limit=0", `[]`},
		{"/targets/metadata?match_target=" + url.QueryEscape(`{instance=~"local.*"}`), `[` + first + `]`},
		{"/targets/metadata?match_target=" + url.QueryEscape(`{job="alpha",instance!="localhost:8080"}`), `[` + second + `]`},
		{"/targets/metadata?match_target=" + url.QueryEscape(`{job="beta"}`), `[]`},
	} {
		if got, want := data(t, s.Handler(), "/api/v1"+c.path), parse(t, c.want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %v\nwant %v", c.path, got, want)
		}
	}
	for path, want := range map[string]string{
		"/metadata?limit=x": "limit must be a number", "/metadata?limit_per_metric=x": "limit_per_metric must be a number", "/targets/metadata?limit=1.5": "limit must be a number",
		"/targets/metadata?match_target=" + url.QueryEscape("{job=x}"): `invalid parameter "match_target": `,
	} {
		res, body := do(t, s.Handler(), "GET", "/api/v1"+path)
		if got := fields(t, body); res.StatusCode != 400 || got["errorType"] != "bad_data" || !strings.HasPrefix(got["error"].(string), want) {
			t.Errorf("%s: %d %v, want 400 %q", path, res.StatusCode, got, want)
		}
	}
}

func TestSelectors(t *testing.T) {
	for text, want := range map[string]string{
		`up`:                              `__name__="up"`,
		` up { } `:                        `__name__="up"`,
		`{job="a"}`:                       `job="a"`,
		`up{job="a",}`:                    `__name__="up" job="a"`,
		`{ job = "a" , x!~'b.*' }`:        `job="a" x!~"b.*"`,
		"{a=~`\\d`, b!=\"{,}\"}":          `a=~"\\d" b!="{,}"`,
		`{"a.b"="c", c='it\'s "x" \n é'}`: `"a.b"="c" c="it's \"x\" \n é"`,
		`{a="\u00e9"}`:                    `a="é"`,
		``:                                "error",
		`{}`:                              "error",
		`{`:                               "error",
		`{a}`:                             "error",
		`{a=}`:                            "error",
		`{a=b}`:                           "error",
		`{a="b`:                           "error",
		`{a='b`:                           "error",
		`{a='b\`:                          "error",
		`{a="b" c="d"}`:                   "error",
		`{a="b"} x`:                       "error",
		`{a="b"}}`:                        "error",
		`{1="b"}`:                         "error",
		`{="b"}`:                          "error",
		`{a=~"("}`:                        "error",
		`a b{c="d"}`:                      "error",
		`sum(up)`:                         "error",
	} {
		ms, err := parseSelector(text)
		var parts []string
		for _, m := range ms {
			parts = append(parts, m.String())
		}
		got := strings.Join(parts, " ")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: got %s (%v), want %s", text, got, err, want)
		}
	}
}

func FuzzSelector(f *testing.F) {
	f.Add(`up{job="a", x!~'b.*'}`)
	f.Fuzz(func(t *testing.T, text string) {
		ms, err := parseSelector(text)
		if err != nil {
			return
		}
		var parts []string
		for _, m := range ms {
			parts = append(parts, m.String())
		}
		again, err := parseSelector("{" + strings.Join(parts, ",") + "}")
		if err != nil || len(again) != len(ms) {
			t.Fatalf("%q became %q: %v", text, parts, err)
		}
		for i, m := range again {
			if m.Type != ms[i].Type || m.Name != ms[i].Name || m.Value != ms[i].Value {
				t.Errorf("%q became %q", text, m)
			}
		}
	})
}
