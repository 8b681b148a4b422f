package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// maxBackendMessage bounds what PostgreSQL may say at once: it has notifications of 8,000 bytes, and errors, to tell.
const maxBackendMessage = 1 << 20

// keepAlive notices within half a minute that the other end is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

var errEncoding = errors.New("postgres: the encoding of the database is not UTF8")

// listener is the listening connection. One goroutine reads, another writes: neither has to be interrupted for the other.
type listener struct {
	conn net.Conn
	raw  net.Conn // the same, below TLS

	// owned by the reader
	front  *pgproto3.Frontend
	values []string // of the exchange under way
	err    error    // the same

	buf []byte // owned by the writer
}

// dialListener connects, and listens to a channel.
func dialListener(ctx context.Context, config *pgx.ConnConfig, channel string) (*listener, error) {
	conn, err := pgconn.ConnectConfig(ctx, &config.Config)
	if err != nil {
		return nil, fmt.Errorf("postgres: connect: %w", err)
	}
	fail := func(err error) (*listener, error) {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	switch encoding := conn.ParameterStatus("server_encoding"); encoding {
	case "UTF8", "SQL_ASCII":
	default:
		return fail(fmt.Errorf("%w: %s", errEncoding, encoding))
	}
	if err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()).Close(); err != nil {
		return fail(fmt.Errorf("postgres: listen: %w", err))
	}
	taken, err := conn.Hijack()
	if err != nil {
		return fail(fmt.Errorf("postgres: connect: %w", err))
	}
	l := &listener{conn: taken.Conn, raw: taken.Conn, front: taken.Frontend}
	if t, ok := l.raw.(*tls.Conn); ok {
		l.raw = t.NetConn()
	}
	if t, ok := l.raw.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(keepAlive) // the canary notices the same, later
	}
	l.front.SetMaxBodyLen(maxBackendMessage)
	return l, nil
}

// close does not say goodbye, which might block.
func (l *listener) close() { _ = l.raw.Close() }

// receive reads one message.
func (l *listener) receive(s *session) error {
	got, err := l.front.Receive()
	if err != nil {
		return err
	}
	switch got := got.(type) {
	case *pgproto3.NotificationResponse:
		s.notified(got.Channel, got.Payload)
	case *pgproto3.DataRow:
		if len(got.Values) > 0 {
			l.values = append(l.values, string(got.Values[0]))
		}
	case *pgproto3.ErrorResponse:
		err := pgconn.ErrorResponseToPgError(got)
		if isFatal(err) {
			return err
		}
		l.err = err
	case *pgproto3.ReadyForQuery:
		values, err := l.values, l.err
		l.values, l.err = nil, nil
		s.answered(values, err)
	default: // notices, and what is settled by the end of the exchange
	}
	return nil
}

// send sends commands as one simple query: one transaction, one answer.
func (l *listener) send(commands []*command, timeout time.Duration) error {
	var sql strings.Builder
	for _, c := range commands {
		sql.WriteString(c.sql)
		sql.WriteByte(';')
	}
	b, err := (&pgproto3.Query{String: sql.String()}).Encode(l.buf[:0])
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	l.buf = b
	if err := l.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
