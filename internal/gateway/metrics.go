package gateway

import (
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// metrics are fed by the hooks of the server. Labels are taken from closed sets, but for namespaces, which clients may
// choose: those beyond the first maxNamespaceLabels are counted as "other".
type metrics struct {
	registry *prometheus.Registry

	sessions                                   *prometheus.GaugeVec
	handshakes, refusals, closes               *prometheus.CounterVec
	upgrades                                   *prometheus.CounterVec
	upgradeSeconds                             prometheus.Histogram
	messagesIn, messagesOut, bytesIn, bytesOut *prometheus.CounterVec
	queueBytes                                 prometheus.Gauge
	dropped, slow                              prometheus.Counter

	sockets                                                  *prometheus.GaugeVec
	refusedConnects, disconnects, eventsIn, emits, eventsOut *prometheus.CounterVec
	acks, recoveries                                         *prometheus.CounterVec
	handlerErrors, protocolErrors                            prometheus.Counter
	namespaces, draining                                     prometheus.Gauge

	cluster *clusterMetrics

	mu     sync.Mutex
	labels map[string]struct{} // namespaces with a label of their own
}

const (
	maxNamespaceLabels = 50
	otherLabel         = "other"
)

// version of the build, from the module or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (info.Main.Version == "" || info.Main.Version == "(devel)") {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return info.Main.Version
}

func newMetrics(node string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), labels: make(map[string]struct{})}
	f := promauto.With(m.registry)
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Namespace: "patchbay", Name: name, Help: help})
	}
	gauges := func(name, help, label string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "patchbay", Name: name, Help: help}, []string{label})
	}

	m.sessions = gauges("sessions", "Engine.IO sessions.", "transport")
	m.handshakes = counters("handshakes_total", "Sessions opened.", "transport")
	m.refusals = counters("requests_refused_total", "Requests answered with an error of the protocol, by its code; unavailable: 503.", "code")
	m.closes = counters("sessions_closed_total", "Sessions ended.", "reason")
	m.upgrades = counters("upgrades_total", "Upgrades from polling to WebSocket that were begun, by how they ended.", "result")
	m.upgradeSeconds = f.NewHistogram(prometheus.HistogramOpts{
		Namespace: "patchbay", Name: "upgrade_duration_seconds", Help: "Time from the probe to the upgrade.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
	m.messagesIn = counters("messages_received_total", "Engine.IO messages received.", "transport")
	m.messagesOut = counters("messages_sent_total", "Engine.IO messages written.", "transport")
	m.bytesIn = counters("received_bytes_total", "Bytes of the messages received.", "transport")
	m.bytesOut = counters("sent_bytes_total", "Bytes written, before compression.", "transport")
	m.queueBytes = gauge("queue_bytes", "Bytes that wait to be written to clients.")
	m.dropped = counter("volatile_dropped_total", "Volatile events dropped because the client was not ready.")
	m.slow = counter("slow_clients_closed_total", "Clients closed because they did not read what was sent to them.")

	m.sockets = gauges("sockets", "Sockets connected.", "namespace")
	m.refusedConnects = counters("connects_refused_total", "Clients refused by a namespace.", "namespace")
	m.disconnects = counters("disconnects_total", "Sockets disconnected.", "reason")
	m.eventsIn = counters("events_received_total", "Events received.", "namespace")
	m.emits = counters("emits_total", "Events sent, a broadcast counted once.", "namespace")
	m.eventsOut = counters("deliveries_total", "Events sent, counted for each socket of this node they went to.", "namespace")
	m.acks = counters("acks_total", "Acknowledgements awaited, by how the wait ended.", "result")
	m.recoveries = counters("recoveries_total", "Clients that asked for their former session.", "result")
	m.handlerErrors = counter("handler_errors_total", "Errors and panics of handlers.")
	m.protocolErrors = counter("protocol_errors_total", "Connections closed because of what the client sent.")
	m.namespaces = gauge("namespaces", "Namespaces.")
	m.draining = gauge("draining", "1 while the node sends its clients away, to end.")

	m.cluster = newClusterMetrics(m.registry)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "patchbay", Name: "build_info", Help: "Always 1.",
	}, []string{"version", "node"}).WithLabelValues(version(), node).Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	// Series that exist from the start can be watched for their first increase.
	for _, t := range []eio.Transport{eio.Polling, eio.WebSocket} {
		m.sessions.WithLabelValues(string(t))
		for _, v := range []*prometheus.CounterVec{m.handshakes, m.messagesIn, m.messagesOut, m.bytesIn, m.bytesOut} {
			v.WithLabelValues(string(t))
		}
	}
	for code := eio.CodeTransportUnknown; code <= eio.CodeUnsupportedProtocol; code++ {
		m.refusals.WithLabelValues(strconv.Itoa(int(code)))
	}
	for _, label := range []string{unavailable, drainingLabel, rateLabel} {
		m.refusals.WithLabelValues(label)
	}
	for _, result := range []string{"upgraded", "failed"} {
		m.upgrades.WithLabelValues(result)
	}
	for _, result := range []string{"recovered", "new"} {
		m.recoveries.WithLabelValues(result)
	}
	for _, result := range []string{"acked", "timeout"} {
		m.acks.WithLabelValues(result)
	}
	return m
}

// Labels of requests that were refused for reasons of ours.
const (
	unavailable   = "unavailable"
	drainingLabel = "draining"
	rateLabel     = "rate"
)

func refusalLabel(e *eio.ConnectionError) string {
	switch {
	case errors.Is(e, eio.ErrDraining):
		return drainingLabel
	case errors.Is(e, eio.ErrHandshakeRate):
		return rateLabel
	case e.Status == http.StatusServiceUnavailable:
		return unavailable
	}
	return strconv.Itoa(int(e.Code))
}

// namespace returns the label of a namespace.
func (m *metrics) namespace(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.labels[name]; ok {
		return name
	}
	if len(m.labels) >= maxNamespaceLabels {
		return otherLabel
	}
	m.labels[name] = struct{}{}
	return name
}

// count makes the server report to m, beside the hooks it has already.
func (m *metrics) count(o *sio.Options) {
	upgraded := o.Engine.Hooks.Upgraded
	o.Engine.Hooks = eio.Hooks{
		Opened: func(s *eio.Session) {
			t := string(s.Transport())
			m.handshakes.WithLabelValues(t).Inc()
			m.sessions.WithLabelValues(t).Inc()
		},
		Closed: func(s *eio.Session, reason eio.CloseReason, _ error) {
			m.sessions.WithLabelValues(string(s.Transport())).Dec()
			m.closes.WithLabelValues(string(reason)).Inc()
			if reason == eio.ReasonSlowConsumer {
				m.slow.Inc()
			}
		},
		Refused: func(_ *http.Request, e *eio.ConnectionError) {
			m.refusals.WithLabelValues(refusalLabel(e)).Inc()
		},
		Upgraded: func(s *eio.Session, took time.Duration) {
			m.upgrades.WithLabelValues("upgraded").Inc()
			m.upgradeSeconds.Observe(took.Seconds())
			m.sessions.WithLabelValues(string(eio.Polling)).Dec()
			m.sessions.WithLabelValues(string(eio.WebSocket)).Inc()
			if upgraded != nil {
				upgraded(s, took)
			}
		},
		UpgradeFailed: func(*eio.Session, error) { m.upgrades.WithLabelValues("failed").Inc() },
		Received: func(t eio.Transport, bytes int) {
			m.messagesIn.WithLabelValues(string(t)).Inc()
			m.bytesIn.WithLabelValues(string(t)).Add(float64(bytes))
		},
		Sent: func(t eio.Transport, messages, bytes int) {
			m.messagesOut.WithLabelValues(string(t)).Add(float64(messages))
			m.bytesOut.WithLabelValues(string(t)).Add(float64(bytes))
		},
		Queued:  func(delta int) { m.queueBytes.Add(float64(delta)) },
		Dropped: func(*eio.Session) { m.dropped.Inc() },
	}
	o.Hooks = sio.Hooks{
		Connected: func(s *sio.Socket) { m.sockets.WithLabelValues(m.namespace(s.Namespace().Name())).Inc() },
		Disconnected: func(s *sio.Socket, reason sio.Reason) {
			m.disconnects.WithLabelValues(string(reason)).Inc()
			m.sockets.WithLabelValues(m.namespace(s.Namespace().Name())).Dec() // last: who sees none any more sees why
		},
		Refused: func(name string, err error) {
			m.refusedConnects.WithLabelValues(m.refusedNamespace(name)).Inc()
		},
		Received: func(s *sio.Socket, _ string) {
			m.eventsIn.WithLabelValues(m.namespace(s.Namespace().Name())).Inc()
		},
		Sent: func(ns *sio.Namespace, _ string, sockets int) {
			label := m.namespace(ns.Name())
			m.emits.WithLabelValues(label).Inc()
			m.eventsOut.WithLabelValues(label).Add(float64(sockets))
		},
		Acked:           func(*sio.Namespace) { m.acks.WithLabelValues("acked").Inc() },
		AckTimedOut:     func(*sio.Namespace) { m.acks.WithLabelValues("timeout").Inc() },
		HandlerError:    func(*sio.Socket, string, error) { m.handlerErrors.Inc() },
		ProtocolError:   func(error) { m.protocolErrors.Inc() },
		NamespaceOpened: func(*sio.Namespace) { m.namespaces.Inc() },
		NamespaceClosed: func(*sio.Namespace) { m.namespaces.Dec() },
		Recovery: func(_ *sio.Namespace, recovered bool) {
			result := "new"
			if recovered {
				result = "recovered"
			}
			m.recoveries.WithLabelValues(result).Inc()
		},
	}
}

// refusedNamespace returns the label of a namespace that may not exist: a client cannot make one up.
func (m *metrics) refusedNamespace(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.labels[name]; ok {
		return name
	}
	return otherLabel
}
