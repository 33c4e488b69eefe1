package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"promagent/config/settings"
	"promagent/discovery"
)

// Every key that Prometheus's parser takes has a row in the table of settings,
// and every row is about such a key. With the build tag all_sd the keys of all
// discoveries are there.
func TestEveryKeyOfPrometheusHasARow(t *testing.T) {
	found := map[string]bool{}
	walk(reflect.TypeFor[promconfig.Config](), "", found)
	if len(found) < 400 {
		t.Fatalf("only %d keys found: %q", len(found), slices.Sorted(maps.Keys(found)))
	}
	rows, used := map[string]settings.Setting{}, map[string]bool{}
	for _, s := range settings.All() {
		if s.Kind == settings.Key && s.Value == "" {
			for _, path := range s.Paths() {
				if _, twice := rows[path]; twice {
					t.Errorf("%s has two rows", path)
				}
				rows[path] = s
			}
		}
	}
	for key := range found {
		path := key
		for {
			if s, ok := rows[path]; ok && (path == key || s.Below) {
				used[path] = true
				break
			}
			i := strings.LastIndexByte(path, '.')
			if i < 0 {
				t.Errorf("%s has no row: what becomes of it?", key)
				break
			}
			path = path[:i]
		}
	}
	for path := range rows {
		kind, ofDiscovery := strings.CutSuffix(path, "_sd_configs")
		if missing := ofDiscovery && discovery.Missing(strings.TrimPrefix(kind, "scrape_configs.")); !used[path] && !missing {
			t.Errorf("%s has a row, and Prometheus no such key", path)
		}
	}
	for _, s := range settings.All() {
		if s.Value != "" && !slices.ContainsFunc(s.Paths(), func(path string) bool { return found[path] }) {
			t.Errorf("%s: Prometheus has no such key", s)
		}
	}
}

// walk notes the paths of the keys that hold values below path.
func walk(typ reflect.Type, path string, found map[string]bool) {
	typ = element(typ)
	switch {
	case typ == reflect.TypeFor[targetgroup.Group](): // it is read by a type without a name
		found[path+".targets"], found[path+".labels"] = true, true
	case typ.Kind() == reflect.Map && isBlock(element(typ.Elem())):
		walk(typ.Elem(), path+".<name>", found)
	case !isBlock(typ):
		found[path] = true
	default:
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "" {
				name = strings.ToLower(f.Name) // as the parser has it
			}
			switch {
			case f.Type == reflect.TypeFor[sd.Configs]():
				walk(discoveries(typ), path, found)
			case !f.IsExported() || name == "-":
			case strings.Contains(options, "inline"):
				walk(f.Type, path, found)
			default:
				walk(f.Type, strings.TrimPrefix(path+"."+name, "."), found)
			}
		}
	}
}

// element is what is listed or pointed to.
func element(typ reflect.Type) reflect.Type {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	return typ
}

// isBlock says whether a type has keys: others are read by their own code.
func isBlock(typ reflect.Type) bool {
	if typ.Kind() != reflect.Struct {
		return false
	}
	for i := range typ.NumField() {
		if typ.Field(i).Tag.Get("yaml") != "" {
			return true
		}
	}
	return false
}

// discoveries is a block with a key for each discovery that is compiled in, of
// the type that the parser makes when it reads one.
func discoveries(of reflect.Type) (block reflect.Type) {
	_ = sd.UnmarshalYAMLWithInlineConfigs(reflect.New(of).Interface(), func(into any) error {
		var fields []reflect.StructField
		for _, f := range reflect.VisibleFields(reflect.TypeOf(into).Elem()) {
			if strings.HasSuffix(f.Tag.Get("yaml"), "_configs,omitempty") && strings.HasPrefix(f.Name, "AUTO_") {
				f.Index, f.Offset = nil, 0
				fields = append(fields, f)
			}
		}
		block = reflect.StructOf(fields)
		return nil
	})
	return block
}

// A protocol is one that targets are asked for or one that is warned of.
func TestEveryProtocolOfPrometheusIsAskedForOrWarnedOf(t *testing.T) {
	text := []promconfig.ScrapeProtocol{promconfig.PrometheusText0_0_4, promconfig.PrometheusText1_0_0, promconfig.OpenMetricsText0_0_1, promconfig.OpenMetricsText1_0_0}
	for p := range promconfig.ScrapeProtocolsHeaders {
		for _, key := range []string{"<scrape>.scrape_protocols", "scrape_configs.fallback_scrape_protocol"} {
			warned := slices.ContainsFunc(settings.All(), func(s settings.Setting) bool { return s.Name == key && s.Value == string(p) })
			if asked := slices.Contains(text, p); asked == warned {
				t.Errorf("%s: %s: asked for %v, warned of %v", key, p, asked, warned)
			}
		}
	}
}

// The labels that Prometheus's scrapes heed, beside those of every target.
func TestEveryLabelThatSteersAScrapeHasARow(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(upstream(t), "scrape", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{
		model.AddressLabel: true, model.SchemeLabel: true, model.MetricsPathLabel: true, model.ParamLabelPrefix + "<name>": true,
		model.ScrapeIntervalLabel: true, model.ScrapeTimeoutLabel: true,
	}
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`Label = "(__\w+__)"`).FindAllSubmatch(code, -1) {
			found[string(m[1])] = found[string(m[1])] || !strings.HasSuffix(file, "_test.go")
		}
	}
	if len(found) < 10 {
		t.Fatalf("only %v found", found)
	}
	for name := range found {
		if _, ok := settings.Of(settings.Label, name); !ok {
			t.Errorf("%s has no row: what becomes of it?", name)
		}
	}
	for _, s := range settings.All() {
		if s.Kind == settings.Label && !found[s.Name] {
			t.Errorf("%s has a row, and Prometheus heeds no such label", s)
		}
	}
}
