package gateway_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// The build may have no bundle: a checkout whose `make client` has not run. The tests hold either way.
func bundleFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	entries, err := os.ReadDir("client/dist")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join("client/dist", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = data
	}
	return files
}

var bundleNames = []string{
	"socket.io.js", "socket.io.js.map", "socket.io.min.js", "socket.io.min.js.map", "socket.io.esm.min.js", "socket.io.esm.min.js.map",
	"socket.io.msgpack.min.js", "socket.io.msgpack.min.js.map",
}

func TestClientBundle(t *testing.T) {
	files := bundleFiles(t)
	if len(files) != 0 && len(files) != len(bundleNames) {
		t.Errorf("half a bundle: %d files", len(files))
	}
	manifest, err := os.ReadFile("client/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var pkg struct{ Dependencies map[string]string }
	if err := json.Unmarshal(manifest, &pkg); err != nil {
		t.Fatal(err)
	}
	etag := `"` + pkg.Dependencies["socket.io-client"] + `"`
	n := start(t)
	if warned := strings.Contains(n.log.String(), "no_client_bundle"); warned != (len(files) == 0) {
		t.Errorf("warned of a missing bundle: %v", warned)
	}
	for _, name := range bundleNames {
		addr := n.public + "/socket.io/" + name
		data := files[name]
		if data == nil {
			if r := n.get(addr); r.Status != http.StatusBadRequest || r.Body != `{"code":0,"message":"Transport unknown"}` {
				t.Errorf("%s without a bundle: %d %q", name, r.Status, r.Body)
			}
			continue
		}
		kind := "application/javascript; charset=utf-8"
		if strings.HasSuffix(name, ".map") {
			kind = "application/json; charset=utf-8"
		}
		r := n.get(addr + "?v=1")
		h := r.Header
		if r.Status != http.StatusOK || r.Body != string(data) || r.Length != int64(len(data)) || h.Get("Content-Type") != kind || h.Get("ETag") != etag ||
			h.Get("Cache-Control") != "public, max-age=0" || h.Get("Content-Encoding") != "" || h.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d %v", name, r.Status, h)
		}
		r = n.get(addr, "Accept-Encoding", "br, gzip")
		if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Type") != kind || len(r.Body) >= len(data) || !bytes.Equal(gunzip(t, r.Body), data) {
			t.Errorf("%s compressed: %d %v", name, r.Status, r.Header)
		}
		for _, accept := range []string{"br", "identity", "gzip;q=0", "deflate, gzip; q=0.0"} {
			if r := n.get(addr, "Accept-Encoding", accept); r.Header.Get("Content-Encoding") != "" || r.Body != string(data) {
				t.Errorf("%s for %q: %v", name, accept, r.Header)
			}
		}
		if r := n.do(http.MethodHead, addr); r.Status != http.StatusOK || r.Body != "" || r.Length != int64(len(data)) || r.Header.Get("ETag") != etag {
			t.Errorf("HEAD %s: %d %v", name, r.Status, r.Header)
		}
		for _, match := range []string{etag, "W/" + etag, `"1.0.0", ` + etag, "*"} {
			r := n.get(addr, "If-None-Match", match, "Accept-Encoding", "gzip")
			if r.Status != http.StatusNotModified || r.Body != "" || r.Header.Get("ETag") != etag || r.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s, If-None-Match: %s: %d %v", name, match, r.Status, r.Header)
			}
		}
		for _, match := range []string{`"1.0.0"`, "W/" + `"1.0.0"`, strings.Trim(etag, `"`)} {
			if r := n.get(addr, "If-None-Match", match); r.Status != http.StatusOK || r.Body != string(data) {
				t.Errorf("%s, If-None-Match: %s: %d", name, match, r.Status)
			}
		}
		if r := n.get(addr, "Range", "bytes=0-9", "Accept-Encoding", "gzip"); r.Status != http.StatusPartialContent || r.Body != string(data[:10]) {
			t.Errorf("%s, ten bytes: %d %v", name, r.Status, r.Header)
		}
	}
	// As in the official server, what is no file of the bundle is taken for a request of the protocol.
	for _, name := range []string{"socket.io.esm.js", "socket.io.msgpack.js", "package.json", "nothing.js", "socket.io.js.gz", ".gitignore", "socket.io.js/"} {
		if r := n.get(n.public + "/socket.io/" + name); r.Status != http.StatusBadRequest || r.Body != `{"code":0,"message":"Transport unknown"}` {
			t.Errorf("%s: %d %.100q", name, r.Status, r.Body)
		}
	}
}

func gunzip(t *testing.T, s string) []byte {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestClientBundleElsewhere(t *testing.T) {
	if len(bundleFiles(t)) == 0 {
		t.Log("no bundle: what is refused below holds anyway")
	} else {
		for _, vars := range [][]string{{"PATH=/a/b"}, {"PATH=/a/b", "TRAILING_SLASH=false"}} {
			n := start(t, vars...)
			if r := n.get(n.public + "/a/b/socket.io.min.js"); r.Status != http.StatusOK {
				t.Errorf("%q: %d", vars, r.Status)
			}
		}
		n := start(t, "CORS_ORIGINS="+page)
		if r := n.get(n.public+"/socket.io/socket.io.esm.min.js", "Origin", page); r.Header.Get("Access-Control-Allow-Origin") != page {
			t.Errorf("a module for another origin: %v", r.Header) // which needs CORS, as scripts do not
		}
	}
	n := start(t, "SERVE_CLIENT=false")
	if r := n.get(n.public + "/socket.io/socket.io.js"); r.Status != http.StatusBadRequest {
		t.Errorf("switched off: %d", r.Status)
	}
}

func TestPlayground(t *testing.T) {
	n := start(t, "RELAY=true", "PLAYGROUND=true")
	index := n.get(n.public + "/")
	if index.Status != http.StatusOK || index.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(index.Body, "<title>Patchbay") {
		t.Errorf("index: %d %v", index.Status, index.Header)
	}
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8"}
	err := fs.WalkDir(os.DirFS("playground"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "index.html" {
			return err
		}
		r := n.get(n.public + "/" + name)
		want, err := os.ReadFile(filepath.Join("playground", name))
		if err != nil || r.Status != http.StatusOK || r.Body != string(want) || r.Header.Get("Content-Type") != types[filepath.Ext(name)] {
			t.Errorf("%s: %d %v %v", name, r.Status, r.Header, err)
		}
		if !strings.Contains(index.Body, name) && !strings.HasSuffix(name, ".js") {
			t.Errorf("%s is not used", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/playground.js", "/nothing"} {
		h := n.get(n.public + path).Header
		csp := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: no %s in %q", path, part, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}
	}
	if strings.Contains(index.Body, "<style") || strings.Contains(index.Body, " style=") || strings.Contains(index.Body, " onclick=") {
		t.Error("the page holds what its policy forbids")
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodOptions} {
		if r := n.do(method, n.public+"/"); r.Status != http.StatusMethodNotAllowed || !strings.Contains(r.Header.Get("Allow"), "GET") {
			t.Errorf("%s: %d %v", method, r.Status, r.Header)
		}
	}
	if r := n.do(http.MethodHead, n.public+"/"); r.Status != http.StatusOK || r.Body != "" {
		t.Errorf("HEAD: %d", r.Status)
	}
	if r := n.get(n.public + "/nothing"); r.Status != http.StatusNotFound {
		t.Errorf("an unknown file: %d", r.Status)
	}
	off := start(t, "RELAY=true")
	if r := off.get(off.public + "/"); r.Status != http.StatusNotFound {
		t.Errorf("switched off: %d", r.Status)
	}
}

// The page knows one path only: with another it would be dead, and the configuration says so. A missing slash does not matter.
func TestPlaygroundOnAnotherPath(t *testing.T) {
	if _, _, err := gateway.Load(environ("PATH=/a/b", "RELAY=true", "PLAYGROUND=true")); err == nil || !strings.Contains(err.Error(), "GATEWAY_PLAYGROUND:") {
		t.Errorf("got %v", err)
	}
	n := start(t, "PATH=/socket.io/", "TRAILING_SLASH=false", "RELAY=true", "PLAYGROUND=true")
	_, rest, _ := strings.Cut(n.get(n.public+"/").Body, `<script src="`)
	src, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatal("no script in the page")
	}
	if r := n.get(n.public + src); len(bundleFiles(t)) > 0 && r.Status != http.StatusOK {
		t.Errorf("the page's script %s: %d", src, r.Status)
	}
	n.client().Open().Connect("/", "")
}
