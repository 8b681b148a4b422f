package gateway_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

const refused = "Invalid token"

// try connects with an auth and returns the message of the refusal, or "" if there was none.
func (n *node) try(auth string) string {
	n.t.Helper()
	w := n.client().Open()
	defer w.Close()
	w.Send("40" + auth)
	got := w.Text()
	if strings.HasPrefix(got, `40{"sid":`) {
		return ""
	}
	message, ok := strings.CutPrefix(got, `44{"message":"`)
	if !ok {
		n.t.Fatalf("auth %s: got %q", auth, got)
	}
	return strings.TrimSuffix(message, `"}`)
}

func (n *node) tryToken(token string) string {
	n.t.Helper()
	return n.try(`{"token":"` + token + `"}`)
}

func TestTokenNeeded(t *testing.T) {
	n := start(t, "JWT_SECRET="+secret)
	good := sign(t, "HS256", []byte(secret), claims{})
	for auth, want := range map[string]string{
		``:                                  "Token required",
		`{}`:                                "Token required",
		`{"token":""}`:                      "Token required",
		`{"token":null}`:                    "Token required",
		`{"user":"ann"}`:                    "Token required",
		`{"token":7}`:                       "Bad auth",
		`{"token":["` + good + `"]}`:        "Bad auth",
		`{"token":"x"}`:                     refused,
		`{"token":"..."}`:                   refused,
		`{"token":"` + good + `x"}`:         refused,
		`{"token":"` + good + ` "}`:         refused,
		`{"token":"Bearer ` + good + `"}`:   refused,
		`{"token":"` + good + `"}`:          "",
		`{"token":"` + good + `","user":7}`: "Bad auth",
	} {
		if got := n.try(auth); got != want {
			t.Errorf("auth %s: %q, want %q", auth, got, want)
		}
	}
	w := n.client().Open("token", good)
	w.Send("40")
	w.Expect(`44{"message":"Token required"}`) // not from the query
	if strings.Contains(n.log.String(), good) || strings.Contains(n.log.String(), secret) {
		t.Errorf("a token or the secret is in the log:\n%s", n.log)
	}
}

func TestTokenAlgorithms(t *testing.T) {
	rsaKey, ecKey, edKey := newRSA(t), newECDSA(t, elliptic.P256()), newEd25519(t)
	rsaFile, rsaPEM := keyFile(t, rsaKey.Public())
	ecFile, ecPEM := keyFile(t, ecKey.Public())
	edFile, edPEM := keyFile(t, edKey.Public())
	pkcs1File, _ := writeKey(t, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey))
	p384 := newECDSA(t, elliptic.P384())
	none := jwt.UnsafeAllowNoneSignatureType
	type try struct {
		alg string
		key any
		ok  bool
	}
	for _, c := range []struct {
		name, setting string
		tries         []try
	}{
		{"secret", "JWT_SECRET=" + secret, []try{
			{"HS256", []byte(secret), true},
			{"HS384", []byte(secret), true},
			{"HS512", []byte(secret), true},
			{"HS256", []byte(secret + "!"), false},
			{"HS256", []byte(""), false},
			{"RS256", rsaKey, false},
			{"EdDSA", edKey, false},
			{"none", none, false},
		}},
		{"RSA", "JWT_PUBLIC_KEY_FILE=" + rsaFile, []try{
			{"RS256", rsaKey, true},
			{"RS512", rsaKey, true},
			{"PS256", rsaKey, true},
			{"RS256", newRSA(t), false},
			{"HS256", rsaPEM, false}, // the public key taken for a secret
			{"HS256", []byte(strings.TrimSpace(string(rsaPEM))), false},
			{"HS256", []byte(""), false},
			{"none", none, false},
			{"ES256", ecKey, false},
		}},
		{"RSA in PKCS 1", "JWT_PUBLIC_KEY_FILE=" + pkcs1File, []try{{"RS256", rsaKey, true}}},
		{"ECDSA", "JWT_PUBLIC_KEY_FILE=" + ecFile, []try{
			{"ES256", ecKey, true},
			{"ES256", newECDSA(t, elliptic.P256()), false},
			{"ES384", p384, false},
			{"HS256", ecPEM, false},
			{"none", none, false},
		}},
		{"Ed25519", "JWT_PUBLIC_KEY_FILE=" + edFile, []try{
			{"EdDSA", edKey, true},
			{"EdDSA", newEd25519(t), false},
			{"HS256", edPEM, false},
			{"none", none, false},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, c.setting)
			for i, try := range c.tries {
				got := n.tryToken(sign(t, try.alg, try.key, claims{"sub": "ann"}))
				if want := map[bool]string{true: "", false: refused}[try.ok]; got != want {
					t.Errorf("%d, %s: %q, want %q", i, try.alg, got, want)
				}
			}
		})
	}
}

// A header that names another algorithm or brings a key of its own changes nothing.
func TestTokenHeaderIsNotTrusted(t *testing.T) {
	n := start(t, "JWT_SECRET="+secret)
	good := sign(t, "HS256", []byte(secret), claims{"sub": "ann"})
	parts := strings.Split(good, ".")
	for _, header := range []string{
		`{"alg":"none","typ":"JWT"}`, `{"alg":"None"}`, `{"alg":"nOnE"}`, `{"alg":"NONE"}`, `{"alg":""}`, `{}`, `{"alg":null}`, `{"alg":7}`, `{"alg":["HS256"]}`,
		`{"alg":"hs256"}`, `{"alg":"RS256"}`, `{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}`, `{"alg":"HS256","jku":"http://127.0.0.1/","kid":"../../dev/null"}`, `[]`, `x`,
	} {
		head := base64.RawURLEncoding.EncodeToString([]byte(header))
		for _, token := range []string{head + "." + parts[1] + ".", head + "." + parts[1] + "." + parts[2], head + "." + parts[1]} {
			if got := n.tryToken(token); got != refused {
				t.Errorf("header %s: %q", header, got)
			}
		}
	}
	if got := n.tryToken(good); got != "" {
		t.Errorf("the good one: %q", got)
	}
}

func TestTokenClaims(t *testing.T) {
	n := start(t, "JWT_SECRET="+secret, "JWT_ISSUER=issuer", "JWT_AUDIENCE=chat", "RELAY=true")
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for _, c := range []struct {
		name string
		set  claims
		want string
	}{
		{"good", nil, ""},
		{"no issuer", claims{"iss": nil}, refused},
		{"another issuer", claims{"iss": "Issuer"}, refused},
		{"no audience", claims{"aud": nil}, refused},
		{"another audience", claims{"aud": "mail"}, refused},
		{"one of many audiences", claims{"aud": []string{"mail", "chat"}}, ""},
		{"expired", claims{"exp": at(-time.Minute)}, "Token expired"},
		{"not expired", claims{"exp": at(time.Hour)}, ""},
		{"far away", claims{"exp": 253402300799}, ""},
		{"not yet valid", claims{"nbf": at(time.Hour)}, refused},
		{"valid by now", claims{"nbf": at(-time.Minute)}, ""},
		{"expired and of another issuer", claims{"exp": at(-time.Minute), "iss": "x"}, "Token expired"},
		{"exp is text", claims{"exp": "tomorrow"}, refused},
		{"sub is a number", claims{"sub": 7}, refused},
		{"permissions are text", claims{"patchbay": claims{"join": "room"}}, refused},
		{"permissions are null", claims{"patchbay": nil}, ""},
	} {
		all := claims{"sub": "ann", "iss": "issuer", "aud": "chat"}
		for k, v := range c.set {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
		if got := n.tryToken(sign(t, "HS256", []byte(secret), all)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTokenPermissions(t *testing.T) {
	n := start(t, "JWT_SECRET="+secret, "RELAY=true", `NAMESPACE_PATTERN=^/n\d$`)
	token := func(user string, patchbay any) string {
		c := claims{"sub": user}
		if patchbay != nil {
			c["patchbay"] = patchbay
		}
		return `{"token":"` + sign(t, "HS256", []byte(secret), c) + `","user":"forged"}`
	}
	lists := func(join, publish []string) claims { return claims{"join": join, "publish": publish} }
	none := []string{}
	for _, c := range []struct {
		name      string
		patchbay  any
		room      string
		join, pub bool
	}{
		{"no claim", nil, "r", false, false},
		{"an empty claim", claims{}, "r", false, false},
		{"empty lists", lists(none, none), "r", false, false},
		{"exact", lists([]string{"r"}, []string{"r"}), "r", true, true},
		{"join only", lists([]string{"r"}, none), "r", true, false},
		{"publish only", lists(none, []string{"r"}), "r", false, true},
		{"no prefix without a star", lists([]string{"r"}, []string{"r"}), "r2", false, false},
		{"another case", lists([]string{"R"}, []string{"R"}), "r", false, false},
		{"prefix", lists([]string{"team:*"}, []string{"team:*"}), "team:7", true, true},
		{"the prefix itself", lists([]string{"team:*"}, []string{"team:*"}), "team:", true, true},
		{"shorter than the prefix", lists([]string{"team:*"}, []string{"team:*"}), "team", false, false},
		{"a literal star", lists([]string{"team:*"}, []string{"team:*"}), "team:*", true, true},
		{"a star in the middle", lists([]string{"a*c"}, []string{"a*c"}), "abc", false, false},
		{"a room called star", lists([]string{"r"}, []string{"r"}), "*", false, false},
		{"all", lists([]string{"*"}, []string{"*"}), "anything at all", true, true},
		{"empty pattern", lists([]string{""}, []string{""}), "r", false, false},
		{"second of a list", lists([]string{"a", "b*"}, []string{"a", "b*"}), "bb", true, true},
		{"spaces count", lists([]string{" r"}, []string{"r "}), "r", false, false},
	} {
		for _, ns := range []string{"/", "/n1"} {
			p := newPeer(t, n.client().Open(), ns, token("ann", c.patchbay))
			for event, want := range map[string]bool{"join": c.join, "publish": c.pub} {
				a := p.call(event, c.room, "e")
				if a.OK != want || !want && a.Error != "not allowed by the token" {
					t.Errorf("%s, %s %s %q: %+v", c.name, ns, event, c.room, a)
				}
			}
			if a := p.call("leave", c.room); !a.OK {
				t.Errorf("%s: leave: %+v", c.name, a)
			}
			p.Close()
		}
	}
	ann := newPeer(t, n.client().Open(), "/", token("ann", lists([]string{"*"}, none)))
	if a := ann.join("r"); a.Members[0].User != "ann" {
		t.Errorf("the user is %q, want the token's", a.Members[0].User)
	}
	if a := ann.call("publish", ann.id, "e"); a.OK {
		t.Errorf("publish to a socket without permission: %+v", a)
	}
}

// A user without permission does not learn whether anybody is in a room.
func TestRelayRefusalTellsNothing(t *testing.T) {
	n := start(t, "JWT_SECRET="+secret, "RELAY=true")
	all := sign(t, "HS256", []byte(secret), claims{"patchbay": claims{"join": []string{"*"}}})
	ann := n.dial(`{"token":"` + all + `"}`)
	ann.join("full")
	eve := n.dial(`{"token":"` + sign(t, "HS256", []byte(secret), claims{}) + `"}`)
	if full, empty := eve.call("join", "full"), eve.call("join", "empty"); full.Error != empty.Error || full.Total != 0 || full.Members != nil {
		t.Errorf("%+v and %+v differ", full, empty)
	}
	ann.quiet()
}

func TestBadKeyFiles(t *testing.T) {
	dir := t.TempDir()
	private, _ := writeKey(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(newRSA(t)))
	for name, content := range map[string]string{"empty": "", "text": "no key", "half": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{private, filepath.Join(dir, "empty"), filepath.Join(dir, "text"), filepath.Join(dir, "half"), filepath.Join(dir, "absent"), dir} {
		cfg := load(t, "JWT_PUBLIC_KEY_FILE="+file)
		log := new(logBuffer)
		g, err := gateway.New(cfg, gateway.NewLogger(log, cfg))
		if g != nil || err == nil || !strings.Contains(err.Error(), "GATEWAY_JWT_PUBLIC_KEY_FILE") {
			t.Errorf("%s: %v", file, err)
		}
	}
}
