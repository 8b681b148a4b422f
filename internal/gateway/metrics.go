package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// metrics are fed by the hooks of the server. Labels are taken from closed sets, but for namespaces and events, whose names
// clients may choose: those beyond a limit are counted as "other". What happens for each event or message finds its counter
// without a lock.
type metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger

	polling, websocket      transportMetrics
	refusals, closes        *prometheus.CounterVec
	upgraded, upgradeFailed prometheus.Counter
	upgradeSeconds          prometheus.Histogram
	queueBytes, behind      atomic.Int64
	behindSeconds           prometheus.Histogram
	dropped, slow           prometheus.Counter
	slowLogged              slowLimit

	sockets                       *prometheus.GaugeVec
	refusedConnects, disconnects  *prometheus.CounterVec
	received, sent                *eventTable
	acked, ackTimeouts            prometheus.Counter
	recovered, notRecovered       prometheus.Counter
	handlerErrors, protocolErrors prometheus.Counter
	namespaces, draining          prometheus.Gauge

	cluster *clusterMetrics
	labels  *labelSet // namespaces with a label of their own
	build   *prometheus.GaugeVec
}

// transportMetrics are those that each transport has.
type transportMetrics struct {
	sessions                                               prometheus.Gauge
	handshakes, messagesIn, messagesOut, bytesIn, bytesOut prometheus.Counter
}

func (m *metrics) transport(t eio.Transport) *transportMetrics {
	if t == eio.WebSocket {
		return &m.websocket
	}
	return &m.polling
}

func newMetrics(c *Config, h *health, log *slog.Logger) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), log: log, labels: newLabelSet(maxNamespaceLabels)}
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
	read := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "patchbay", Name: name, Help: help}, value)
	}
	limit := func(name, help string, value int) { read(name, help, func() float64 { return float64(value) }) }

	sessions := gauges("sessions", "Engine.IO sessions.", "transport")
	limit("sessions_limit", "Sessions that there may be.", c.MaxSessions)
	handshakes := counters("handshakes_total", "Sessions opened.", "transport")
	m.refusals = counters("requests_refused_total", "Requests answered with an error of the protocol, by its code; unavailable: 503.", "code")
	m.closes = counters("sessions_closed_total", "Sessions ended.", "reason")
	upgrades := counters("upgrades_total", "Upgrades from polling to WebSocket that were begun, by how they ended.", "result")
	m.upgraded, m.upgradeFailed = upgrades.WithLabelValues("upgraded"), upgrades.WithLabelValues("failed")
	m.upgradeSeconds = f.NewHistogram(prometheus.HistogramOpts{
		Namespace: "patchbay", Name: "upgrade_duration_seconds", Help: "Time from the probe to the upgrade.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
	messagesIn := counters("messages_received_total", "Engine.IO messages received.", "transport")
	messagesOut := counters("messages_sent_total", "Engine.IO messages written.", "transport")
	bytesIn := counters("received_bytes_total", "Bytes of the messages received.", "transport")
	bytesOut := counters("sent_bytes_total", "Bytes written, before compression.", "transport")
	for _, t := range []eio.Transport{eio.Polling, eio.WebSocket} {
		name := string(t)
		*m.transport(t) = transportMetrics{
			sessions: sessions.WithLabelValues(name), handshakes: handshakes.WithLabelValues(name),
			messagesIn: messagesIn.WithLabelValues(name), messagesOut: messagesOut.WithLabelValues(name),
			bytesIn: bytesIn.WithLabelValues(name), bytesOut: bytesOut.WithLabelValues(name),
		}
	}
	read("queue_bytes", "Bytes that wait to be written to clients.", func() float64 { return float64(m.queueBytes.Load()) })
	limit("client_queue_limit_bytes", "Bytes that may wait for one client.", c.MaxQueueBytes)
	read("clients_behind", "Clients for whom more than a quarter of that waits.", func() float64 { return float64(max(m.behind.Load(), 0)) })
	m.behindSeconds = f.NewHistogram(prometheus.HistogramOpts{
		Namespace: "patchbay", Name: "client_behind_duration_seconds", Help: "Time for which clients were behind, those closed for it included.",
		Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	})
	m.dropped = counter("volatile_dropped_total", "Volatile events dropped because the client was not ready.")
	m.slow = counter("slow_clients_closed_total", "Clients closed because they did not read what was sent to them.")

	m.sockets = gauges("sockets", "Sockets connected.", "namespace")
	m.refusedConnects = counters("connects_refused_total", "Clients refused by a namespace.", "namespace")
	m.disconnects = counters("disconnects_total", "Sockets disconnected.", "reason")
	inbound, outbound := slices.Clone(c.MetricsEvents), slices.Clone(c.MetricsEvents)
	if c.Relay {
		inbound, outbound = append(inbound, relayEvents...), append(outbound, presenceEvent)
	}
	m.received = newEventTable(m.labels, c.MetricsMaxEvents, inbound...)
	m.sent = newEventTable(m.labels, c.MetricsMaxEvents, outbound...)
	m.registry.MustRegister(newEventCollector(m.received, m.sent))
	acks := counters("acks_total", "Acknowledgements awaited, by how the wait ended.", "result")
	m.acked, m.ackTimeouts = acks.WithLabelValues("acked"), acks.WithLabelValues("timeout")
	recoveries := counters("recoveries_total", "Clients that asked for their former session.", "result")
	m.recovered, m.notRecovered = recoveries.WithLabelValues("recovered"), recoveries.WithLabelValues("new")
	m.handlerErrors = counter("handler_errors_total", "Errors and panics of handlers.")
	m.protocolErrors = counter("protocol_errors_total", "Connections closed because of what the client sent.")
	m.namespaces = gauge("namespaces", "Namespaces.")
	limit("child_namespaces_limit", "Namespaces that clients may make.", c.MaxChildNamespaces)
	m.draining = gauge("draining", "1 while the node sends its clients away, to end.")

	h.measure(m.registry)
	m.cluster = newClusterMetrics(c, m.registry)
	m.build = f.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "patchbay", Name: "build_info", Help: "Always 1.",
	}, []string{"version", "commit", "node"})
	m.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	// Series that exist from the start can be watched for their first increase.
	for code := eio.CodeTransportUnknown; code <= eio.CodeUnsupportedProtocol; code++ {
		m.refusals.WithLabelValues(strconv.Itoa(int(code)))
	}
	for _, label := range []string{unavailable, drainingLabel, rateLabel} {
		m.refusals.WithLabelValues(label)
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
func (m *metrics) namespace(name string) string { return m.labels.label(name) }

// count makes the server report to m, beside the hooks it has already.
func (m *metrics) count(o *sio.Options) {
	upgraded := o.Engine.Hooks.Upgraded
	o.Engine.Hooks = eio.Hooks{
		Opened: func(s *eio.Session) {
			t := m.transport(s.Transport())
			t.handshakes.Inc()
			t.sessions.Inc()
		},
		Closed: func(s *eio.Session, reason eio.CloseReason, err error) {
			m.closes.WithLabelValues(string(reason)).Inc()
			m.transport(s.Transport()).sessions.Dec() // who sees none any more sees why
			if reason == eio.ReasonSlowConsumer {
				m.slow.Inc()
				m.logSlow(s, err)
			}
		},
		Refused: func(_ *http.Request, e *eio.ConnectionError) {
			m.refusals.WithLabelValues(refusalLabel(e)).Inc()
		},
		Upgraded: func(s *eio.Session, took time.Duration) {
			m.upgraded.Inc()
			m.upgradeSeconds.Observe(took.Seconds())
			m.polling.sessions.Dec()
			m.websocket.sessions.Inc()
			if upgraded != nil {
				upgraded(s, took)
			}
		},
		UpgradeFailed: func(*eio.Session, error) { m.upgradeFailed.Inc() },
		Received: func(t eio.Transport, bytes int) {
			c := m.transport(t)
			c.messagesIn.Inc()
			c.bytesIn.Add(float64(bytes))
		},
		Sent: func(t eio.Transport, messages, bytes int) {
			c := m.transport(t)
			c.messagesOut.Add(float64(messages))
			c.bytesOut.Add(float64(bytes))
		},
		Queued: func(delta int) { m.queueBytes.Add(int64(delta)) },
		Behind: func(*eio.Session) { m.behind.Add(1) },
		CaughtUp: func(_ *eio.Session, took time.Duration) {
			m.behind.Add(-1)
			m.behindSeconds.Observe(took.Seconds())
		},
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
		Received:        func(s *sio.Socket, event string) { m.received.count(s.Namespace().Name(), event, 1) },
		Sent:            func(ns *sio.Namespace, event string, sockets int) { m.sent.count(ns.Name(), event, sockets) },
		Acked:           func(*sio.Namespace) { m.acked.Inc() },
		AckTimedOut:     func(*sio.Namespace) { m.ackTimeouts.Inc() },
		HandlerError:    func(*sio.Socket, string, error) { m.handlerErrors.Inc() },
		ProtocolError:   func(error) { m.protocolErrors.Inc() },
		NamespaceOpened: func(*sio.Namespace) { m.namespaces.Inc() },
		NamespaceClosed: func(*sio.Namespace) { m.namespaces.Dec() },
		Recovery: func(_ *sio.Namespace, recovered bool) {
			if recovered {
				m.recovered.Inc()
			} else {
				m.notRecovered.Inc()
			}
		},
	}
}

// refusedNamespace returns the label of a namespace that may not exist: a client cannot make one up.
func (m *metrics) refusedNamespace(name string) string {
	if m.labels.has(name) {
		return name
	}
	return otherLabel
}
