package postgres

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/hub"
)

// link is what the namespaces of one server share.
type link struct {
	// set at construction
	pool    *pgxpool.Pool
	opts    Options
	hub     *hub.Hub[*session, *parcel]
	table   string        // quoted
	reading chan struct{} // a token for each that reads attachments

	mu sync.Mutex
	// guarded by mu
	heard    *canary // of the last session that was up, unless nobody needed it any more
	memories map[string]*memory
}

func newLink(pool *pgxpool.Pool, opts Options) *link {
	l := &link{
		pool: pool, opts: opts, table: quotedTable(opts.Schema, opts.Table), reading: make(chan struct{}, maxReading),
		memories: map[string]*memory{},
	}
	l.hub = hub.New("postgres", opts.Timeout, func() *session { return newSession(l) }, func() *adapter.Outbox[*parcel] {
		return adapter.NewOutbox(opts.MaxQueueBytes, newPublisher(l).send)
	}, opts.Cluster.Hooks.State)
	return l
}

// hears is called when a session is up. It returns since when nothing was heard; zero if there was nothing to be heard.
func (l *link) hears(c *canary) (lost time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard != nil {
		lost = l.heard.lastHeard()
	}
	l.heard = c
	return lost
}

// publish queues p. It waits only while the queue is full.
func (l *link) publish(ctx context.Context, s *session, p *parcel) error {
	if p.size() > l.opts.MaxMessageBytes {
		return fmt.Errorf("%w to be published: %d bytes", errTooLong, p.size())
	}
	p.since = time.Now()
	return l.hub.Publish(ctx, s, p, p.size())
}

// where returns where to listen. Of several hosts none gets all the time there is: it may be one that does not answer.
func (l *link) where(ctx context.Context) (*pgx.ConnConfig, error) {
	config, err := l.listenConfig(ctx)
	if err != nil {
		return nil, err
	}
	hosts := map[string]struct{}{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))): {}}
	for _, f := range config.Fallbacks { // some are the same without TLS
		hosts[net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))] = struct{}{}
	}
	if n := len(hosts); n > 1 {
		share := l.opts.Timeout / time.Duration(n+1) // the rest is for the table
		config.ConnectTimeout = min(cmp.Or(config.ConnectTimeout, share), share)
	}
	return config, nil
}

func (l *link) listenConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	if l.opts.Listen != nil {
		return l.opts.Listen.Copy(), nil
	}
	pool := l.pool.Config()
	if pool.BeforeConnect != nil {
		if err := pool.BeforeConnect(ctx, pool.ConnConfig); err != nil {
			return nil, fmt.Errorf("postgres: before connect: %w", err)
		}
	}
	return pool.ConnConfig, nil
}
