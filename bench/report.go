//go:build linux

package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const title = "# Results\n\nWritten by `make bench`; [README.md](README.md) tells how to read it.\n\n"

// results are the values of each row, by server.
type results map[string]map[string][]float64

func (r results) add(server string, values map[string]float64) {
	if r[server] == nil {
		r[server] = map[string][]float64{}
	}
	for row, v := range values {
		r[server][row] = append(r[server][row], v)
	}
}

// median returns NaN if there are no values.
func (r results) median(server, row string) float64 {
	v := slices.Sorted(slices.Values(r[server][row]))
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// format shows three digits.
func format(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case math.Abs(v) >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// table returns the results in Markdown.
func (s *settings) table(res results) string {
	lines := [][]string{{"row", "", "unit", "ours", "Node", "ours ÷ Node", "bar", ""}}
	for _, r := range rows {
		if !s.wanted(r.name) {
			continue
		}
		ours, node := res.median("ours", r.name), res.median("node", r.name)
		bar, met := r.bar(ours, ours/node)
		verdict := ""
		if bar != "" && !s.quick {
			verdict = map[bool]string{true: "met", false: "lost"}[met]
			if r.ratio > 0 && math.IsNaN(ours/node) || math.IsNaN(ours) {
				verdict = "–"
			}
		}
		lines = append(lines, []string{"`" + r.name + "`", r.text, r.unit, format(ours), format(node), format(ours / node), bar, verdict})
	}
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for k, line := range lines {
		for i, cell := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if 3 <= i && i <= 5 {
				b.WriteString("| " + pad + cell + " ")
			} else {
				b.WriteString("| " + cell + pad + " ")
			}
		}
		b.WriteString("|\n")
		if k == 0 {
			for i, w := range width {
				b.WriteString("|" + strings.Repeat("-", w+1))
				if 3 <= i && i <= 5 {
					b.WriteString(":")
				} else {
					b.WriteString("-")
				}
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// environment says what was measured, where and when.
func (s *settings) environment(ctx context.Context, others []float64, buses []string) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "- %s: %s\n", name, value)
		}
	}
	line("date", time.Now().UTC().Format(time.DateOnly))
	line("commit", s.commit(ctx))
	if info, err := buildinfo.ReadFile(s.ours); err == nil {
		line("Go", info.GoVersion)
	}
	line("Node", output(ctx, "node", "--version"))
	line("socket.io", version(filepath.Join(filepath.Dir(s.node), "node_modules/socket.io/package.json")))
	line("buses", strings.Join(buses, ", "))
	line("CPU", fmt.Sprintf("%s, %d cores", field("/proc/cpuinfo", "model name"), runtime.NumCPU()))
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // without it there is no line
	line("kernel", strings.TrimSpace(string(kernel)))
	if s.quick {
		line("rounds", "a quick one, with fewer clients than the table says and too short to compare anything")
	} else {
		line("rounds", fmt.Sprint(s.rounds))
	}
	if slices.Sort(others); len(others) > 0 {
		line("other processes", fmt.Sprintf("used %.0f %% of a core during half of the measurements, at most %.0f %%", others[len(others)/2], others[len(others)-1]))
	}
	return b.String()
}

// commit returns what the checkout, and so our server, is made of.
func (s *settings) commit(ctx context.Context) string {
	if s.ours != defaultOurs {
		return "unknown, -ours was given"
	}
	text := output(ctx, "git", "rev-parse", "--short", "HEAD")
	if text != "" && output(ctx, "git", "status", "--porcelain", "--", "*.go", "go.mod") != "" {
		text += ", with changes"
	}
	return text
}

func output(ctx context.Context, command ...string) string {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(out))
}

// field returns what follows a name and a colon in a file.
func field(file, name string) string {
	text, _ := os.ReadFile(file) // without it, nothing follows
	_, after, _ := strings.Cut(string(text), name)
	value, _, _ := strings.Cut(after, "\n")
	return strings.Trim(value, "\t :\",")
}

func version(file string) string { return field(file, `"version"`) }
