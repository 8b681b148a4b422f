package gateway_test

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// variables are the names of all variables, without their prefix.
func variables() (names []string) {
	for f := range reflect.TypeFor[gateway.Config]().Fields() {
		names = append(names, f.Tag.Get("env"))
	}
	return names
}

func TestConfigDefaults(t *testing.T) {
	cfg, unknown, err := gateway.Load(nil)
	if err != nil || len(unknown) > 0 {
		t.Fatalf("%v, %q", err, unknown)
	}
	if !regexp.MustCompile(`^[a-z0-9-]{1,63}$`).MatchString(cfg.Node) {
		t.Errorf("node %q", cfg.Node)
	}
	var empty []string
	for _, name := range variables() {
		empty = append(empty, gateway.Prefix+name+"=")
	}
	again, _, err := gateway.Load(empty)
	if err != nil || !reflect.DeepEqual(again, cfg) {
		t.Errorf("empty variables are not the defaults: %v\n%+v\n%+v", err, again, cfg)
	}
}

func TestHelp(t *testing.T) {
	t.Setenv("GATEWAY_JWT_SECRET", secret)
	var b bytes.Buffer
	if err := gateway.Help(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	names := variables()
	if len(lines) != len(names) {
		t.Fatalf("%d lines for %d variables", len(lines), len(names))
	}
	for i, f := range slices.Collect(reflect.TypeFor[gateway.Config]().Fields()) {
		help, def := f.Tag.Get("help"), f.Tag.Get("envDefault")
		if help == "" || !strings.Contains(lines[i], gateway.Prefix+names[i]+" ") || !strings.HasSuffix(lines[i], help) {
			t.Errorf("%s: %q", f.Name, lines[i])
		}
		if def != "" && !strings.Contains(lines[i], "["+def+"]") {
			t.Errorf("%s: no default in %q", f.Name, lines[i])
		}
		if !regexp.MustCompile(`^[A-Z0-9_]+$`).MatchString(names[i]) || slices.Index(names, names[i]) != i {
			t.Errorf("%s: its name is %q", f.Name, names[i])
		}
	}
	if strings.Contains(b.String(), secret) {
		t.Error("the help shows the secret")
	}
}

func TestConfigBadValues(t *testing.T) {
	for name, values := range map[string][]string{
		"NODE": {
			"Node", "a.b", "a_b", strings.Repeat("x", 64), "ü", "a b", "a\n",
			"10.1.2", "10.1.2.256", "10.1.2.3:3000", "10.1.2.3/8", "[fd00::1]", "fe80::1%eth0",
		},
		"LOG_FORMAT": {"xml", "JSON"},
		"LOG_LEVEL":  {"loud", "7"},
		"PATH": {
			"socket.io", "/", "//", "/{", "/{x}", "/a{x...}", "/{$}", "/a b", "GET /a", "/a//b", "/a/../b", "/./a", "/a?b", "/a#b", "/a%zz", "/é",
		},
		"TRANSPORTS":                    {"polling,webtransport", "ws", ",", "polling, websocket"},
		"NAMESPACES":                    {"chat", "/a,", "/a, /b", "/a,b", "/a,/a"},
		"NAMESPACE_PATTERN":             {"(", "[a"},
		"CORS_ORIGINS":                  {"example.com", "https://a.example, https://b.example", "https://a.example/", "https://a.example/path", ","},
		"CORS_CREDENTIALS":              {"perhaps"},
		"COOKIE":                        {"a b", "a;b", "a=b"},
		"JWT_SECRET":                    {"short"},
		"HTTP_COMPRESSION_THRESHOLD":    {"-1", "x", "1.5"},
		"METRICS_EVENTS":                {"other", "a,", "a,b,a", strings.Repeat("x", 65), "\xff", strings.Repeat("x,", 100) + "y"},
		"METRICS_MAX_EVENTS":            {"-1", "x"},
		"SHUTDOWN_DELAY":                {"-1s", "5", "soon"},
		"SHUTDOWN_TIMEOUT":              {"0s", "-1s", "20"},
		"DRAIN_WINDOW":                  {"-1s", "10"},
		"DRAIN_RATE":                    {"-1", "fast"},
		"MAX_CONNECTION_AGE":            {"-1s", "60"},
		"MAX_CONNECTION_AGE_JITTER":     {"-0.1", "1.1", "20%", "NaN"},
		"HANDSHAKE_RATE":                {"-1", "1.5"},
		"HANDSHAKE_BURST":               {"-1", "5"}, // without a rate
		"RECOVERY_MAX_DISCONNECTION":    {"0", "2 minutes"},
		"MAX_SESSIONS":                  {"0", "-1", "many", "1e6", "99999999999999999999"},
		"PLAYGROUND":                    {"true"}, // without the relay
		"PER_MESSAGE_DEFLATE":           {"2"},
		"PER_MESSAGE_DEFLATE_THRESHOLD": {"0"},
		"ADAPTER":                       {"Redis", "postgresql", "memory,redis"},
		"REDIS_KEY":                     {"a b", "a#b", "{a}", "a*"},
		"REDIS_SHARDED_MODE":            {"Dynamic", "dynamicPrivate"},
		"REDIS_STREAM_NAME":             {"a b", "{a}"},
		"REDIS_STREAM_COUNT":            {"0", "-1"},
		"REDIS_STREAM_MAX_LEN":          {"0"},
		"POSTGRES_POOL_SIZE":            {"0", "-1"},
		"POSTGRES_CHANNEL_PREFIX":       {strings.Repeat("x", 40), "\xff"},
		"POSTGRES_TABLE":                {strings.Repeat("x", 64), "\xff"},
		"POSTGRES_SCHEMA":               {strings.Repeat("x", 64), "\xff"},
		"POSTGRES_THRESHOLD":            {"0", "8001"},
		"CANARY_TIMEOUT":                {"5s", "1s"},
		"START_TIMEOUT":                 {"-1s", "60"},
		"PEER_ADDR":                     {":9090", "a b", "host:0", "host:port", "host:65536", "http://host", "::1:x", "host/"},
		"PEER_SECRET":                   {"short"},
	} {
		for _, value := range values {
			t.Run(name+"="+value, func(t *testing.T) {
				cfg, _, err := gateway.Load(environ(name + "=" + value))
				if err == nil {
					t.Fatalf("accepted: %+v", cfg)
				}
				if !strings.Contains(err.Error(), gateway.Prefix+name+":") {
					t.Errorf("does not name its variable: %v", err)
				}
				if strings.HasSuffix(name, "_SECRET") && strings.Contains(err.Error(), value+"\"") {
					t.Errorf("tells the secret: %v", err)
				}
			})
		}
	}
}

// Kubernetes can tell a pod its address, but not with dashes.
func TestConfigNodeOfAddress(t *testing.T) {
	for value, want := range map[string]string{
		"10.1.2.3": "10-1-2-3", "10-1-2-3": "10-1-2-3", "fd00:10:244::1f": "fd00-10-244--1f", "FD00::1": "fd00--1",
	} {
		if cfg, _, err := gateway.Load(environ("NODE=" + value)); err != nil || cfg.Node != want {
			t.Errorf("%s: %+v, %v, want %s", value, cfg, err, want)
		}
	}
}

// Each variable is parsed: a value that fits no type but text is refused by all others.
func TestConfigTypes(t *testing.T) {
	for f := range reflect.TypeFor[gateway.Config]().Fields() {
		name := f.Tag.Get("env")
		switch f.Type.Kind() {
		case reflect.String, reflect.Slice:
			continue
		default:
		}
		value := "(" // not a number, a truth, a duration, a level or a regular expression
		if _, _, err := gateway.Load(environ(name + "=" + value)); err == nil || !strings.Contains(err.Error(), gateway.Prefix+name+":") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestConfigCombinations(t *testing.T) {
	for _, c := range []struct {
		vars []string
		bad  string // the variable that is named
	}{
		{[]string{"CORS_ORIGINS=*", "CORS_CREDENTIALS=true"}, "CORS_CREDENTIALS"},
		{[]string{"CORS_ORIGINS=https://a.example,*", "CORS_CREDENTIALS=true"}, "CORS_CREDENTIALS"},
		{[]string{"CORS_ORIGINS=*"}, ""},
		{[]string{"CORS_ORIGINS=https://a.example,http://localhost:8080", "CORS_CREDENTIALS=true"}, ""},
		{[]string{"JWT_SECRET=" + secret, "JWT_PUBLIC_KEY_FILE=/key.pem"}, "JWT_SECRET"},
		{[]string{"PLAYGROUND=true", "RELAY=true", "SERVE_CLIENT=false"}, "PLAYGROUND"},
		{[]string{"PLAYGROUND=true", "RELAY=true"}, ""},
		{[]string{"METRICS_MAX_EVENTS=0", "METRICS_EVENTS=message,chat message"}, ""},
		{[]string{"HTTP_COMPRESSION_THRESHOLD=0", "SHUTDOWN_DELAY=0s", "DRAIN_WINDOW=0s", "DRAIN_RATE=0", "MAX_CONNECTION_AGE=0s"}, ""},
		{[]string{"HANDSHAKE_RATE=100", "HANDSHAKE_BURST=0"}, ""},
		{[]string{"HANDSHAKE_RATE=0", "HANDSHAKE_BURST=1"}, "HANDSHAKE_BURST"},
		{[]string{"PATH=/a/b-c_d.e~f/", "TRAILING_SLASH=false"}, ""},
		{[]string{"NAMESPACES=/,/a,/b/c"}, ""},
		{[]string{"ADAPTER=redis"}, "REDIS_URL"},
		{[]string{"ADAPTER=redis-sharded"}, "REDIS_URL"},
		{[]string{"ADAPTER=redis-streams"}, "REDIS_URL"},
		{[]string{"ADAPTER=redis", "REDIS_URL=redis://redis"}, ""},
		{[]string{"ADAPTER=redis-sharded", "REDIS_URL=redis+cluster://a,b", "REDIS_SHARDED_MODE=static", "START_TIMEOUT=0"}, ""},
		{[]string{"ADAPTER=redis-streams", "REDIS_URL=redis+sentinel://a,b/master"}, ""},
		{[]string{"ADAPTER=redis", "REDIS_URL=redis://redis", "RECOVERY=true"}, "RECOVERY"},
		{[]string{"ADAPTER=postgres"}, "POSTGRES_URL"},
		{[]string{"ADAPTER=postgres", "POSTGRES_LISTEN_URL=postgres://db"}, "POSTGRES_URL"},
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://db", "RECOVERY=true"}, "RECOVERY"},
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://db", "POSTGRES_LISTEN_URL=http://db"}, "POSTGRES_LISTEN_URL"},
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://db", "POSTGRES_LISTEN_URL=postgresql://db", "POSTGRES_TABLE=it's \"x\""}, ""},
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://db", "POSTGRES_RETENTION=26s"}, "POSTGRES_RETENTION"},
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://db", "POSTGRES_RETENTION=27s"}, ""},
		{[]string{"CANARY_TIMEOUT=1h"}, ""},
		{[]string{"ADAPTER=memory", "RECOVERY=true", "REDIS_URL=redis://redis"}, ""},
		{[]string{"REDIS_URL=redis://redis", "REDIS_TLS_CA_FILE=ca.pem"}, "REDIS_TLS_CA_FILE"},
		{[]string{"REDIS_URL=redis://redis", "REDIS_TLS_SERVER_NAME=redis"}, "REDIS_TLS_SERVER_NAME"},
		{[]string{"REDIS_URL=rediss://redis", "REDIS_TLS_CA_FILE=ca.pem", "REDIS_TLS_SERVER_NAME=redis"}, ""},
		{[]string{"PEER_ADDR=10.0.0.1"}, ""},
		{[]string{"PEER_ADDR=gateway-1.gateway:9090"}, ""},
		{[]string{"PEER_ADDR=[fd00::1]:9090"}, ""},
		{[]string{"PEER_ADDR=fd00::1"}, ""},
	} {
		_, _, err := gateway.Load(environ(c.vars...))
		switch {
		case c.bad == "" && err != nil:
			t.Errorf("%q: %v", c.vars, err)
		case c.bad != "" && (err == nil || !strings.Contains(err.Error(), gateway.Prefix+c.bad+":")):
			t.Errorf("%q: %v", c.vars, err)
		}
	}
}

func TestConfigNamesAllErrors(t *testing.T) {
	for _, vars := range [][]string{
		{"MAX_SESSIONS=x", "PPROF=x", "PING_INTERVAL=x", "LOG_LEVEL=x", "NAMESPACE_PATTERN=("}, // of parsing
		{"MAX_SESSIONS=0", "NODE=X", "PATH=x", "LOG_FORMAT=x", "SHUTDOWN_TIMEOUT=0s"},          // of checking
	} {
		_, _, err := gateway.Load(environ(vars...))
		if err == nil {
			t.Fatalf("%q: no error", vars)
		}
		for _, v := range vars {
			name, _, _ := strings.Cut(v, "=")
			if !strings.Contains(err.Error(), gateway.Prefix+name+":") {
				t.Errorf("%s is missing in: %v", name, err)
			}
		}
	}
}

func TestConfigUnknownVariables(t *testing.T) {
	_, unknown, err := gateway.Load([]string{
		"GATEWAY_ADDR=:1", "GATEWAY_ADR=:1", "GATEWAY_PORTS=x", "GATEWAY_=x", "gateway_addr=:1", "OTHER_ADDR=x", "MY_GATEWAY_ADDR=x",
		// What Kubernetes sets for a Service of the name "gateway":
		"GATEWAY_SERVICE_HOST=10.0.0.1", "GATEWAY_SERVICE_PORT=3000", "GATEWAY_SERVICE_PORT_HTTP=3000",
		"GATEWAY_PORT=tcp://10.0.0.1:3000", "GATEWAY_PORT_3000_TCP=tcp://10.0.0.1:3000", "GATEWAY_PORT_3000_TCP_PROTO=tcp",
		"GATEWAY_PORT_3000_TCP_PORT=3000", "GATEWAY_PORT_3000_TCP_ADDR=10.0.0.1",
	})
	if want := []string{"GATEWAY_", "GATEWAY_ADR", "GATEWAY_PORTS"}; err != nil || !slices.Equal(unknown, want) {
		t.Errorf("got %q, %v, want %q", unknown, err, want)
	}
}

// otherValues are values that differ from the defaults, for the variables whose kind does not tell one.
var otherValues = map[string]string{
	"ADDR": ":1", "ADMIN_ADDR": ":2", "NODE": "other", "LOG_FORMAT": "text", "LOG_LEVEL": "warn", "CORS_ORIGINS": "https://a.example", "PATH": "/other",
	"TRANSPORTS": "websocket", "COOKIE": "io", "NAMESPACES": "/other", "NAMESPACE_PATTERN": "^/x$", "JWT_SECRET": secret,
	"JWT_PUBLIC_KEY_FILE": "/key.pem", "JWT_ISSUER": "issuer", "JWT_AUDIENCE": "chat",
	"ADAPTER": "redis", "REDIS_URL": "rediss://other", "REDIS_TLS_CA_FILE": "/ca.pem", "REDIS_TLS_SERVER_NAME": "other", "REDIS_KEY": "other",
	"POSTGRES_URL": "postgres://other", "POSTGRES_LISTEN_URL": "postgres://other", "POSTGRES_CHANNEL_PREFIX": "other", "POSTGRES_SCHEMA": "other",
	"POSTGRES_TABLE": "other", "REDIS_SHARDED_MODE": "static", "REDIS_STREAM_NAME": "other", "PEER_ADDR": "10.0.0.1", "PEER_SECRET": secret, "CANARY_TIMEOUT": "1m",
	"CANARY_INTERVAL": "1s", "METRICS_EVENTS": "message",
}

// elsewhere are the variables that are not options of the server; other tests show what they do.
var elsewhere = []string{
	"ADDR", "ADMIN_ADDR", "LOG_FORMAT", "LOG_LEVEL", "PPROF", "SHUTDOWN_DELAY", "SHUTDOWN_TIMEOUT", "READ_HEADER_TIMEOUT", "IDLE_TIMEOUT",
	"MAX_HEADER_BYTES", "CORS_ORIGINS", "CORS_CREDENTIALS", "NAMESPACES", "NAMESPACE_PATTERN", "JWT_SECRET", "JWT_PUBLIC_KEY_FILE", "JWT_ISSUER",
	"JWT_AUDIENCE", "RELAY", "RELAY_MAX_ROOMS", "SERVE_CLIENT", "PLAYGROUND", "ADAPTER", "REDIS_URL", "REDIS_TLS_CA_FILE", "REDIS_TLS_SERVER_NAME",
	"REDIS_KEY", "REDIS_SHARDED_MODE", "REDIS_STREAM_NAME", "REDIS_STREAM_COUNT", "REDIS_STREAM_MAX_LEN", "REQUEST_TIMEOUT", "PUBLISH_TIMEOUT",
	"CANARY_INTERVAL", "CANARY_TIMEOUT", "START_TIMEOUT", "PEER_ADDR", "PEER_SECRET", "POSTGRES_URL", "POSTGRES_LISTEN_URL", "POSTGRES_POOL_SIZE",
	"POSTGRES_CHANNEL_PREFIX", "POSTGRES_SCHEMA", "POSTGRES_TABLE", "POSTGRES_THRESHOLD", "POSTGRES_RETENTION", "METRICS_EVENTS", "METRICS_MAX_EVENTS",
}

// conditions are variables that another one must be set for.
var conditions = map[string]string{
	"PER_MESSAGE_DEFLATE_THRESHOLD": "PER_MESSAGE_DEFLATE=true", "CORS_CREDENTIALS": "CORS_ORIGINS=https://a.example",
	"RECOVERY_MAX_DISCONNECTION": "RECOVERY=true", "RECOVERY_MAX_PACKETS": "RECOVERY=true", "RECOVERY_MAX_BYTES": "RECOVERY=true",
	"RECOVERY_MAX_SESSIONS": "RECOVERY=true", "PLAYGROUND": "RELAY=true",
	"HANDSHAKE_BURST": "HANDSHAKE_RATE=4321",
	"ADAPTER":         "REDIS_URL=redis://redis", "REDIS_TLS_CA_FILE": "REDIS_URL=rediss://redis", "REDIS_TLS_SERVER_NAME": "REDIS_URL=rediss://redis",
}

// other returns a value for a field that is not its default.
func other(f reflect.StructField) string {
	if v, ok := otherValues[f.Tag.Get("env")]; ok {
		return v
	}
	switch f.Type.Kind() {
	case reflect.Bool:
		return map[string]string{"true": "false", "false": "true"}[f.Tag.Get("envDefault")]
	case reflect.Int:
		return "4321"
	case reflect.Float64:
		return "0.4321"
	default:
		return "12345ms"
	}
}

func TestEachVariableHasItsEffect(t *testing.T) {
	for f := range reflect.TypeFor[gateway.Config]().Fields() {
		name := f.Tag.Get("env")
		vars := []string{"NODE=node-1"}
		if c, ok := conditions[name]; ok {
			vars = append(vars, c)
		}
		before := load(t, vars...)
		after := load(t, append(vars, name+"="+other(f))...)
		a, b := reflect.ValueOf(*before), reflect.ValueOf(*after)
		for g := range reflect.TypeFor[gateway.Config]().Fields() {
			same := reflect.DeepEqual(a.FieldByIndex(g.Index).Interface(), b.FieldByIndex(g.Index).Interface())
			if same == (g.Name == f.Name) {
				t.Errorf("%s=%s: field %s: same %v", name, other(f), g.Name, same)
			}
		}
		effect := describe(before.SIOOptions()) != describe(after.SIOOptions())
		if effect == slices.Contains(elsewhere, name) {
			t.Errorf("%s=%s: an effect on the server's options: %v", name, other(f), effect)
		}
	}
	for _, name := range elsewhere {
		if !slices.Contains(variables(), name) {
			t.Errorf("there is no variable %s", name)
		}
	}
}

// Each option of the server that an operator may want is set by some variable.
func TestNoOptionIsForgotten(t *testing.T) {
	vars := []string{"NODE=node-1", "RECOVERY=true", "PER_MESSAGE_DEFLATE=true", "COOKIE=io", "CHECK_ORIGIN=true"}
	var changed []string
	for f := range reflect.TypeFor[gateway.Config]().Fields() {
		name := f.Tag.Get("env")
		if !slices.Contains(elsewhere, name) && !slices.ContainsFunc(vars, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			changed = append(changed, name+"="+other(f))
		}
	}
	a, b := load(t, vars...).SIOOptions(), load(t, append(changed, append(vars[1:], "NODE=other")...)...).SIOOptions()
	ours := []string{ // what the program sets, or has no use for
		"Parser", "Adapter", "Hooks", "Logger", "Engine.GenerateID", "Engine.InitialPacket", "Engine.InitialHeaders", "Engine.Headers",
		"Engine.Context", "Engine.Hooks", "Engine.Logger", "Engine.AllowRequest", "Engine.Cookie", "Recovery.SkipMiddlewares",
	}
	var walk func(name string, a, b reflect.Value)
	walk = func(name string, a, b reflect.Value) {
		switch {
		case slices.Contains(ours, name):
		case a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil():
			walk(name, a.Elem(), b.Elem())
		case a.Kind() == reflect.Struct:
			for i := range a.NumField() {
				walk(strings.TrimPrefix(name+"."+a.Type().Field(i).Name, "."), a.Field(i), b.Field(i))
			}
		case reflect.DeepEqual(a.Interface(), b.Interface()):
			t.Errorf("no variable changes %s", name)
		}
	}
	walk("", reflect.ValueOf(a), reflect.ValueOf(b))
}

func TestNodeFromHost(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		host:                           "",
		"web-1":                        "web-1",
		"Web-1.Example.COM":            "web-1-example-com",
		"under_score":                  "under-score",
		"":                             "gateway",
		"...":                          "-",
		"žluťoučký":                    "",
		"İstanbul":                     "",
		"a b\nc\x00":                   "a-b-c-",
		strings.Repeat("long.", 30):    "",
		strings.Repeat("é", 63):        "",
		"\xff\xfe":                     "-",
		"gateway-7d4b9c6f5-x2x7k":      "gateway-7d4b9c6f5-x2x7k",
		strings.Repeat("a", 63) + ".b": strings.Repeat("a", 63),
	} {
		got := gateway.NodeTag(host)
		if want != "" && got != want || !regexp.MustCompile(`^[a-z0-9-]{1,63}$`).MatchString(got) {
			t.Errorf("host %q: node %q, want %q", host, got, want)
		}
	}
}
