package gateway

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/cors"

	"github.com/seed-0b620db0/patchbay/internal/peers"
)

// publicHandler is what clients see.
func publicHandler(c *Config, io http.Handler, h *health, log *slog.Logger) (http.Handler, error) {
	io = h.gate(io)
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

// adminHandler is what operators see, and other nodes: peer is nil if these have no business here.
func adminHandler(c *Config, m *metrics, h *health, peer http.Handler) http.Handler {
	mux := http.NewServeMux()
	if peer != nil {
		mux.Handle(peers.Prefix+"/", peer)
	}
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
	ready   chan struct{} // closed when it is for the first time
	leaving atomic.Bool   // it will not be again

	mu sync.Mutex
	// guarded by mu
	reasons map[string]string // why not, by what is the matter; ready if empty
}

func newHealth(reason string) *health {
	return &health{ready: make(chan struct{}), reasons: map[string]string{reason: reason}}
}

// set says what is the matter with something: nothing, if reason is empty.
func (h *health) set(what, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reason != "" {
		h.reasons[what] = reason
		return
	}
	delete(h.reasons, what)
	select {
	case <-h.ready:
	default:
		if len(h.reasons) == 0 {
			close(h.ready)
		}
	}
}

func (h *health) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Values(h.reasons))
}

// The reasons that metrics know: a cause stands for all texts that there are of it.
const (
	causeStarting  = "starting"
	causeDraining  = "draining"
	causeBus       = "bus"
	causeRegistry  = "registry"
	causeTagTaken  = "tag taken"
	causeSomething = "other"
)

var causes = []string{causeStarting, causeDraining, causeBus, causeRegistry, causeTagTaken, causeSomething}

// cause returns the cause of what is the matter.
func cause(what string) string {
	switch {
	case what == notStarted:
		return causeStarting
	case what == draining:
		return causeDraining
	case strings.HasPrefix(what, busReason("")):
		return causeBus
	case what == unregistered:
		return causeRegistry
	case what == tagTaken:
		return causeTagTaken
	default:
		return causeSomething
	}
}

// count returns the number of things that are the matter, for one cause or, if it is empty, for all.
func (h *health) count(of string) float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0.0
	for what := range h.reasons {
		if of == "" || cause(what) == of {
			n++
		}
	}
	return n
}

// measure shows in metrics what /readyz says.
func (h *health) measure(r prometheus.Registerer) {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "patchbay", Name: "ready", Help: "1 while the node should get clients, else 0.",
	}, func() float64 {
		if h.count("") > 0 {
			return 0
		}
		return 1
	})
	for _, c := range causes {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "patchbay", Name: "not_ready", Help: "1 while this is a reason not to be ready, else 0.",
			ConstLabels: prometheus.Labels{"reason": c},
		}, func() float64 { return min(h.count(c), 1) })
	}
}

// gate keeps clients out until the node is ready for the first time: others would not know their sessions. One that was
// ready once keeps its clients, and whoever else is sent to it; but when it is about to end, it lets go of their connections,
// on which they would come to it again.
func (h *health) gate(io http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.leaving.Load() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		select {
		case <-h.ready:
			io.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"code":3,"message":"Server starting"}`)) // the client may have gone
		}
	})
}

// ServeHTTP answers 200 or 503 with the reasons.
func (h *health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	body := struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons,omitempty"`
	}{Reasons: h.list()}
	body.Ready = len(body.Reasons) == 0
	w.Header().Set("Content-Type", "application/json")
	if !body.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the prober may have gone
}
