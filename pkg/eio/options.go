package eio

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Transport is the way a session's packets travel.
type Transport string

// The transports of this server.
const (
	Polling   Transport = "polling"
	WebSocket Transport = "websocket"
)

// Options configure a [Server]. The zero value of each field stands for its default.
type Options struct {
	// Path is where the server answers; requests elsewhere get 404. Default "/engine.io".
	Path string
	// NoTrailingSlash makes Path answer without its trailing slash, "/engine.io?EIO=4…" (addTrailingSlash: false).
	NoTrailingSlash bool

	// PingInterval is the time from a pong to the next ping. Default 25 s.
	PingInterval time.Duration
	// PingTimeout is the time a client has to answer a ping. Default 20 s.
	PingTimeout time.Duration
	// UpgradeTimeout is the time a probing transport has to finish the upgrade. Default 10 s.
	UpgradeTimeout time.Duration
	// BodyTimeout is the time a client has to send the body of a POST. Default 30 s.
	BodyTimeout time.Duration
	// WriteTimeout is the time a client has to take each 256 KiB of what is written to it. Default 20 s.
	WriteTimeout time.Duration

	// MaxHTTPBufferSize bounds the bytes of a POST body and of a WebSocket message. Default 1,000,000. Told to clients
	// as maxPayload.
	MaxHTTPBufferSize int
	// MaxPayloadPackets bounds the packets in one POST body. Default 65,536.
	MaxPayloadPackets int
	// MaxQueueBytes bounds what is queued to one client. Beyond it volatile messages are dropped, then the session is
	// closed with [ReasonSlowConsumer]. A single message may be larger when nothing else waits. Default 4 MiB.
	MaxQueueBytes int
	// MaxSessions bounds the sessions of this server; further handshakes are answered 503. Default 1,000,000.
	MaxSessions int
	// HandshakeRate bounds the sessions that are opened a second, so that those who all come back at once do not take the
	// server from those who are there; further handshakes are answered 503. Default 0: not bounded.
	HandshakeRate int
	// HandshakeBurst is how many may be opened at once. Default HandshakeRate.
	HandshakeBurst int

	// MaxAge is the age at which a session is closed, so that its client comes back, perhaps to a server that was started
	// meanwhile. It is looked at when a ping is due. Default 0: none.
	MaxAge time.Duration
	// MaxAgeJitter is the share of MaxAge, 0 to 1, by which it is shorter at most, at random for each session. Default 0.
	MaxAgeJitter float64

	// DrainWindow is the time that Shutdown spreads the ends of sessions over, at random moments, so that clients do not all
	// come back at once. It is shorter if the context does not leave that much. Default 0: they end at once.
	DrainWindow time.Duration
	// DrainRate is how many sessions Shutdown ends a second. Default 0: what follows from DrainWindow, which it replaces.
	DrainRate int

	// Transports are those a client may use. Default polling and WebSocket.
	Transports []Transport
	// DisableUpgrades keeps polling sessions on polling (allowUpgrades: false).
	DisableUpgrades bool

	// HTTPCompressionThreshold is the size in bytes from which polling responses are compressed for clients that accept
	// gzip or deflate. Default 1024; negative: never.
	HTTPCompressionThreshold int
	// PerMessageDeflate offers WebSocket compression. Default nil: not offered. It costs far more memory a client than
	// the rest of a session.
	PerMessageDeflate *PerMessageDeflate

	// Cookie, if set, is sent with each handshake; its Value is replaced by the session's id. An empty Name means "io",
	// an empty Path "/".
	Cookie *http.Cookie
	// AllowRequest is asked before each handshake. An error refuses it with 403 and the error's text as message.
	AllowRequest func(*http.Request) error
	// GenerateID makes the ids of sessions. The ids must be unique and not guessable. Default: 15 random bytes in
	// base64url and, if Node is set, a dot and Node.
	GenerateID func(*http.Request) (string, error)
	// Node is the tag of this node in the ids of its sessions, [a-z0-9-]{1,63}, so that a balancer or a peer can tell
	// whose a session is. Default none.
	Node string
	// InitialPacket, if set, is a message that follows the handshake of each session.
	InitialPacket *Message
	// InitialHeaders may change the headers of the first response of each session, Headers those of all responses that
	// belong to a session, upgrades included.
	InitialHeaders, Headers func(http.Header, *http.Request)
	// Context makes the context that [Request.Context] returns, from the first request of a session. It is kept as long
	// as the session: it should not hold on to the request. Default context.Background.
	Context func(*http.Request) context.Context

	Hooks  Hooks
	Logger *slog.Logger // Default slog.DiscardHandler.
}

// PerMessageDeflate sets up WebSocket compression (RFC 7692), without context takeover.
type PerMessageDeflate struct {
	Threshold int // messages of fewer bytes are sent as they are; default 1024
}

var nodeTag = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// withDefaults returns a copy of o in which every field has its value. It panics on what only a programmer can get wrong.
func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	out.Path = "/" + strings.Trim(cmp.Or(out.Path, "/engine.io"), "/")
	if !out.NoTrailingSlash && out.Path != "/" {
		out.Path += "/"
	}
	out.PingInterval = cmp.Or(out.PingInterval, 25*time.Second)
	out.PingTimeout = cmp.Or(out.PingTimeout, 20*time.Second)
	out.UpgradeTimeout = cmp.Or(out.UpgradeTimeout, 10*time.Second)
	out.BodyTimeout = cmp.Or(out.BodyTimeout, 30*time.Second)
	out.WriteTimeout = cmp.Or(out.WriteTimeout, 20*time.Second)
	out.MaxHTTPBufferSize = cmp.Or(out.MaxHTTPBufferSize, 1_000_000)
	out.MaxPayloadPackets = cmp.Or(out.MaxPayloadPackets, 65_536)
	out.MaxQueueBytes = cmp.Or(out.MaxQueueBytes, 4<<20)
	out.MaxSessions = cmp.Or(out.MaxSessions, 1_000_000)
	out.HandshakeBurst = cmp.Or(out.HandshakeBurst, out.HandshakeRate)
	out.HTTPCompressionThreshold = cmp.Or(out.HTTPCompressionThreshold, 1024)
	if out.Transports == nil {
		out.Transports = []Transport{Polling, WebSocket}
	}
	out.Transports = slices.Clone(out.Transports)
	for _, t := range out.Transports {
		if t != Polling && t != WebSocket {
			panic("eio: unknown transport " + string(t))
		}
	}
	if out.PerMessageDeflate != nil {
		out.PerMessageDeflate = &PerMessageDeflate{Threshold: cmp.Or(out.PerMessageDeflate.Threshold, 1024)}
	}
	if out.Cookie != nil {
		c := *out.Cookie
		c.Name, c.Path = cmp.Or(c.Name, "io"), cmp.Or(c.Path, "/")
		out.Cookie = &c
	}
	if j := out.MaxAgeJitter; !(j >= 0 && j <= 1) {
		panic("eio: Options.MaxAgeJitter must be between 0 and 1")
	}
	if out.Node != "" && !nodeTag.MatchString(out.Node) {
		panic("eio: Options.Node must match " + nodeTag.String())
	}
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	return out
}
