package gateway

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/cors"
)

// publicHandler is what clients see.
func publicHandler(c *Config, io http.Handler, log *slog.Logger) (http.Handler, error) {
	mux := http.NewServeMux()
	path := "/" + strings.Trim(c.Path, "/")
	if c.TrailingSlash {
		mux.Handle(path+"/", io)
	} else {
		mux.Handle(path, io)
		mux.Handle(path+"/", io)
	}
	if c.ServeClient {
		files, err := clientHandler()
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			log.Warn("no_client_bundle", "hint", "this build has no browser client: run make client before go build")
		}
		for name, f := range files {
			mux.Handle("GET "+path+"/"+name, f)
		}
	}
	if c.Playground {
		page, err := playgroundHandler()
		if err != nil {
			return nil, err
		}
		mux.Handle("/", page)
	}
	if len(c.CORSOrigins) == 0 {
		return mux, nil
	}
	return c.cors().Handler(mux), nil
}

func (c *Config) cors() *cors.Cors {
	return cors.New(cors.Options{
		AllowedOrigins:   c.CORSOrigins,
		AllowCredentials: c.CORSCredentials,
		AllowedMethods:   []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders:   []string{"*"},
	})
}

// adminHandler is what operators see.
func adminHandler(c *Config, m *metrics, h *health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the prober may have gone
	})
	mux.Handle("GET /readyz", h)
	if c.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// health tells whether the node should get clients.
type health struct {
	mu      sync.Mutex
	reasons map[string]struct{} // why not; ready if empty
}

func newHealth(reason string) *health {
	return &health{reasons: map[string]struct{}{reason: {}}}
}

func (h *health) set(reason string, holds bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if holds {
		h.reasons[reason] = struct{}{}
	} else {
		delete(h.reasons, reason)
	}
}

// ServeHTTP answers 200 or 503 with the reasons.
func (h *health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	body := struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons,omitempty"`
	}{}
	h.mu.Lock()
	for r := range h.reasons {
		body.Reasons = append(body.Reasons, r)
	}
	h.mu.Unlock()
	body.Ready = len(body.Reasons) == 0
	w.Header().Set("Content-Type", "application/json")
	if !body.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the prober may have gone
}
