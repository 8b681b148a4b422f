package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// identity is who a socket's client is and what it may do.
type identity struct {
	User    string
	Expires time.Time // zero: never
	may     permissions
	joins   *rate.Limiter // each lists the members of a room
}

// permissions are lists of room names; one that ends with * stands for all names that begin so.
type permissions struct {
	Join    []string `json:"join"`
	Publish []string `json:"publish"`
}

func allowed(patterns []string, room string) bool {
	for _, p := range patterns {
		if head, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(room, head) || p == room {
			return true
		}
	}
	return false
}

// claims of a token. Without patchbay claims it admits its bearer to receive, and to nothing else.
type claims struct {
	jwt.RegisteredClaims
	Patchbay permissions `json:"patchbay"`
}

// authenticator tells who a client is, from the auth it gave.
type authenticator struct {
	parser *jwt.Parser // nil: everybody may do everything
	key    any
	log    *slog.Logger
	burst  int // joins at once
}

// limiter lets a client join all the rooms it may at once, and after that two a second.
func (a *authenticator) limiter() *rate.Limiter { return rate.NewLimiter(2, a.burst) }

func newAuthenticator(c *Config, log *slog.Logger) (*authenticator, error) {
	a := &authenticator{log: log, burst: max(c.RelayMaxRooms, 10)}
	var methods []string
	switch {
	case c.JWTSecret != "":
		a.key, methods = []byte(c.JWTSecret), []string{"HS256", "HS384", "HS512"}
	case c.JWTPublicKeyFile != "":
		pem, err := os.ReadFile(c.JWTPublicKeyFile)
		if err != nil {
			return nil, fmt.Errorf("%sJWT_PUBLIC_KEY_FILE: %w", prefix, err)
		}
		if a.key, methods, err = publicKey(pem); err != nil {
			return nil, fmt.Errorf("%sJWT_PUBLIC_KEY_FILE: %w", prefix, err)
		}
	default:
		return a, nil
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(methods), jwt.WithLeeway(leeway)}
	if c.JWTIssuer != "" {
		options = append(options, jwt.WithIssuer(c.JWTIssuer))
	}
	if c.JWTAudience != "" {
		options = append(options, jwt.WithAudience(c.JWTAudience))
	}
	a.parser = jwt.NewParser(options...)
	return a, nil
}

// publicKey reads a key and the methods that go with it: a key must not be used with another's method.
func publicKey(pem []byte) (key any, methods []string, err error) {
	if key, err = jwt.ParseRSAPublicKeyFromPEM(pem); err == nil {
		return key, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	}
	if key, err = jwt.ParseECPublicKeyFromPEM(pem); err == nil {
		return key, []string{"ES256", "ES384", "ES512"}, nil
	}
	if key, err = jwt.ParseEdPublicKeyFromPEM(pem); err == nil {
		return key, []string{"EdDSA"}, nil
	}
	return nil, nil, errors.New("no RSA, ECDSA or Ed25519 public key in it")
}

type identityKey struct{}

func identityOf(ctx context.Context) *identity {
	id, ok := ctx.Value(identityKey{}).(*identity)
	if !ok {
		panic("gateway: a socket without identity") // the middleware below gives each its own
	}
	return id
}

const leeway = 5 * time.Second // between the clocks of who signs tokens and ours

const maxUser = 128 // bytes of a name that a client gives itself

// middleware admits a client and remembers who it is.
func (a *authenticator) middleware(ctx context.Context, s *sio.Socket) (context.Context, error) {
	var auth struct {
		Token string `json:"token"`
		User  string `json:"user"`
	}
	if err := s.Handshake().Auth(&auth); err != nil {
		return nil, &sio.ConnectError{Message: "Bad auth"}
	}
	if a.parser == nil {
		everything := []string{"*"}
		user := strings.ToValidUTF8(auth.User[:min(len(auth.User), maxUser)], "") // not to end within a character
		id := &identity{User: user, may: permissions{everything, everything}, joins: a.limiter()}
		return context.WithValue(ctx, identityKey{}, id), nil
	}
	var c claims
	if _, err := a.parser.ParseWithClaims(auth.Token, &c, func(*jwt.Token) (any, error) { return a.key, nil }); err != nil {
		a.log.Debug("token_refused", "error", err)
		message := "Invalid token"
		switch {
		case auth.Token == "":
			message = "Token required"
		case errors.Is(err, jwt.ErrTokenExpired):
			message = "Token expired"
		}
		return nil, &sio.ConnectError{Message: message}
	}
	id := &identity{User: c.Subject, may: c.Patchbay, joins: a.limiter()}
	if c.ExpiresAt != nil {
		id.Expires = c.ExpiresAt.Time
	}
	return context.WithValue(ctx, identityKey{}, id), nil
}

// expire disconnects the socket when its token is not valid any more.
func (id *identity) expire(ctx context.Context, s *sio.Socket) {
	if id.Expires.IsZero() {
		return
	}
	timer := time.AfterFunc(time.Until(id.Expires)+leeway, func() { s.Disconnect(false) })
	context.AfterFunc(ctx, func() { timer.Stop() })
}
