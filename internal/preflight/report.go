package preflight

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// Status is how a check ended.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Note Status = "note" // good to know, or could not be looked at
	Warn Status = "warn" // it will run, and hurt one day
	Fail Status = "fail" // it will not run, or not as it should
)

// Finding is the result of one check. The names of checks are stable; a check may have several findings.
type Finding struct {
	Check  string `json:"check"` // section.name
	Status Status `json:"status"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // what to do about it
}

// Report is all that was found. Its JSON form is documented in docs/check.md.
type Report struct {
	OK       bool           `json:"ok"` // nothing has failed
	Node     string         `json:"node"`
	Adapter  string         `json:"adapter"`
	Build    gateway.Build  `json:"build"`
	Time     time.Time      `json:"time"`
	Seconds  float64        `json:"seconds"`
	Counts   map[Status]int `json:"counts"`
	Findings []Finding      `json:"findings"`
	Peers    []Peer         `json:"peers"`
	Capacity *Capacity      `json:"capacity,omitempty"` // missing if the configuration is wrong
}

// Peer is a node that is registered.
type Peer struct {
	Tag       string    `json:"tag"`
	Addr      string    `json:"addr"`
	Started   time.Time `json:"started"`
	Self      bool      `json:"self"`                 // has this node's tag
	Reachable *bool     `json:"reachable,omitempty"`  // it would take what this node forwards; missing if it was not asked
	Latency   float64   `json:"latency_ms,omitempty"` // of the connection and the answer
	Skew      float64   `json:"clock_skew_ms,omitempty"`
}

// sections are what the first part of a check's name stands for, in their order.
var sections = []struct{ name, title string }{
	{"config", "Configuration"},
	{"node", "This node"},
	{"host", "This host"},
	{"redis", "Redis"},
	{"postgres", "PostgreSQL"},
	{"peers", "Other nodes"},
	{"capacity", "Capacity"},
}

func (r *Report) add(f Finding) {
	r.Findings = append(r.Findings, f)
	r.Counts[f.Status]++
	r.OK = r.Counts[Fail] == 0
}

func (r *Report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var b strings.Builder
	for _, s := range sections {
		first := true
		for _, f := range r.Findings {
			if section, _, _ := strings.Cut(f.Check, "."); section != s.name {
				continue
			}
			if first {
				fmt.Fprintf(&b, "%s\n", s.title)
				first = false
			}
			fmt.Fprintf(&b, "  %-4s  %-22s  %s\n", f.Status, f.Check, f.Text)
			if f.Advice != "" {
				fmt.Fprintf(&b, "%32s%s\n", "-> ", f.Advice)
			}
		}
		if s.name == "capacity" && r.Capacity != nil {
			r.Capacity.print(&b)
		}
		if !first {
			b.WriteString("\n")
		}
	}
	fmt.Fprintf(&b, "%d ok, %d to note, %d warnings, %d failures, in %.1f s\n", r.Counts[OK], r.Counts[Note], r.Counts[Warn], r.Counts[Fail], r.Seconds)
	_, err := io.WriteString(w, b.String())
	return err
}

// print writes the table of limits.
func (c *Capacity) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tclients\tbehind nginx here\t  limit")
	for _, l := range c.Limits {
		mark := ""
		if c.Clients > 0 && (l.Direct != nil && *l.Direct < c.Clients || l.BehindNginx != nil && *l.BehindNginx < c.Clients) {
			mark = "  <- below " + number(c.Clients)
		}
		fmt.Fprintf(tw, "\t%s\t%s\t  %s%s\n", optional(l.Direct), optional(l.BehindNginx), l.Text, mark)
	}
	_ = tw.Flush() // the writer takes all
}

func optional(n *int64) string {
	if n == nil {
		return "-"
	}
	return number(*n)
}

// number writes 1234567 as 1,234,567.
func number(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytes writes a size for a person.
func bytes(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MB", n>>20)
	default:
		return fmt.Sprintf("%d KB", n>>10)
	}
}

// ms writes a short duration.
func ms(d time.Duration) string {
	if d.Abs() >= 10*time.Second {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
