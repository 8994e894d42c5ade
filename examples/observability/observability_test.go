// Package observability holds what an operator takes over: a Grafana dashboard,
// alert rules, and a set of containers to try all of it. Its tests hold them to
// what relay really tells.
package observability

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/telemetry"
)

// query is one PromQL expression and where it stands.
type query struct{ where, expr string }

func dashboard(t *testing.T) (list []query) {
	t.Helper()
	b, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int    `json:"id"`
			Type    string `json:"type"`
			Title   string `json:"title"`
			GridPos struct{ H, W, X, Y int }
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
		Templating struct {
			List []struct {
				Query struct {
					Query string `json:"query"`
				} `json:"query"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: id taken, no title, or too wide", p.ID, p.Title)
		}
		seen[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, q := range p.Targets {
			list = append(list, query{"panel " + p.Title, q.Expr})
		}
	}
	for _, v := range d.Templating.List {
		list = append(list, query{"variable", v.Query.Query})
	}
	return list
}

func alerts(t *testing.T) (list []query) {
	t.Helper()
	var f struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	strict(t, "alerts.yaml", &f)
	if len(f.Groups) == 0 {
		t.Fatal("alerts.yaml has no groups")
	}
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || !slices.Contains([]string{"page", "ticket"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %q: name, severity, summary or description is missing", r.Alert)
			}
			list = append(list, query{"alert " + r.Alert, r.Expr})
		}
	}
	return list
}

func strict(t *testing.T, file string, into any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// Names that Prometheus sees, with their labels. What the process tells of
// itself comes from the Prometheus client.
func known() map[string][]string {
	names := map[string][]string{
		"process_resident_memory_bytes": nil, "process_cpu_seconds_total": nil, "process_open_fds": nil, "process_max_fds": nil,
	}
	for _, d := range telemetry.Catalog() {
		var labels []string
		for _, l := range d.Labels {
			labels = append(labels, strings.ReplaceAll(l, ".", "_"))
		}
		for i := 0; i < len(d.Fixed); i += 2 {
			labels = append(labels, strings.ReplaceAll(d.Fixed[i], ".", "_"))
		}
		name := d.Prometheus()
		if d.Kind == telemetry.Distribution {
			names[name+"_sum"], names[name+"_count"] = labels, labels
			names[name+"_bucket"] = append([]string{"le"}, labels...)
		} else {
			names[name] = labels
		}
	}
	return names
}

var (
	metric   = regexp.MustCompile(`\b(?:relay|messaging|process|go)_[a-z0-9_]+`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
	matchers = regexp.MustCompile(`\{([^}]*)\}`)
	labelled = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
)

// uses lists the metrics and labels of an expression.
func uses(expr string) (metrics, labels []string) {
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			labels = append(labels, strings.TrimSpace(l))
		}
	}
	for _, m := range matchers.FindAllStringSubmatch(expr, -1) {
		for _, l := range labelled.FindAllStringSubmatch(m[1], -1) {
			labels = append(labels, l[1])
		}
	}
	bare := matchers.ReplaceAllString(grouping.ReplaceAllString(expr, ""), "")
	return metric.FindAllString(bare, -1), labels
}

func TestEveryMetricThatIsAskedForExists(t *testing.T) {
	names := known()
	asked := map[string]bool{}
	for _, q := range append(dashboard(t), alerts(t)...) {
		metrics, labels := uses(q.expr)
		if len(metrics) == 0 {
			t.Errorf("%s: no metric in %s", q.where, q.expr)
		}
		for _, m := range metrics {
			asked[m] = true
			if _, ok := names[m]; !ok {
				t.Errorf("%s asks for %s, which does not exist", q.where, m)
			}
		}
		for _, l := range labels {
			if !slices.ContainsFunc(metrics, func(m string) bool { return l == "instance" || slices.Contains(names[m], l) }) {
				t.Errorf("%s: none of %v has the label %s", q.where, metrics, l)
			}
		}
		if strings.Count(q.expr, "(") != strings.Count(q.expr, ")") {
			t.Errorf("%s: brackets do not match in %s", q.where, q.expr)
		}
	}
	if len(asked) < 30 {
		t.Errorf("only %d metrics are asked for", len(asked))
	}
}

// The test above must be able to fail.
func TestUses(t *testing.T) {
	metrics, labels := uses(`sum by (le, reason) (rate(relay_a_total{x=~"relay_b",y!="z"}[5m])) / messaging_c{}`)
	if !slices.Equal(metrics, []string{"relay_a_total", "messaging_c"}) || !slices.Equal(labels, []string{"le", "reason", "x", "y"}) {
		t.Errorf("%v %v", metrics, labels)
	}
}

func TestTheConfigurationOfTheExampleIsGood(t *testing.T) {
	b, err := os.ReadFile("relay.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.Parse("relay.yaml", b, []string{"RELAY_KEY=0123456789abcdef0123456789abcdef"}); err != nil {
		t.Error(err)
	}
}

func TestTheBalancersConfigurationIsGood(t *testing.T) {
	haproxy := "/usr/sbin/haproxy"
	if p, err := exec.LookPath("haproxy"); err == nil {
		haproxy = p
	}
	if out, err := exec.Command(haproxy, "-c", "-f", "haproxy.cfg").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// compose is what examples/compose.yaml uses of the Compose specification.
type compose struct {
	Name     string `yaml:"name"`
	Services map[string]struct {
		Image string `yaml:"image"`
		Build struct {
			Context    string `yaml:"context"`
			Dockerfile string `yaml:"dockerfile"`
		} `yaml:"build"`
		Command     []string               `yaml:"command"`
		Environment map[string]string      `yaml:"environment"`
		Ports       []string               `yaml:"ports"`
		Volumes     []string               `yaml:"volumes"`
		Deploy      struct{ Replicas int } `yaml:"deploy"`
		DependsOn   yaml.Node              `yaml:"depends_on"`
		Healthcheck struct {
			Test     []string `yaml:"test"`
			Interval string   `yaml:"interval"`
			Retries  int      `yaml:"retries"`
		} `yaml:"healthcheck"`
		StopGracePeriod string `yaml:"stop_grace_period"`
	} `yaml:"services"`
}

// Keys are those of the specification, names and files exist, images are pinned,
// and nothing listens beyond this machine.
func TestComposeIsValid(t *testing.T) {
	var c compose
	strict(t, "../compose.yaml", &c)
	if c.Services["relay"].Deploy.Replicas != 2 {
		t.Error("there are not two relays")
	}
	for _, want := range []string{"relay", "redis", "jaeger", "prometheus", "grafana", "balancer"} {
		if _, ok := c.Services[want]; !ok {
			t.Errorf("no service %s", want)
		}
	}
	for name, s := range c.Services {
		if (s.Image == "") == (s.Build.Context == "") {
			t.Errorf("%s: needs an image or a build, and not both", name)
		}
		if image := s.Image[strings.LastIndexByte(s.Image, '/')+1:]; s.Image != "" && (!strings.Contains(image, ":") || strings.HasSuffix(image, ":latest")) {
			t.Errorf("%s: %s is not pinned", name, s.Image)
		}
		if s.Build.Context != "" {
			exists(t, name, filepath.Join(s.Build.Context, s.Build.Dockerfile))
		}
		for _, v := range s.Volumes {
			host, rest, _ := strings.Cut(v, ":")
			exists(t, name, host)
			if !strings.HasSuffix(rest, ":ro") {
				t.Errorf("%s may write to %s", name, host)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s listens on %s", name, p)
			}
		}
		for _, dep := range dependencies(s.DependsOn) {
			if _, ok := c.Services[dep]; !ok {
				t.Errorf("%s depends on %s, which is no service", name, dep)
			}
		}
	}
}

func exists(t *testing.T, service, path string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join("..", path)); err != nil {
		t.Errorf("%s: %v", service, err)
	}
}

// dependencies reads both forms of depends_on.
func dependencies(n yaml.Node) (names []string) {
	for i, c := range n.Content {
		if n.Kind == yaml.SequenceNode || i%2 == 0 {
			names = append(names, c.Value)
		}
	}
	return names
}

// Prometheus reads the rules from where Compose puts them, and Grafana's files
// name sources that exist.
func TestFilesFindEachOther(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	compose := read("../compose.yaml")
	for _, path := range []string{"/etc/prometheus/alerts.yaml", "/etc/prometheus/prometheus.yaml", "/etc/grafana/dashboards/dashboard.json"} {
		if !strings.Contains(compose, ":"+path+":ro") {
			t.Errorf("nothing is mounted at %s", path)
		}
	}
	if !strings.Contains(read("prometheus.yaml"), "/etc/prometheus/alerts.yaml") {
		t.Error("Prometheus does not read the rules")
	}
	sources := read("grafana/provisioning/datasources/relay.yaml")
	for _, m := range regexp.MustCompile(`"uid": "([a-z]+)"`).FindAllStringSubmatch(read("dashboard.json"), -1) {
		if m[1] != "relay" && !strings.Contains(sources, "uid: "+m[1]+"\n") {
			t.Errorf("the dashboard asks a source %s, which is not set up", m[1])
		}
	}
}
