package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// tableSQL is what official servers have their users create.
const tableSQL = `CREATE TABLE socket_io_attachments (
	id         bigserial UNIQUE,
	created_at timestamptz DEFAULT NOW(),
	payload    bytea
)`

// ear hears the notifications of channels, and reads attachments.
type ear struct {
	t     testing.TB
	conn  *pgx.Conn
	table string
}

func dial(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func listen(t testing.TB, s *pgtest.Server, channels ...string) *ear {
	t.Helper()
	e := &ear{t, dial(t, s.URL()), "socket_io_attachments"}
	for _, c := range append(channels, "mark") {
		e.exec("LISTEN " + pgx.Identifier{c}.Sanitize())
	}
	return e
}

func (e *ear) exec(sql string) {
	e.t.Helper()
	_, err := e.conn.Exec(e.t.Context(), sql)
	must(e.t, err)
}

// next waits for a notification.
func (e *ear) next() (channel, payload string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 10*time.Second)
	defer cancel()
	n, err := e.conn.WaitForNotification(ctx)
	must(e.t, err)
	return n.Channel, n.Payload
}

// all returns what has been notified so far.
func (e *ear) all() (payloads []string) {
	e.t.Helper()
	e.exec("NOTIFY mark")
	for {
		channel, payload := e.next()
		if channel == "mark" {
			return payloads
		}
		payloads = append(payloads, payload)
	}
}

// message waits for a message of namespace ns, and returns it as a node gets it: with the payload, and the row if there is one.
func (e *ear) message(prefix, ns string) (m *adapter.Message, payload string, row []byte) {
	e.t.Helper()
	channel, payload := e.next()
	if want := postgres.ChannelName(prefix, ns); channel != want {
		e.t.Errorf("%.100q came on %q, want %q", payload, channel, want)
	}
	w := postgres.NewWire(prefix, ns, "me", 0)
	in, err := w.Parse(payload)
	must(e.t, err)
	if in.Message != nil {
		if len(payload) > 7999 || !strings.HasSuffix(strings.TrimRight(payload, " \t\r\n"), "}") {
			e.t.Errorf("payload of %d bytes: %.50q", len(payload), payload)
		}
		return in.Message, payload, nil
	}
	must(e.t, e.conn.QueryRow(e.t.Context(), "SELECT payload FROM "+e.table+" WHERE id = $1", in.ID).Scan(&row))
	m, named, err := w.ParseRow(row)
	must(e.t, err)
	if !named || in.From != m.From || in.Type != m.Type {
		e.t.Errorf("%v: %+v %v", in, m, named)
	}
	return m, payload, row
}
