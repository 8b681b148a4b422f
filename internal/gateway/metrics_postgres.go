package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// postgresMetrics are those that only PostgreSQL has something to tell of. They exist on every node.
type postgresMetrics struct {
	attachments, attachmentBytes *prometheus.CounterVec
	gaps, gapSeconds             prometheus.Counter
	queueUsage                   prometheus.Gauge
}

// What happens to an attachment.
const (
	attachmentWritten   = "written"
	attachmentRead      = "read"
	attachmentMissed    = "missed"
	attachmentRecovered = "recovered"
	attachmentDeleted   = "deleted"
)

func newPostgresMetrics(r *prometheus.Registry) *postgresMetrics {
	f := promauto.With(r)
	m := &postgresMetrics{
		attachments: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "patchbay", Name: "bus_attachments_total", Help: "Messages that go through a table of PostgreSQL, by what happened to them.",
		}, []string{"action"}),
		attachmentBytes: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "patchbay", Name: "bus_attachment_bytes_total", Help: "Bytes of these messages.",
		}, []string{"action"}),
		gaps: f.NewCounter(prometheus.CounterOpts{
			Namespace: "patchbay", Name: "bus_gaps_total", Help: "Times that this node may have missed notifications of PostgreSQL.",
		}),
		gapSeconds: f.NewCounter(prometheus.CounterOpts{
			Namespace: "patchbay", Name: "bus_gap_seconds_total", Help: "For how long that was.",
		}),
		queueUsage: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "patchbay", Name: "bus_notification_queue_usage_ratio", Help: "How full PostgreSQL's queue of notifications is; 1 is full.",
		}),
	}
	for _, action := range []string{attachmentWritten, attachmentRead, attachmentMissed, attachmentRecovered, attachmentDeleted} {
		m.attachments.WithLabelValues(action)
	}
	for _, action := range []string{attachmentWritten, attachmentRead} {
		m.attachmentBytes.WithLabelValues(action)
	}
	return m
}

// hooks returns what makes the adapters report to m.
func (m *postgresMetrics) hooks() postgres.Hooks {
	moved := func(action string) func(string, int) {
		count, size := m.attachments.WithLabelValues(action), m.attachmentBytes.WithLabelValues(action)
		return func(_ string, bytes int) {
			count.Inc()
			size.Add(float64(bytes))
		}
	}
	happened := func(action string) func(string) {
		count := m.attachments.WithLabelValues(action)
		return func(string) { count.Inc() }
	}
	return postgres.Hooks{
		AttachmentWritten: moved(attachmentWritten),
		AttachmentRead:    moved(attachmentRead),
		AttachmentMissed:  happened(attachmentMissed),
		Recovered:         happened(attachmentRecovered),
		Gap: func(d time.Duration) {
			m.gaps.Inc()
			m.gapSeconds.Add(d.Seconds())
		},
		QueueUsage: m.queueUsage.Set,
		Cleaned:    func(rows int64) { m.attachments.WithLabelValues(attachmentDeleted).Add(float64(rows)) },
	}
}
