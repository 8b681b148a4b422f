package postgres_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// certificate returns some certificate and its key, as PEM.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	c := srv.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TestTLS listens and publishes over TLS, where connections are closed in a way of their own.
func TestTLS(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	cert, key := certificate(t)
	s.TLS(t, cert, key)
	s.Restart(t)
	p := redistest.NewProxy(t, s.Addr())
	url := strings.Replace(strings.Replace(s.URL(), "sslmode=disable", "sslmode=require", 1), s.Addr(), p.Addr(), 1)
	a, b := newNode(l, s.Pool(t), impatient()), newNode(l, pgtest.PoolOf(t, url), impatient())
	var encrypted int
	must(t, s.Pool(t).QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_ssl WHERE ssl").Scan(&encrypted))
	if encrypted < 2 {
		t.Error(encrypted, "connections over TLS")
	}
	remote := b.Client("/")
	next := l.Eventually(a.Node, remote, 0) + 1
	b.Of("/more")
	b.AwaitUp("/more")
	p.Freeze(true)
	if err := b.AwaitDown(1); !errors.Is(err, postgres.ErrDeaf) {
		t.Error(err)
	}
	p.Freeze(false)
	b.AwaitUp("/")
	next = l.Eventually(a.Node, remote, next) + 1
	down := len(b.Downs()) + 1
	p.Cut()
	b.AwaitDown(down)
	l.Eventually(a.Node, remote, next)
}
