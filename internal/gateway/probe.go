package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// probeTimeout bounds a question to a node's internal address.
const probeTimeout = 2 * time.Second

// The paths that a node tells its state at.
const (
	healthPath  = "/healthz"
	readyPath   = "/readyz"
	metricsPath = "/metrics"
)

// AdminURL returns where the node of this environment answers on this host. Nothing else of the environment has to be right.
func AdminURL(environ []string) (string, error) {
	var c struct {
		AdminAddr string `env:"ADMIN_ADDR" envDefault:":9090"`
	}
	if err := env.ParseWithOptions(&c, env.Options{Prefix: prefix, Environment: env.ToMap(environ)}); err != nil {
		return "", err
	}
	return adminURL(c.AdminAddr)
}

func adminURL(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%sADMIN_ADDR: %w", prefix, err)
	}
	n, err := net.LookupPort("tcp", port) // a name is fine to listen on, but not in a URL
	if err != nil {
		return "", fmt.Errorf("%sADMIN_ADDR: %w", prefix, err)
	}
	if n == 0 {
		return "", fmt.Errorf("%sADMIN_ADDR: port 0 is another one at each start", prefix)
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, fmt.Sprint(n))}
	return u.String(), nil
}

// NotReadyError is what a node answers that is not well.
type NotReadyError struct {
	Status  int
	Reasons []string // as /readyz has them
}

func (e *NotReadyError) Error() string {
	if len(e.Reasons) == 0 {
		return fmt.Sprintf("status %d", e.Status)
	}
	return strings.Join(e.Reasons, "; ")
}

// ProbeHealth asks the node at base, as [AdminURL] returns it, whether its process runs, or with ready whether it should get clients. A
// nil error means that it does, a [*NotReadyError] that it does not.
func ProbeHealth(ctx context.Context, base string, ready bool) error {
	if ready {
		return probe(ctx, base, readyPath)
	}
	return probe(ctx, base, healthPath)
}

func probe(ctx context.Context, base, path string) error {
	const enough = 64 << 10
	status, text, err := ask(ctx, base, path, enough)
	if err != nil || status == http.StatusOK {
		return err
	}
	var body struct {
		Reasons []string `json:"reasons"`
	}
	_ = json.Unmarshal(text, &body) // else there are no reasons
	return &NotReadyError{Status: status, Reasons: body.Reasons}
}

// Scrape returns the metrics of the node at base.
func Scrape(ctx context.Context, base string) (string, error) {
	const enough = 16 << 20
	status, text, err := ask(ctx, base, metricsPath, enough)
	if err == nil && status != http.StatusOK {
		err = &NotReadyError{Status: status}
	}
	return string(text), err
}

// ask sends a request to a node's internal address.
func ask(ctx context.Context, base, path string, limit int64) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	transport := &http.Transport{DialContext: dialLocal, DisableKeepAlives: true} // no proxy: it is this host, or one of ours
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok && errors.Is(err, context.DeadlineExceeded) {
			return 0, nil, fmt.Errorf("%s: no answer within %v", u.URL, probeTimeout)
		}
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it matters
	body, err = io.ReadAll(io.LimitReader(res.Body, limit))
	return res.StatusCode, body, err
}

// dialLocal dials the loopback addresses of a port that is listened to on all addresses.
func dialLocal(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	d := new(net.Dialer)
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return d.DialContext(ctx, network, addr)
	}
	conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		if six, err6 := d.DialContext(ctx, network, net.JoinHostPort("::1", port)); err6 == nil {
			return six, nil
		}
	}
	return conn, err
}
