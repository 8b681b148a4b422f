package protocol_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// differences names every place where our server is meant to behave otherwise than the official one.
// Each slug is a heading of docs/compatibility.md.
var differences = map[string]string{
	"close-packet-on-websocket":           "a close packet on a WebSocket ends the session at once; the official server ignores it",
	"upgrade-with-polling-transport":      "a WebSocket request with transport=polling is refused with 400; the official server answers 101 and closes",
	"protocol-version-before-101":         "an unsupported EIO is refused before the 101; the official server writes the refusal into the WebSocket",
	"id-generation-before-101":            "a failed id generation is refused before the 101; the official server writes the refusal into the WebSocket",
	"unmatched-upgrade":                   "an upgrade request outside the path gets 404; the official server hangs up after a second",
	"cors-middleware":                     "CORS is net/http middleware around the server; the official server has an option",
	"ack-id-with-space":                   "a space in an acknowledgement id is an invalid packet; the official server skips it",
	"second-connect-during-middleware":    "a second CONNECT while the first is in a middleware closes the connection; the official server makes a second socket",
	"packet-after-leaving-a-namespace":    "a packet for a namespace just left is ignored; the official server closes the connection",
	"session-restored-once":               "a saved session is restored once; the official in-memory adapter restores it again and again",
	"recovery-without-offset":             "a client that has received nothing yet is recovered; the official server takes it for new",
	"recovery-after-volatile":             "volatile events carry the offset too, so they cannot spoil recovery",
	"recovery-middlewares-run":            "skipMiddlewares is false by default; in the official server it is true",
	"emit-in-middleware-with-recovery":    "events emitted in a middleware arrive also with recovery on; the official server loses them",
	"client-files":                        "the client's JavaScript files are not served; the official server serves them under its path",
	"broadcast-ack-without-timeout":       "without a timeout the default one applies; the official server times out at once",
	"recovery-before-the-loss-is-noticed": "a client that returns before its loss was noticed is recovered; the official server takes it for new",
	"socket-error-event":                  "an invalid packet is reported to a hook of the server; the official server emits error on each socket",
	"shared-attachments":                  "an attachment that is referred to twice is sent on once; the official server sends it twice",
	"raw-json":                            "JSON that nobody looked at is sent on as it came; the official server writes it anew",
	"shutdown-reason":                     "a session ended by a shutdown says so; the official engine says forced close",
	"cookie-on-websocket":                 "the cookie comes with every handshake; the official server leaves it out over WebSocket",
}

// differs tells whether the expectation is that of our server, where it is not that of the official one.
func differs(t *testing.T, slug string) bool {
	t.Helper()
	if _, ok := differences[slug]; !ok {
		t.Fatalf("no difference %q", slug)
	}
	return targetName() == "ours"
}

func TestDifferencesAreUsedAndDocumented(t *testing.T) {
	used := map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`differs\(t, "([^"]+)"\)`)
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(b), -1) {
			used[m[1]] = true
		}
	}
	doc, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Error(err)
	}
	heading := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			heading[strings.TrimSpace(title)] = true
		}
	}
	for slug := range differences {
		if !used[slug] {
			t.Errorf("no test uses %q", slug)
		}
		if !heading[slug] {
			t.Errorf("docs/compatibility.md has no heading %q", slug)
		}
	}
}
