package gateway

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// clusterMetrics are those of what ties nodes together. They exist on a node that is alone, too.
type clusterMetrics struct {
	buses                                 *prometheus.GaugeVec
	restarts, publishErrors, receiveDrops *prometheus.CounterVec
	published, received                   typeCounters
	publishedBytes, receivedBytes         prometheus.Counter
	publishSeconds, lagSeconds            prometheus.Histogram
	requests                              *prometheus.CounterVec
	requestSeconds                        *prometheus.HistogramVec
	nodes                                 *prometheus.GaugeVec
	peers                                 prometheus.Gauge
	forwards, peerRequests                *prometheus.CounterVec
	forwardSeconds                        prometheus.Histogram
	heard                                 atomic.Int64 // when the last canary was; Unix ns, 0: never
	postgres                              *postgresMetrics
	configured                            []string // namespaces
}

// typeCounters have a counter for each type of message, found without a lock.
type typeCounters [adapter.AllSocketsResponse + 1]prometheus.Counter

func (c *typeCounters) inc(t adapter.Type) {
	if t > 0 && int(t) < len(c) {
		c[t].Inc()
	}
}

const up, down = "up", "down"

// questions are the types of messages that others answer.
var questions = []adapter.Type{adapter.Broadcast, adapter.FetchSockets, adapter.ServerSideEmit}

func newClusterMetrics(c *Config, r *prometheus.Registry) *clusterMetrics {
	m := &clusterMetrics{configured: c.Namespaces}
	f := promauto.With(r)
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help})
	}
	gauges := func(name, help, label string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "patchbay", Name: name, Help: help}, []string{label})
	}
	opts := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Namespace: "patchbay", Name: name, Help: help, Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}
	}
	m.buses = gauges("buses", "Namespaces, by whether their connection to other nodes works.", "state")
	m.restarts = counters("bus_restarts_total", "Connections to other nodes that were lost, or deaf, and are made anew.", "namespace")
	published := counters("bus_published_total", "Messages sent to other nodes.", "type")
	m.publishedBytes = counter("bus_published_bytes_total", "Bytes sent to other nodes.")
	m.publishErrors = counters("bus_publish_errors_total", "Messages that other nodes did not get.", "namespace")
	m.publishSeconds = f.NewHistogram(opts("bus_publish_duration_seconds", "Time until a message was taken, its wait to be sent included."))
	received := counters("bus_received_total", "Messages of other nodes.", "type")
	m.receivedBytes = counter("bus_received_bytes_total", "Bytes of other nodes.")
	m.receiveDrops = counters("bus_dropped_total", "Messages of other nodes that were not used: malformed, or too many requests at a time.", "namespace")
	m.lagSeconds = f.NewHistogram(opts("bus_lag_seconds", "Time from sending a message to hearing it, measured by a canary."))
	m.requests = counters("bus_requests_total", "Requests to other nodes, by how they ended.", "type", "result")
	m.requestSeconds = f.NewHistogramVec(opts("bus_request_duration_seconds", "Time until all nodes had answered, or for which they were waited for."), []string{"type"})
	m.nodes = gauges("nodes", "Nodes that take part in a namespace, this one included.", "namespace")
	m.peers = f.NewGauge(prometheus.GaugeOpts{Namespace: "patchbay", Name: "peers", Help: "Gateways that are registered, this one included."})
	m.forwards = counters("forwarded_requests_total", "Requests of clients for sessions of other nodes.", "result")
	m.forwardSeconds = f.NewHistogram(opts("forwarded_request_duration_seconds", "Time until the owner of the session answered; a poll waits for an event."))
	m.peerRequests = counters("peer_requests_total", "Requests that came by way of other nodes.", "result")
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "patchbay", Name: "bus_canary_age_seconds", Help: "Time since the last canary was heard; 0 if none was yet.",
	}, m.canaryAge)
	f.NewGauge(prometheus.GaugeOpts{
		Namespace: "patchbay", Name: "bus_canary_timeout_seconds", Help: "Age of the last canary from which on the node is deaf.",
	}).Set(c.CanaryTimeout.Seconds())
	m.postgres = newPostgresMetrics(r)

	// Series that exist from the start can be watched for their first increase.
	for _, state := range []string{up, down} {
		m.buses.WithLabelValues(state)
	}
	for t := adapter.InitialHeartbeat; t <= adapter.AllSocketsResponse; t++ {
		m.published[t], m.received[t] = published.WithLabelValues(t.String()), received.WithLabelValues(t.String())
	}
	for _, t := range questions {
		m.requestSeconds.WithLabelValues(t.String())
		for _, result := range []string{"complete", "partial", "failed"} {
			m.requests.WithLabelValues(t.String(), result)
		}
	}
	for _, r := range peers.Results {
		m.forwards.WithLabelValues(string(r))
	}
	for _, result := range []string{"accepted", "refused"} {
		m.peerRequests.WithLabelValues(result)
	}
	return m
}

// namespace makes the series of a configured namespace exist.
func (m *clusterMetrics) namespace(label string) {
	for _, v := range []*prometheus.CounterVec{m.restarts, m.publishErrors, m.receiveDrops} {
		v.WithLabelValues(label)
	}
	m.nodes.WithLabelValues(label).Set(1)
}

func (m *clusterMetrics) canaryAge() float64 {
	at := m.heard.Load()
	if at == 0 {
		return 0
	}
	return time.Since(time.Unix(0, at)).Seconds()
}

// hooks returns what makes the adapters report to m. all has the labels of namespaces.
func (m *clusterMetrics) hooks(all *metrics) adapter.Hooks {
	states := &busStates{gauge: m.buses, up: make(map[string]bool)}
	return adapter.Hooks{
		State: func(ns string, err error) {
			if states.set(ns, err == nil) {
				m.restarts.WithLabelValues(all.namespace(ns)).Inc()
			}
		},
		Closed: states.forget,
		Published: func(_ string, t adapter.Type, bytes int, d time.Duration) {
			m.published.inc(t)
			m.publishedBytes.Add(float64(bytes))
			m.publishSeconds.Observe(d.Seconds())
		},
		PublishFailed: func(ns string, _ adapter.Type, _ error) { m.publishErrors.WithLabelValues(all.namespace(ns)).Inc() },
		Received: func(_ string, t adapter.Type, bytes int) {
			m.received.inc(t)
			m.receivedBytes.Add(float64(bytes))
		},
		Dropped: func(ns string, _ error) { m.receiveDrops.WithLabelValues(all.namespace(ns)).Inc() },
		Request: func(_ string, t adapter.Type, d time.Duration, err error) {
			result := "complete"
			if _, ok := errors.AsType[*adapter.PartialError](err); ok {
				result = "partial"
			} else if err != nil {
				result = "failed"
			}
			m.requests.WithLabelValues(t.String(), result).Inc()
			m.requestSeconds.WithLabelValues(t.String()).Observe(d.Seconds())
		},
		Lag: func(d time.Duration) {
			m.heard.Store(time.Now().UnixNano())
			m.lagSeconds.Observe(d.Seconds())
		},
		Nodes: func(ns string, n int) {
			if slices.Contains(m.configured, ns) { // those made on demand are counted too seldom to be compared
				m.nodes.WithLabelValues(all.namespace(ns)).Set(float64(n))
			}
		},
	}
}

func (m *clusterMetrics) forwarded(r peers.Result, d time.Duration) {
	m.forwards.WithLabelValues(string(r)).Inc()
	if r == peers.Forwarded {
		m.forwardSeconds.Observe(d.Seconds())
	}
}

func (m *clusterMetrics) accepted(err error) {
	result := "accepted"
	if err != nil {
		result = "refused"
	}
	m.peerRequests.WithLabelValues(result).Inc()
}

// busStates counts the namespaces whose bus is up, and those whose is not.
type busStates struct {
	gauge *prometheus.GaugeVec

	mu sync.Mutex
	// guarded by mu
	up map[string]bool
}

// set takes over the state of a namespace and tells whether it has lost its bus.
func (s *busStates) set(ns string, now bool) (lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.up[ns]
	s.up[ns] = now
	if known {
		s.gauge.WithLabelValues(stateLabel(before)).Dec()
	}
	s.gauge.WithLabelValues(stateLabel(now)).Inc()
	return before && !now
}

func (s *busStates) forget(ns string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, known := s.up[ns]; known {
		s.gauge.WithLabelValues(stateLabel(before)).Dec()
		delete(s.up, ns)
	}
}

func stateLabel(isUp bool) string {
	if isUp {
		return up
	}
	return down
}
