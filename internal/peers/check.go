package peers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// checkPath is where a node says that it is there, and who: to whoever has the secret and the right time, registered or not. Nothing
// is counted, and nothing remembered.
const checkPath = Prefix + "/.check"

// checkTimeout bounds the wait for the answer.
const checkTimeout = 2 * time.Second

// presence is what a node says of itself.
type presence struct {
	ID   string `json:"id"`
	Time int64  `json:"time"` // Unix ms
}

// check answers a [Check].
func (f *Forwarder) check(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	s, err := authentic(f.opts.Secret, r.Header, f.opts.Tag, r.Method, r.RequestURI)
	if err == nil && !s.fresh(now) {
		err = errOld
	}
	if err != nil {
		w.Header().Set(Header, err.Error())
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	w.Header().Set(Header, takenBy(f.opts.Tag))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(presence{ID: f.opts.ID, Time: now.UnixMilli()}) // who asks may have gone
}

// Checked is what a [Check] has found.
type Checked struct {
	// ID is that of the run of the node that has answered. Another one than the registry has means that it was started again.
	ID string
	// Took is the time until the answer, with what it takes to connect.
	Took time.Duration
	// Skew is how far the node's clock is ahead, give or take half of Took.
	Skew time.Duration
}

// CheckError says why a node cannot be forwarded to: it is [Unreachable], has [Refused] the request or is another program, or has
// [Failed] to answer.
type CheckError struct {
	Result Result
	err    error
}

func (e *CheckError) Error() string { return e.err.Error() }

// Unwrap returns the reason.
func (e *CheckError) Unwrap() error { return e.err }

var errNoPeer = errors.New("this is another program, or a node without the secret")

// Check asks a node whether it would take a request that is signed with the secret. It need not come from a node. Its error is a
// [*CheckError].
func Check(ctx context.Context, secret []byte, node Node) (Checked, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	begun := time.Now()
	connected := false
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			connected = err == nil
			return conn, err
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node.Addr+checkPath, http.NoBody)
	if err != nil {
		return Checked{}, &CheckError{Unreachable, errors.New("its address is none")}
	}
	s := &stamp{Tag: "check", ID: NewID(), seq: 1, time: begun.UnixMilli(), addr: "-"}
	req.Header.Set(Header, sign(secret, s, node.Tag, req.Method, req.URL.RequestURI()))
	res, err := transport.RoundTrip(req)
	if err != nil {
		result := Failed
		if !connected {
			result = Unreachable
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", checkTimeout)
		}
		return Checked{}, &CheckError{result, err}
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it matters
	if word := res.Header.Get(Header); word != takenBy(node.Tag) {
		if word == "" {
			word = errNoPeer.Error()
		}
		return Checked{}, &CheckError{Refused, &refusal{word}}
	}
	const enough = 4 << 10
	text, err := io.ReadAll(io.LimitReader(res.Body, enough))
	var a presence
	if err = cmp.Or(err, json.Unmarshal(text, &a)); err != nil {
		return Checked{}, &CheckError{Failed, err}
	}
	took := time.Since(begun)
	return Checked{ID: a.ID, Took: took, Skew: time.UnixMilli(a.Time).Sub(begun.Add(took / 2))}, nil
}
