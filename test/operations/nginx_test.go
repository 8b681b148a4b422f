package operations_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// nothingInFiles fails the test if nginx had to write a body to a file, which it warns of, or has written anything else that is
// neither a node that is not there nor a client that is refused.
func nothingInFiles(f *front) {
	for line := range strings.Lines(f.read("error.log")) {
		if strings.Contains(line, "[emerg]") || strings.Contains(line, "temporary file") {
			f.l.t.Error(line)
		}
	}
}

func (f *front) read(name string) string {
	f.l.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.l.t.Fatal(err)
	}
	return string(data)
}

// entry is a line of the access log.
type entry struct {
	Time, Method, Path, Transport, Tag, Upgrade string
	RemoteAddr                                  string  `json:"remote_addr"`
	Status                                      int     `json:"status"`
	RequestTime                                 float64 `json:"request_time"`
	UpstreamAddr                                string  `json:"upstream_addr"`
}

// logged waits for a line of the access log.
func (f *front) logged(what string, is func(entry) bool) {
	f.l.t.Helper()
	eventually(f.l.t, "logged: "+what, func() bool {
		found := false
		for line := range strings.Lines(f.read("access.log")) {
			if !strings.HasSuffix(line, "\n") {
				break // not all of it
			}
			var e entry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				f.l.t.Fatalf("%v: %s", err, line)
			}
			found = found || is(e)
		}
		return found
	})
}

// TestNginxReload reloads nginx under load, and loses nothing.
func TestNginxReload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for i := 1; i <= 3; i++ {
		l.start(i)
	}
	f := startNginx(l)
	c := startClients(t, f.base)
	c.open(5)
	c.call("start", nil, nil)
	text := `"ok\n"`
	for i := range 5 {
		next := fmt.Sprintf(`"ok %d\n"`, i)
		f.edit("patchbay-locations.conf", text, next)
		text = next
		f.Signal(syscall.SIGHUP)
		eventually(t, "reloaded", func() bool {
			return f.do(http.MethodGet, f.base+"/nginx-health", nil, nil).Body == fmt.Sprintf("ok %d\n", i)
		})
		var before, now int
		c.call("acked", nil, &before)
		eventually(t, "clients are served", func() bool {
			c.call("acked", nil, &now)
			return now > before+100
		})
	}
	var failed []string
	if c.call("stop", nil, &failed); len(failed) > 0 {
		t.Errorf("%d requests failed: %.10q", len(failed), failed)
	}
	c.quiet("")
	c.call("talk", 2, nil)

	f.logged("a poll", func(e entry) bool {
		return e.Status == 200 && e.Tag == "gateway-1" && e.RequestTime > 0.5 && e.UpstreamAddr == l.addr(1, l.public)
	})
	if text := f.read("access.log"); strings.Contains(text, "sid") || strings.Contains(text, "EIO") {
		t.Error("the log tells session ids")
	}
	nothingInFiles(f)
	own := fmt.Sprintf("http://127.0.0.1:%d", f.status)
	if r := f.do(http.MethodGet, own+"/nginx-status", nil, nil); r.Status != http.StatusOK || !strings.Contains(r.Body, "Active connections") {
		t.Errorf("status page: %d %s", r.Status, r.Body)
	}
	if r := f.do(http.MethodGet, f.base+"/nginx-status", nil, nil); r.Status != http.StatusNotFound {
		t.Errorf("the status page is open to clients: %d %s", r.Status, r.Body)
	}
	if r := f.do(http.MethodGet, own+"/socket.io/", nil, nil); r.Status != http.StatusNotFound {
		t.Errorf("clients may connect to the address of the status page: %d %s", r.Status, r.Body)
	}
}

// TestNginxLimits goes beyond what one address may do, without waiting for the others.
func TestNginxLimits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(1)
	f := startNginx(l)

	greedy := burst(f, true, 1000)
	s := &day{t: t, l: l, f: f}
	for range 30 { // another address
		if _, r := s.handshake(); r.Status != http.StatusOK {
			t.Fatalf("handshake: %d %s", r.Status, r.Body)
		}
	}
	c := siotest.New(t, "http://"+l.addr(1, l.public), "/socket.io/")
	c.Handshake()
	c.Base = f.base
	for range 1200 { // the requests of a session, from the address that may open none
		r, err := greedy.Post(c.URL("polling"), "text/plain", strings.NewReader("4"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if r.StatusCode == http.StatusTooManyRequests {
			t.Fatal("the request of a session was refused")
		}
	}

	// The limit of connections, which is 5000, is made 3.
	f = l.nginx("patchbay-nodes.conf")
	f.edit("patchbay-locations.conf", "patchbay_connections 5000", "patchbay_connections 3")
	f.runNginx(program(t, "nginx"))
	for i := range 5 {
		conn, r, err := websocket.Dial(t.Context(), strings.Replace(f.url("transport", "websocket"), "http", "ws", 1), &websocket.DialOptions{HTTPClient: from("127.0.0.3")})
		switch {
		case i < 3 && err != nil:
			t.Fatal(err)
		case i < 3:
			defer conn.CloseNow()
		case r == nil || r.StatusCode != http.StatusTooManyRequests:
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// TestNginxBehindProxy takes the client's address from the proxy before it, as the comments say.
func TestNginxBehindProxy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(1)
	for name, pairs := range map[string][]string{
		"header": {
			"#set_real_ip_from  10.0.0.0/8", "set_real_ip_from 127.0.0.0/8",
			"#real_ip_header    X-F", "real_ip_header X-F", "#real_ip_recursive", "real_ip_recursive",
		},
		"protocol": {
			"#set_real_ip_from 10.0.0.0/8", "set_real_ip_from 127.0.0.0/8", "#real_ip_header   proxy", "real_ip_header proxy",
			"backlog=4096;", "backlog=4096 proxy_protocol;",
		},
	} {
		f := l.nginx("patchbay-nodes.conf")
		f.edit("patchbay.conf", pairs...)
		f.runNginx(program(t, "nginx"))
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		header := "X-Forwarded-For: 203.0.113.7, 198.51.100.9\r\n"
		if name == "protocol" {
			header = "X-Forwarded-For: 203.0.113.7\r\n"
			_, _ = conn.Write([]byte("PROXY TCP4 198.51.100.9 127.0.0.1 12345 80\r\n")) // what fails is seen below
		}
		_, _ = fmt.Fprintf(conn, "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", header)
		if got, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200 ")) {
			t.Errorf("%s: %v %s", name, err, got)
		}
		f.logged(name, func(e entry) bool { return e.Status == 200 && e.RemoteAddr == "198.51.100.9" })
	}
}

func TestNginxTLS(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(1)
	f := l.nginx("patchbay-nodes.conf")
	port, err := daemon.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	roots := writeCertificate(t, f.dir)
	f.install("nginx/tls.conf", "/etc/nginx/tls", f.dir, "/var/log/nginx", f.dir, "listen 8443 ", fmt.Sprintf("listen 127.0.0.1:%d ", port))
	f.edit("nginx.conf", "include patchbay.conf;", "include patchbay.conf;\ninclude tls.conf;")
	f.runNginx(program(t, "nginx"))

	config := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	base := "https://127.0.0.1:" + strconv.Itoa(port)
	for i := range 2 {
		tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		r, err := (&http.Client{Transport: tr, Timeout: siotest.Patience}).Get(base + "/socket.io/?EIO=4&transport=polling")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		tr.CloseIdleConnections()
		if r.StatusCode != http.StatusOK || r.ProtoMajor != 2 || r.TLS.Version != tls.VersionTLS13 || r.TLS.DidResume != (i > 0) {
			t.Errorf("connection %d: %s %s %s, resumed %v", i, r.Proto, r.Status, body, r.TLS.DidResume)
		}
	}
	tr := &http.Transport{TLSClientConfig: config.Clone()} // HTTP/1.1, as browsers do for WebSockets
	defer tr.CloseIdleConnections()
	conn, _, err := websocket.Dial(t.Context(), base+"/socket.io/?EIO=4&transport=websocket", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if _, data, err := conn.Read(t.Context()); err != nil || !bytes.HasPrefix(data, []byte(`0{"sid":`)) {
		t.Errorf("WebSocket: %v %s", err, data)
	}
	old := config.Clone()
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	if c, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots
}

// TestNginxFiles asks nginx about the files that no other test has it read. Debian's does not know stickiness of its own: it
// is asked about the rest of that file.
func TestNginxFiles(t *testing.T) {
	t.Parallel()
	l := &lab{t: t, prefix: "127.1.1.", public: 3000}
	f := l.nginx("sticky.conf")
	f.edit("nginx.conf", "patchbay-nodes.conf", "sticky.conf")
	name := program(t, "nginx")
	if sticky := os.Getenv("BALANCERS_NGINX_STICKY"); sticky != "" {
		name = sticky
	} else {
		text := regexp.MustCompile(` route=\S+|\n\s*sticky .*;`).ReplaceAllString(f.read("sticky.conf"), "")
		f.write(filepath.Join(f.dir, "sticky.conf"), text, nil)
	}
	ctx, cancel := context.WithTimeout(t.Context(), siotest.Patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, "-t", "-p", f.dir, "-c", f.dir+"/nginx.conf", "-e", "stderr").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
