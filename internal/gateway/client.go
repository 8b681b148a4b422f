package gateway

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"
)

// bundle holds the stock browser client, which `make client` takes from npm; a build without it serves none.
//
//go:embed all:client/dist client/package.json
var bundle embed.FS

// clientFiles are what the official server serves ("serveClient").
var clientFiles = []string{"socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"}

// clientHandler serves the browser client below the path of the server. It is nil if the build has none.
func clientHandler() (map[string]http.Handler, error) {
	var pkg struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	manifest, err := bundle.ReadFile("client/package.json")
	if err == nil {
		err = json.Unmarshal(manifest, &pkg)
	}
	if err != nil {
		return nil, fmt.Errorf("client/package.json: %w", err)
	}
	version := pkg.Dependencies["socket.io-client"]
	files := make(map[string]http.Handler)
	for _, name := range clientFiles {
		for _, name := range []string{name, name + ".map"} {
			data, err := bundle.ReadFile("client/dist/" + name)
			if err == nil {
				files[name] = newStaticFile(name, data, `"`+version+`"`)
			}
		}
	}
	return files, nil
}

// staticFile serves one file, compressed once.
type staticFile struct {
	name, contentType, etag string
	data                    []byte
	gzipped                 func() []byte
}

func newStaticFile(name string, data []byte, etag string) *staticFile {
	f := &staticFile{name: name, data: data, etag: etag, contentType: "application/javascript; charset=utf-8"}
	if strings.HasSuffix(name, ".map") {
		f.contentType = "application/json; charset=utf-8"
	}
	f.gzipped = sync.OnceValue(func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(data) // into memory
		_ = z.Close()
		return b.Bytes()
	})
	return f
}

// ServeHTTP implements http.Handler.
func (f *staticFile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=0")
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	h.Add("Vary", "Accept-Encoding")
	data := f.data
	if acceptsGzip(r.Header.Get("Accept-Encoding")) && r.Header.Get("Range") == "" {
		h.Set("Content-Encoding", "gzip")
		data = f.gzipped()
	}
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(data))
}

// acceptsGzip looks for gzip that is not refused by a weight of zero.
func acceptsGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		_, q, _ := strings.Cut(weight, "=")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.Trim(q, " 0.") != "" || q == ""
		}
	}
	return false
}

//go:embed playground
var playground embed.FS

// playgroundHandler serves the page to try the gateway with.
func playgroundHandler() (http.Handler, error) {
	files, err := fs.Sub(playground, "playground")
	if err != nil {
		return nil, err
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		// The page may connect to any server; everything else comes from here.
		h.Set("Content-Security-Policy", "default-src 'self'; connect-src *; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		server.ServeHTTP(w, r)
	}), nil
}
