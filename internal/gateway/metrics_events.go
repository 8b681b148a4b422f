package gateway

import (
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxNamespaceLabels = 50
	maxNamespaceLabel  = 128 // bytes of a name that may be a label
	otherLabel         = "other"

	maxEventLabel = 64  // bytes of a name that may be a label
	maxEvents     = 100 // names in GATEWAY_METRICS_EVENTS
	// evidence is how often an event has to be seen before it gets a label. Who makes up names, with an id in each, say,
	// uses most of them once or twice.
	evidence = 10
	// maxCandidates bounds the names that are counted for that. When there are more all are forgotten: what is at least one in
	// a hundred of the events of unknown names gets its label all the same.
	maxCandidates = 1000
	// retirement is how long an event has not been seen when another may have its label.
	retirement = 10 * time.Minute
)

// eventTable counts events by namespace and name, one way: those of clients, or those to them. A name may come from a client,
// so only these have a label of their own: the known ones, and a bounded number of those that are seen often. All others are
// counted as "other".
//
// To count takes neither lock nor memory, but for names without a label, which take a lock if they find it free.
type eventTable struct {
	// set at construction
	namespaces *labelSet
	known      map[string]struct{} // names that have a label in every namespace that has one
	max        int                 // labels of other names: each is a namespace and a name
	seed       maphash.Seed

	rows atomic.Pointer[map[eventKey]*eventRow] // a map is never written to, but replaced by one with more, or fewer

	mu sync.Mutex
	// guarded by mu
	candidates map[uint64]int // how often names without a label were seen, by their hash
	given      int            // labels of names that are not known
	retired    time.Time      // when a label was last looked for that may be given to another
}

type eventKey struct{ namespace, event string }

// eventRow has the counters of an event.
type eventRow struct {
	eventKey
	lasting bool // a known event, or the others

	events, sockets atomic.Uint64

	// guarded by eventTable.mu
	seen  uint64    // events, when they were last looked at
	since time.Time // since when there are so many
}

func newEventTable(namespaces *labelSet, limit int, known ...string) *eventTable {
	t := &eventTable{namespaces: namespaces, known: make(map[string]struct{}), max: limit, seed: maphash.MakeSeed(), candidates: make(map[uint64]int)}
	for _, name := range known {
		t.known[name] = struct{}{}
	}
	t.rows.Store(&map[eventKey]*eventRow{})
	return t
}

// count counts an event in a namespace, and the sockets that it went to.
func (t *eventTable) count(namespace, event string, sockets int) {
	var r *eventRow
	if len(event) <= maxEventLabel {
		r = (*t.rows.Load())[eventKey{namespace, event}]
	}
	if r == nil {
		r = t.find(namespace, event)
	}
	r.events.Add(1)
	r.sockets.Add(uint64(sockets)) //nolint:gosec // never negative
}

// find returns the row of an event that is seen for the first time, or has no label of its own.
func (t *eventTable) find(namespace, event string) *eventRow {
	key := eventKey{t.namespaces.label(namespace), event}
	_, known := t.known[event]
	if !known && (key.namespace == otherLabel || t.max == 0 || !isEventLabel(event)) {
		key.event = otherLabel
	}
	rows := *t.rows.Load()
	if r := rows[key]; r != nil {
		return r
	}
	if known || key.event == otherLabel {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.addLocked(key, true)
	}
	other := rows[eventKey{key.namespace, otherLabel}]
	if other == nil {
		t.mu.Lock()
	} else if !t.mu.TryLock() { // another event is looked at: to wait would cost more than this one's evidence is worth
		return other
	}
	defer t.mu.Unlock()
	if t.convincedLocked(key) {
		return t.addLocked(key, false)
	}
	return t.addLocked(eventKey{key.namespace, otherLabel}, true)
}

// isEventLabel tells whether a name can be a label.
func isEventLabel(name string) bool {
	return name != "" && name != otherLabel && len(name) <= maxEventLabel && utf8.ValidString(name)
}

// convincedLocked takes the evidence of an event, and tells whether it should have a label now, which there is then.
func (t *eventTable) convincedLocked(key eventKey) bool {
	hash := maphash.Comparable(t.seed, key)
	if len(t.candidates) >= maxCandidates {
		clear(t.candidates)
	}
	t.candidates[hash]++
	if t.candidates[hash] < evidence || t.given >= t.max && !t.retireLocked() {
		return false
	}
	delete(t.candidates, hash)
	return true
}

// retireLocked takes the label of an event that is not seen any more. It looks for one at most once a second.
func (t *eventTable) retireLocked() bool {
	now := time.Now()
	if now.Sub(t.retired) < time.Second {
		return false
	}
	t.retired = now
	for key, r := range *t.rows.Load() {
		switch n := r.events.Load(); {
		case r.lasting:
		case n != r.seen:
			r.seen, r.since = n, now
		case now.Sub(r.since) >= retirement:
			rows := maps.Clone(*t.rows.Load())
			delete(rows, key) // who has found it a moment ago counts in vain
			t.rows.Store(&rows)
			t.given--
			return true
		}
	}
	return false
}

// addLocked returns the row of key, which is new if there was none.
func (t *eventTable) addLocked(key eventKey, lasting bool) *eventRow {
	if r := (*t.rows.Load())[key]; r != nil {
		return r
	}
	rows := maps.Clone(*t.rows.Load())
	key = eventKey{strings.Clone(key.namespace), strings.Clone(key.event)} // without the packets that they are part of
	r := &eventRow{eventKey: key, lasting: lasting, since: time.Now()}
	rows[key] = r
	t.rows.Store(&rows)
	if !lasting {
		t.given++
	}
	return r
}

// eventCollector shows what tables have counted.
type eventCollector struct {
	received, sent            *eventTable
	events, emits, deliveries *prometheus.Desc
}

func newEventCollector(received, sent *eventTable) *eventCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("patchbay", "", name), help, []string{"namespace", "event"}, nil)
	}
	return &eventCollector{
		received: received, sent: sent,
		events:     desc("events_received_total", "Events received."),
		emits:      desc("emits_total", "Events sent, a broadcast counted once."),
		deliveries: desc("deliveries_total", "Events sent, counted for each socket of this node they went to."),
	}
}

// Describe implements prometheus.Collector.
func (c *eventCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.events
	ch <- c.emits
	ch <- c.deliveries
}

// Collect implements prometheus.Collector.
func (c *eventCollector) Collect(ch chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, r *eventRow, n *atomic.Uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()), r.namespace, r.event)
	}
	for _, r := range *c.received.rows.Load() {
		show(c.events, r, &r.events)
	}
	for _, r := range *c.sent.rows.Load() {
		show(c.emits, r, &r.events)
		show(c.deliveries, r, &r.sockets)
	}
}

// labelSet gives the first max values a label of their own. To look one up takes no lock.
type labelSet struct {
	// set at construction
	max int

	values atomic.Pointer[map[string]struct{}] // a map is never written to

	mu sync.Mutex // held while values is replaced
}

func newLabelSet(limit int) *labelSet {
	s := &labelSet{max: limit}
	s.values.Store(&map[string]struct{}{})
	return s
}

// has tells whether a value has a label of its own.
func (s *labelSet) has(value string) bool {
	_, ok := (*s.values.Load())[value]
	return ok
}

// label returns the label of a value, which gets one of its own if there are any left.
func (s *labelSet) label(value string) string {
	if s.has(value) {
		return value
	}
	if len(*s.values.Load()) >= s.max || len(value) > maxNamespaceLabel || !utf8.ValidString(value) {
		return otherLabel
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.has(value):
		return value
	case len(*s.values.Load()) >= s.max:
		return otherLabel
	}
	values := maps.Clone(*s.values.Load())
	values[strings.Clone(value)] = struct{}{}
	s.values.Store(&values)
	return value
}
