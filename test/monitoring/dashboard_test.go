package monitoring_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what Grafana reads.
type dashboard struct {
	ID            *int   `json:"id"`
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Annotations   struct {
		List []struct {
			Name       string     `json:"name"`
			BuiltIn    int        `json:"builtIn"`
			Datasource datasource `json:"datasource"`
			Expr       string     `json:"expr"`
			Target     target     `json:"target"`
			Title      string     `json:"titleFormat"`
		} `json:"list"`
	} `json:"annotations"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type variable struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Datasource datasource      `json:"datasource"`
	Query      json.RawMessage `json:"query"`
	AllValue   string          `json:"allValue"`
}

type panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []target `json:"targets"`
	Panels  []panel  `json:"panels"`
}

type target struct {
	Datasource datasource `json:"datasource"`
	Expr       string     `json:"expr"`
	RefID      string     `json:"refId"`
	Legend     string     `json:"legendFormat"`
}

func readDashboard(t testing.TB) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) < 40 {
		t.Fatalf("%d panels", len(d.Panels))
	}
	return d
}

// query is an expression of the dashboard.
type query struct{ where, expr string }

// queries returns all of them, with values for Grafana's variables.
func (d *dashboard) queries(job, interval, span string) (all []query) {
	fill := strings.NewReplacer("$__rate_interval", interval, "$__range", span, "$__all", ".+", "$job", job, "$node", ".+").Replace
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, query{p.Title + " " + q.RefID, fill(q.Expr)})
		}
	}
	for _, a := range d.Annotations.List {
		if a.BuiltIn == 0 {
			all = append(all, query{"annotation " + a.Name, fill(a.Target.Expr)})
		}
	}
	return all
}

// The rows are the questions that an on-call person asks.
func TestDashboardAnswersQuestions(t *testing.T) {
	var rows []string
	panels := 0
	for _, p := range readDashboard(t).Panels {
		if p.Type != "row" {
			panels++
			continue
		}
		if len(rows) > 0 && panels < 5 {
			t.Errorf("%s has %d panels", rows[len(rows)-1], panels)
		}
		rows, panels = append(rows, p.Title), 0
	}
	want := []string{"Are clients connected?", "Is anything not delivered?", "Which node is deaf?", "Who is slow?", "Did the deploy hurt?"}
	if !slices.Equal(rows, want) {
		t.Errorf("rows: %q", rows)
	}
}

// It can be imported by any Grafana, with any Prometheus: no ids of one installation.
func TestDashboardIsPortable(t *testing.T) {
	d := readDashboard(t)
	if d.ID != nil || d.UID != "patchbay" || d.Title != "Patchbay" || d.SchemaVersion < 39 {
		t.Errorf("id %v, uid %q, title %q, schema %d", d.ID, d.UID, d.Title, d.SchemaVersion)
	}
	ours := datasource{"prometheus", "${datasource}"}
	variables := map[string]variable{}
	for _, v := range d.Templating.List {
		variables[v.Name] = v
		if v.Type == "query" && (v.Datasource != ours || v.AllValue == "") {
			t.Errorf("variable %s: %+v", v.Name, v)
		}
	}
	if v := variables["datasource"]; len(variables) != 3 || v.Type != "datasource" || string(v.Query) != `"prometheus"` ||
		variables["job"].Type != "query" || variables["node"].Type != "query" {
		t.Errorf("variables: %+v", variables)
	}
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Datasource != ours {
			t.Errorf("%s: datasource %+v", p.Title, p.Datasource)
		}
		for _, q := range p.Targets {
			if q.Datasource != ours {
				t.Errorf("%s: datasource %+v of %s", p.Title, q.Datasource, q.RefID)
			}
		}
	}
	known := regexp.MustCompile(`\$\{?(\w+)\}?`)
	for _, m := range known.FindAllStringSubmatch(read(t, dashboardFile), -1) {
		if variables[m[1]].Name == "" && !slices.Contains([]string{"__rate_interval", "__range", "__all"}, m[1]) {
			t.Errorf("there is no variable $%s", m[1])
		}
	}
	annotations := 0
	for _, a := range d.Annotations.List {
		if a.BuiltIn == 1 {
			continue
		}
		annotations++
		if a.Datasource != ours || a.Title == "" || a.Expr != a.Target.Expr { // Grafana up to 11 reads the one, later ones the other
			t.Errorf("annotation %s: %+v", a.Name, a)
		}
	}
	if annotations != 3 {
		t.Errorf("%d annotations", annotations)
	}
}

// Panels have ids of their own, do not overlap, and say what they show, in which unit, of which node and job.
func TestDashboardPanels(t *testing.T) {
	d := readDashboard(t)
	ids := map[int]string{}
	type cell struct{ x, y int }
	taken := map[cell]string{}
	titles := map[string]bool{}
	for _, p := range d.Panels {
		if p.ID <= 0 || ids[p.ID] != "" {
			t.Errorf("%s has the id %d, as %s", p.Title, p.ID, ids[p.ID])
		}
		ids[p.ID] = p.Title
		if titles[p.Title] {
			t.Errorf("there are two %s", p.Title)
		}
		titles[p.Title] = true
		if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("%s is at %+v", p.Title, g)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				c := cell{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[c] != "" {
					t.Fatalf("%s lies on %s", p.Title, taken[c])
				}
				taken[c] = p.Title
			}
		}
		if p.Type == "row" {
			if len(p.Panels) != 0 {
				t.Errorf("%s is folded", p.Title)
			}
			continue
		}
		if !regexp.MustCompile(`^\S.*\.$`).MatchString(p.Description) {
			t.Errorf("%s: description %q", p.Title, p.Description)
		}
		if p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%s has no unit", p.Title)
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || q.RefID == "" {
				t.Errorf("%s: two queries %q", p.Title, q.RefID)
			}
			refs[q.RefID] = true
			if !strings.Contains(q.Expr, `job=~"$job"`) || !strings.Contains(q.Expr, `node=~"$node"`) {
				t.Errorf("%s: query %s is of all jobs or nodes", p.Title, q.RefID)
			}
			if strings.Count(q.Expr, "{") != strings.Count(q.Expr, `{job=~"$job"`) {
				t.Errorf("%s: query %s has a metric of all jobs", p.Title, q.RefID)
			}
		}
	}
}

// Each expression parses and names only what exists.
func TestDashboardExpressions(t *testing.T) {
	d := readDashboard(t)
	page := metricsPage(t)
	var exprs []string
	used := map[string]bool{}
	for _, q := range d.queries("patchbay", "1m", "1h") {
		for _, fault := range checkNames(page, processMetrics, q.expr) {
			t.Errorf("%s: %s", q.where, fault)
		}
		if strings.Contains(q.expr, "$") {
			t.Errorf("%s: %s", q.where, q.expr)
		}
		for _, name := range metricName.FindAllString(q.expr, -1) {
			used[strings.TrimSuffix(name, "_bucket")] = true
		}
		exprs = append(exprs, q.expr)
	}
	if err := checkRules(t, exprs); err != nil {
		t.Error(err)
	}
	// What is nowhere on the dashboard, and why.
	left := []string{
		"patchbay_client_queue_limit_bytes", "patchbay_child_namespaces_limit", // limits that are configured
		"patchbay_bus_attachment_bytes_total", // their number is shown
	}
	for name := range page {
		if used[name] == slices.Contains(left, name) {
			t.Errorf("%s: on the dashboard: %v", name, used[name])
		}
	}
}
