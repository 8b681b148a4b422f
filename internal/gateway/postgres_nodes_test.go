package gateway_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestPostgresAdapter(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	server.Exec(t, `CREATE SCHEMA "the ""bus"""`)
	f := &fleet{t: t, vars: []string{
		"ADAPTER=postgres", "POSTGRES_URL=" + server.URL(), "POSTGRES_CHANNEL_PREFIX=chat's \"own\"", `POSTGRES_SCHEMA=the "bus"`, "POSTGRES_TABLE=it's large",
		"POSTGRES_THRESHOLD=4000", "NAMESPACES=/,/chat",
	}}
	a, b := f.start(), f.start()
	talk(t, a.dial(""), b.dial(""))
	p, q := newPeer(t, b.client().Open(), "/chat", ""), newPeer(t, a.client().Open(), "/chat", "")
	talk(t, p, q)
	p.join("room")
	q.join("room")
	p.event()
	large := strings.Repeat("x", 4000)
	p.call("publish", "room", "large", large)
	p.call("publish", "room", "small", "y")
	if args, _ := q.published("large"); len(args[0]) != len(large)+2 {
		t.Errorf("got %d bytes", len(args[0]))
	}
	q.published("small")
	forwards(t, a, b)
	knowEachOther(t, b)
	if s := b.scrape(); s[`patchbay_bus_attachments_total{action="written"}`] != 1 || s[`patchbay_bus_attachment_bytes_total{action="written"}`] < 4000 {
		t.Errorf("metrics: %v", s)
	}
	if s := a.scrape(); s[`patchbay_bus_attachments_total{action="read"}`] != 1 || s[`patchbay_bus_attachment_bytes_total{action="read"}`] < 4000 ||
		s[`patchbay_bus_attachments_total{action="missed"}`] != 0 || s[`patchbay_bus_gaps_total`] != 0 {
		t.Errorf("metrics: %v", s)
	}
	b.shutdown()
	rows, err := server.Pool(t).Query(t.Context(), `SELECT tag FROM "the ""bus""".patchbay_nodes WHERE prefix = 'chat''s "own"'`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || !slices.Equal(got, []string{"node-1"}) {
		t.Errorf("registered: %q, %v", got, err)
	}
}

func TestPostgresOutage(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	f := &fleet{t: t, vars: []string{"ADAPTER=postgres", "POSTGRES_URL=" + server.URL(), "START_TIMEOUT=0"}}
	testOutage(f, server)
}

func TestPostgresDeafNode(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	f := &fleet{t: t, vars: []string{"ADAPTER=postgres"}}
	testDeafNode(f, server.Addr(), func(addr string) string {
		return "POSTGRES_URL=" + strings.ReplaceAll(server.URL(), server.Addr(), addr)
	})
}

func TestPostgresPasswordStaysSecret(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	right := server.User(t, "gateway", "right")
	server.Exec(t, "GRANT CREATE ON SCHEMA public TO gateway")
	f := &fleet{t: t, vars: []string{"ADAPTER=postgres", "LOG_LEVEL=debug"}}
	testWrongPassword(f, "POSTGRES_URL="+server.URLAs("gateway", "hunter2"), `password authentication failed for user "gateway"`)
	f.start("POSTGRES_URL=" + right)
}

// The permissions that the README names are enough, once the tables are there.
func TestPostgresPermissions(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	user := "POSTGRES_URL=" + server.User(t, "gateway", "pw")
	f := &fleet{t: t, vars: []string{"ADAPTER=postgres", "START_TIMEOUT=0", "POSTGRES_THRESHOLD=100"}}
	n := f.launch(user)
	n.notReady("bus of /: ", "socket_io_attachments", "permission denied for schema public")
	n.notReady("not registered: ", "patchbay_nodes", "permission denied for schema public")
	f.start("POSTGRES_URL=" + server.URL()).shutdown()
	server.Exec(t, "GRANT SELECT, INSERT, DELETE ON socket_io_attachments TO gateway", "GRANT USAGE ON SEQUENCE socket_io_attachments_id_seq TO gateway",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON patchbay_nodes TO gateway")
	eventually(t, "ready", func() bool { return len(n.reasons()) == 0 })
	p, q := n.dial(""), f.start(user).dial("")
	talk(t, p, q)
	p.join("room")
	q.join("room")
	p.event()
	q.call("publish", "room", "large", strings.Repeat("x", 100))
	p.published("large")
}

func TestPostgresTLS(t *testing.T) {
	siotest.LeakCheck(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, "localhost")
	read := func(file string) []byte {
		t.Helper()
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	server := pgtest.Start(t)
	server.TLS(t, read(cert), read(key))
	server.Restart(t)
	_, port, _ := strings.Cut(server.Addr(), ":")
	f := &fleet{t: t, vars: []string{"ADAPTER=postgres"}}
	f.start("POSTGRES_URL=postgres://postgres@localhost:" + port + "?sslmode=verify-full&sslrootcert=" + cert)
	f.launch("POSTGRES_URL=postgres://postgres@localhost:" + port + "?sslmode=verify-full").notReady("x509: ")
	f.launch("POSTGRES_URL=postgres://postgres@" + server.Addr() + "?sslmode=verify-full&sslrootcert=" + cert).notReady("x509: ")
}

// The standby takes over: nodes that know both go on there.
func TestPostgresFailover(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	standby := server.Standby(t)
	f := &fleet{t: t, vars: []string{
		"ADAPTER=postgres", "POSTGRES_URL=postgres://postgres@" + standby.Addr() + "," + server.Addr() + "?sslmode=disable&target_session_attrs=read-write",
	}}
	a, b := f.start(), f.start()
	p, q := a.dial(""), b.dial("")
	talk(t, p, q)
	server.Kill()
	a.notReady("bus of /: ")
	standby.Promote(t)
	eventually(t, "ready", func() bool { return len(a.reasons()) == 0 && len(b.reasons()) == 0 })
	talk(t, p, q)
}

// A pooler that gives a client another connection for each transaction cannot LISTEN.
func TestPostgresPooler(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	session, transaction := pgtest.Pooler(t, server, pgtest.SessionMode), pgtest.Pooler(t, server, pgtest.TransactionMode)
	f := &fleet{t: t, vars: []string{"ADAPTER=postgres", "START_TIMEOUT=0", "CANARY_INTERVAL=100ms", "CANARY_TIMEOUT=1s"}}
	a := f.start("POSTGRES_URL=" + session.URL())
	b := f.start("POSTGRES_URL="+transaction.URL(), "POSTGRES_LISTEN_URL="+server.URL(), "POSTGRES_THRESHOLD=100")
	p, q := a.dial(""), b.dial("")
	talk(t, p, q)
	forwards(t, a, b)
	forwards(t, b, a)
	for _, mode := range []string{"", "&default_query_exec_mode=exec"} {
		f.launch("POSTGRES_URL="+transaction.URL()+mode).notReady("bus of /: ", "LISTEN", "pooler", "transaction", "GATEWAY_POSTGRES_LISTEN_URL")
	}
	talk(t, p, q)
}
