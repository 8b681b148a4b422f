package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// table is one that counts in "/a", and what it shows.
type table struct{ *gateway.EventTable }

func (e table) saw(event string, times int) {
	for range times {
		e.Count("/a", event)
	}
}

func (e table) want(t *testing.T, want string) {
	t.Helper()
	if got := e.String(); got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
}

func TestEventLabels(t *testing.T) {
	e := table{gateway.NewEventTable(2, "known")}
	e.saw("known", 1)
	e.want(t, "/a known 1\n")
	e.saw("new", gateway.Evidence-1)
	e.want(t, fmt.Sprintf("/a known 1\n/a other %d\n", gateway.Evidence-1))
	e.saw("new", 3)
	e.want(t, fmt.Sprintf("/a known 1\n/a new 3\n/a other %d\n", gateway.Evidence-1))
	e.saw("second", gateway.Evidence)
	e.saw("third", 100*gateway.Evidence) // there are two labels
	e.saw("known", 1)
	e.want(t, fmt.Sprintf("/a known 2\n/a new 3\n/a other %d\n/a second 1\n", 2*(gateway.Evidence-1)+100*gateway.Evidence))
}

// What can be no label is counted as other, and breaks no scrape.
func TestEventLabelsOfStrangeNames(t *testing.T) {
	e := table{gateway.NewEventTable(100)}
	names := []string{"", "other", "\xff", strings.Repeat("x", gateway.MaxEventLabel+1), strings.Repeat("x", 1<<20)}
	for _, name := range names {
		e.saw(name, 2*gateway.Evidence)
	}
	e.want(t, fmt.Sprintf("/a other %d\n", 2*gateway.Evidence*len(names)))
	longest := strings.Repeat("é", gateway.MaxEventLabel/2)
	for _, name := range []string{longest, "\"\\\n{}", "\x00"} {
		e.saw(name, gateway.Evidence)
		if !strings.Contains(e.String(), "/a "+name+" 1\n") {
			t.Errorf("%q has no label", name)
		}
	}
}

// Nothing gets a label of its own in namespaces that have none, or when there are none to give.
func TestEventLabelsOfOtherNamespaces(t *testing.T) {
	e := gateway.NewEventTable(1000, "known")
	for i := range 2 * gateway.MaxNamespaceLabels {
		for range gateway.Evidence + 1 {
			e.Count(fmt.Sprintf("/n%03d", i), "new")
		}
		e.Count(fmt.Sprintf("/n%03d", i), "known")
	}
	rows := strings.Count(e.String(), "\n")
	if want := 3*gateway.MaxNamespaceLabels + 2; rows != want { // known, new and other; in the others known and other
		t.Errorf("%d rows, want %d", rows, want)
	}
	if want := fmt.Sprintf("other known %d\nother other %d\n", gateway.MaxNamespaceLabels, gateway.MaxNamespaceLabels*(gateway.Evidence+1)); !strings.HasSuffix(e.String(), want) {
		t.Errorf("others: %s", e.String()[strings.Index(e.String(), "other "):])
	}
	none := table{gateway.NewEventTable(0, "known")}
	none.saw("new", 1000)
	none.saw("known", 1)
	none.want(t, "/a known 1\n/a other 1000\n")
}

// Who makes up names takes no label from an event that is used, however many there are.
func TestEventLabelsWhileNamesAreMadeUp(t *testing.T) {
	e := table{gateway.NewEventTable(10)}
	for i := range 100_000 {
		e.saw("made-up-"+strconv.Itoa(i), 1)
		if i%50 == 0 {
			e.saw("message", 1)
		}
	}
	if rows := strings.Count(e.String(), "\n"); rows != 2 || !strings.Contains(e.String(), "/a message ") {
		t.Errorf("%d rows: %s", rows, e)
	}
}

// A label whose event is not seen any more goes to one that is.
func TestEventLabelsAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := table{gateway.NewEventTable(2)}
		for _, event := range []string{"flood-1", "flood-2"} {
			e.saw(event, gateway.Evidence)
		}
		e.saw("message", 2*gateway.Evidence)
		e.want(t, fmt.Sprintf("/a flood-1 1\n/a flood-2 1\n/a other %d\n", 2*(gateway.Evidence-1)+2*gateway.Evidence))
		for range 20 { // minutes
			time.Sleep(time.Minute)
			e.saw("flood-2", 1) // goes on
			e.saw("message", 1)
		}
		got := e.String()
		if strings.Contains(got, "flood-1") || !strings.Contains(got, "/a flood-2 21\n") || !strings.Contains(got, "/a message ") {
			t.Errorf("after 20 minutes: %s", got)
		}
	})
}

// Nothing is lost when many count at once, and what has a label keeps it.
func TestEventTableAtOnce(t *testing.T) {
	e := gateway.NewEventTable(5, "known")
	const each, goroutines = 2000, 8
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range each {
				switch i % 3 {
				case 0:
					e.Count("/a", "known")
				case 1:
					e.Count("/b", "event-"+strconv.Itoa(rand.IntN(10)))
				default:
					e.Count("/c"+strconv.Itoa(i), "made-up")
				}
			}
		})
	}
	wg.Wait()
	total := uint64(0)
	for line := range strings.Lines(e.String()) {
		n, err := strconv.ParseUint(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != each*goroutines {
		t.Errorf("%d of %d events", total, each*goroutines)
	}
}

// To count an event costs no memory.
func TestEventTableAllocations(t *testing.T) {
	e := gateway.NewEventTable(5, "known")
	names := make([]string, 5000)
	for i := range names {
		names[i] = "made-up-" + strconv.Itoa(i)
		e.Count("/a", names[i])
	}
	e.Count("/a", "known")
	for what, f := range map[string]func(i int){
		"a known name":  func(int) { e.Count("/a", "known") },
		"made-up names": func(i int) { e.Count("/a", names[i%len(names)]) },
		"a long name":   func(int) { e.Count("/a", "0123456789012345678901234567890123456789012345678901234567890123456789") },
	} {
		i := 0
		if n := testing.AllocsPerRun(1000, func() { f(i); i++ }); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// The number of series is bounded, whatever namespaces and events clients make up, here and by way of the relay.
func TestMetricsCardinality(t *testing.T) {
	const limit = 20
	n := start(t, "RELAY=true", "NAMESPACES=/", "NAMESPACE_PATTERN=^/", "MAX_NAMESPACES=200", "METRICS_EVENTS=chat",
		fmt.Sprintf("METRICS_MAX_EVENTS=%d", limit))
	before := len(n.scrape())
	w := n.client().Open()
	p := newPeer(t, w, "/", "")
	p.join("r")
	bob := n.dial("")
	bob.join("r")
	p.presence()
	for i := range 2 * gateway.MaxNamespaceLabels {
		w.Connect(fmt.Sprintf("/made-up-%d", i), "")
	}
	const names = 10_000
	for i := range names {
		w.Send(fmt.Sprintf(`42["made-up-%d"]`, i), fmt.Sprintf(`42["publish","r","made-up-%d"]`, i))
	}
	for i := range limit + 20 { // and some that are used often
		for range 2 * gateway.Evidence {
			w.Send(fmt.Sprintf(`42["often-%d"]`, i))
		}
	}
	p.call("publish", "r", "chat")
	received := 0
	for ; received < names; received++ {
		bob.published(fmt.Sprintf("made-up-%d", received))
	}
	bob.published("chat")

	got := n.scrape()
	for series := range got {
		if strings.Contains(series, `event="made-up`) {
			t.Errorf("there is %s", series)
		}
	}
	want := samples{
		`patchbay_events_received_total{event="publish",namespace="/"}`: names + 1,
		`patchbay_emits_total{event="chat",namespace="/"}`:              1,
		`patchbay_deliveries_total{event="chat",namespace="/"}`:         1,
		`patchbay_emits_total{event="other",namespace="/"}`:             names,
	}
	for series, want := range want {
		if got[series] != want {
			t.Errorf("%s: %v, want %v", series, got[series], want)
		}
	}
	if n := got.named("patchbay_events_received_total{"); n > limit+3 {
		t.Errorf("%d series of events received", n)
	}
	if more := len(got) - before; more > 3*gateway.MaxNamespaceLabels+limit+20 {
		t.Errorf("%d series more", more)
	}
}

// named counts the series whose names begin so.
func (s samples) named(prefix string) (n int) {
	for series := range s {
		if strings.HasPrefix(series, prefix) {
			n++
		}
	}
	return n
}

// A scrape shows all rows of a table.
func TestEventCollector(t *testing.T) {
	o := new(sio.Options)
	m := gateway.CountMetrics(load(t, "METRICS_EVENTS=a,b"), o)
	n := start(t)
	n.dial("")
	s := n.socket()
	o.Hooks.Received(s, "a")
	o.Hooks.Received(s, "b")
	o.Hooks.Sent(s.Namespace(), "b", 7)
	w := httptest.NewRecorder()
	m.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`patchbay_events_received_total{event="a",namespace="/"} 1`, `patchbay_events_received_total{event="b",namespace="/"} 1`,
		`patchbay_emits_total{event="b",namespace="/"} 1`, `patchbay_deliveries_total{event="b",namespace="/"} 7`,
	} {
		if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}
