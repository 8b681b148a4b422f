package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// proxied is a cluster whose nodes each have a proxy between them and PostgreSQL.
type proxied struct {
	t       *testing.T
	server  *pgtest.Server
	pool    *pgxpool.Pool
	proxies []*redistest.Proxy
}

func (p *proxied) client() *pgxpool.Pool {
	pool, proxy := through(p.t, p.server)
	p.proxies = append(p.proxies, proxy)
	return pool
}

func (p *proxied) cut(node int) (heal func()) {
	p.proxies[node].Refuse(true)
	p.proxies[node].Cut()
	return func() { p.proxies[node].Refuse(false) }
}

// store writes a row, and returns its id.
func (p *proxied) store(row string) (id string) {
	err := p.pool.QueryRow(p.t.Context(), "INSERT INTO socket_io_attachments (payload) VALUES ($1) RETURNING id::text", []byte(row)).Scan(&id)
	if err != nil {
		p.t.Error(err)
	}
	return id
}

func (p *proxied) notify(channel string, payloads ...string) {
	for _, payload := range payloads {
		if _, err := p.pool.Exec(p.t.Context(), "SELECT pg_notify($1, $2)", channel, payload); err != nil {
			p.t.Error(err)
		}
	}
}

// hostile sends what nobody should believe.
func (p *proxied) hostile(ns string) {
	channel := postgres.ChannelName("socket.io", ns)
	p.notify(channel,
		"", " ", "{", "[", "[]", "{}", "null", `"x"`, "\x7f", strings.Repeat("[", 7000), strings.Repeat(`{"a":`, 1500),
		`{"type":99,"uid":"emitter","nsp":"`+ns+`"}`, `{"type":-1,"uid":"emitter"}`, `{"type":"3","uid":"emitter"}`, `{"type":3,"uid":"emitter"}`,
		`{"type":3,"uid":1,"data":{}}`, `{"type":3,"uid":"emitter","data":{"packet":{"type":2,"data":["ev"]},"opts":1},"nsp":"`+ns+`"}`,
		`{"type":3,"data":{"packet":{"type":2,"data":["ev"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter","nsp":"/another"}`,
		`{"type":3,"data":{"packet":{"type":2,"data":["disconnect"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter"}`,
		`{"type":6,"data":{"opts":{"rooms":["nobody"],"except":[]},"close":true},"uid":"emitter"}`,
		`{"type":8,"data":{"requestId":"1","sockets":[1]},"uid":"emitter"}`, `{"type":11,"data":{"requestId":"1","clientCount":1e300},"uid":"emitter"}`,
		`{"uid":"emitter","type":3,"attachmentId":"999999999"}`, `{"uid":"emitter","type":3,"attachmentId":"-1"}`, `{"uid":"emitter","type":3,"attachmentId":""}`,
		`{"uid":"emitter","type":3,"attachmentId":"99999999999999999999999"}`, `{"uid":"emitter","type":3,"attachmentId":1e300}`,
		`{"uid":"emitter","type":3,"attachmentId":null}`, `{"uid":"emitter","type":3,"attachmentId":"1; DROP TABLE socket_io_attachments"}`,
	)
	for _, row := range []string{
		"", "\xc1", "{", "\xdf\xff\xff\xff\xff", strings.Repeat("\x91", 1<<16), "\x84\xa4type\x03", "\xa3nsp",
		"\x83\xa4type\x03\xa3uid\xa7emitter\xa3nsp\xa8/another",
	} {
		p.notify(channel, `{"uid":"emitter","type":3,"attachmentId":"`+p.store(row)+`"}`)
	}
}

func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	adaptertest.Run(t, func(t *testing.T) adaptertest.Backend {
		s := pgtest.Start(t)
		p := &proxied{t: t, server: s, pool: s.Pool(t)}
		return adaptertest.Backend{
			Adapter: func(_ int, o adapter.Options) sio.NewAdapter {
				return postgres.New(p.client(), &postgres.Options{Cluster: o})
			},
			Cut:     p.cut,
			Hostile: p.hostile,
		}
	})
}
