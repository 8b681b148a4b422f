package peers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Header of requests between nodes, and of their answers.
const Header = "Patchbay-Peer"

// MaxSkew is how far the clocks of two nodes may be apart, the way between them included.
const MaxSkew = maxAge

const maxAge = 30 * time.Second

// stamp is what a node says of a request that it forwards. In the header it stands as
//
//	v1 TAG ID SEQ TIME ADDR TLS MAC
type stamp struct {
	Tag, ID string // of the sender
	seq     uint64 // its requests, counted
	time    int64  // Unix ms
	addr    string // of the client
	secure  bool   // the client came over TLS
}

// fresh tells whether the clocks of both sides can be right.
func (s *stamp) fresh(now time.Time) bool {
	age := now.UnixMilli() - s.time
	return age <= maxAge.Milliseconds() && age >= -maxAge.Milliseconds()
}

func (s *stamp) fields() []string {
	return []string{
		"v1", s.Tag, s.ID, strconv.FormatUint(s.seq, 10), strconv.FormatInt(s.time, 10), s.addr, strconv.FormatBool(s.secure),
	}
}

// Why a request is not taken. The texts are told to the sender.
var (
	errUnsigned     = errors.New("no signature")
	errBadSignature = errors.New("wrong signature: do all nodes have the same secret?")
	errOld          = errors.New("too old: are the clocks right?")
	errReplayed     = errors.New("seen before")
	errStranger     = errors.New("sender is not registered")
	errOther        = errors.New("session of another node")
)

// mac signs a request to the node with the tag to. None of the parts can contain a newline.
func mac(secret []byte, s *stamp, to, method, target string) []byte {
	h := hmac.New(sha256.New, secret)
	_, _ = h.Write([]byte(strings.Join(append(s.fields(), to, method, target), "\n"))) // never fails
	return h.Sum(nil)
}

// sign returns the header.
func sign(secret []byte, s *stamp, to, method, target string) string {
	sum := mac(secret, s, to, method, target)
	return strings.Join(append(s.fields(), base64.RawURLEncoding.EncodeToString(sum)), " ")
}

// authentic returns the stamp of a request if its signature is right.
func authentic(secret []byte, header http.Header, self, method, target string) (*stamp, error) {
	values := header[Header]
	if len(values) != 1 {
		return nil, errUnsigned
	}
	f := strings.Split(values[0], " ")
	if len(f) != 8 || f[0] != "v1" {
		return nil, errUnsigned
	}
	seq, err1 := strconv.ParseUint(f[3], 10, 64)
	at, err2 := strconv.ParseInt(f[4], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, errUnsigned
	}
	s := &stamp{Tag: f[1], ID: f[2], seq: seq, time: at, addr: f[5], secure: f[6] == "true"}
	// All of it, so that there is only one way to write it.
	if !hmac.Equal([]byte(values[0]), []byte(sign(secret, s, self, method, target))) {
		return nil, errBadSignature
	}
	return s, nil
}

// window remembers which of a sender's numbers have come. They come out of order, as each request waits for its connection.
type window struct {
	mu sync.Mutex
	// guarded by mu
	max  uint64
	seen [windowSize / 64]uint64 // ring of bits

	used atomic.Int64 // Unix ms
}

const windowSize = 1 << 16

// take tells whether seq has not come before. What is older than all that it remembers has.
func (w *window) take(seq uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq > w.max {
		if seq-w.max >= windowSize {
			clear(w.seen[:])
		} else {
			for i := w.max; i < seq; { // seq may be the last number there is
				i++
				w.seen[i%windowSize/64] &^= 1 << (i % 64)
			}
		}
		w.max = seq
	} else if w.max-seq >= windowSize {
		return false
	}
	bit := uint64(1) << (seq % 64)
	cell := &w.seen[seq%windowSize/64]
	if *cell&bit != 0 {
		return false
	}
	*cell |= bit
	return true
}

// windows are those of all senders. Who gets one is registered and has the secret, so they are few.
type windows struct {
	mu sync.Mutex
	// guarded by mu
	byID map[string]*window
}

func (w *windows) of(id string, now time.Time) *window {
	w.mu.Lock()
	defer w.mu.Unlock()
	win := w.byID[id]
	if win == nil {
		if w.byID == nil {
			w.byID = make(map[string]*window)
		}
		for id, o := range w.byID { // of those that are gone nothing is young enough any more
			if now.UnixMilli()-o.used.Load() > 2*maxAge.Milliseconds() {
				delete(w.byID, id)
			}
		}
		win = new(window)
		w.byID[id] = win
	}
	win.used.Store(now.UnixMilli())
	return win
}
