package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// closed waits until all sessions and sockets have ended and nothing is queued, and returns what has changed since before.
func (n *node) closed(before samples) samples {
	n.t.Helper()
	eventually(n.t, "all sessions have ended", func() bool {
		now := n.scrape()
		return n.IO().Engine().Len() == 0 && now[`patchbay_sessions{transport="polling"}`]+now[`patchbay_sessions{transport="websocket"}`] == 0 &&
			now["patchbay_queue_bytes"] == 0 && now.connected() == 0
	})
	return n.scrape().since(before) // that one was not of one moment: its counters may be older than its gauges
}

// connected returns the number of sockets.
func (s samples) connected() (n float64) {
	for name, v := range s {
		if strings.HasPrefix(name, "patchbay_sockets{") {
			n += v
		}
	}
	return n
}

// sent counts the bytes of text frames as they are on the wire.
func sent(texts ...string) (n float64) {
	for _, s := range texts {
		n += float64(2 + len(s))
		if len(s) > 125 {
			n += 2
		}
	}
	return n
}

func TestMetricsOfAWebSocket(t *testing.T) {
	n := start(t, "RELAY=true")
	before := n.scrape()
	w := n.client().Dial()
	open := w.Text()
	w.Send("40")
	connect := w.Text()
	w.Send(`421["leave","x"]`)
	ack := w.Text()
	now := n.scrape()
	if v := now[`patchbay_sessions{transport="websocket"}`]; v != 1 {
		t.Errorf("%v sessions", v)
	}
	if v := now[`patchbay_sockets{namespace="/"}`]; v != 1 {
		t.Errorf("%v sockets", v)
	}
	w.Send(`451-["leave",{"_placeholder":true,"num":0}]`)
	w.SendBinary("blob")
	w.Close()
	n.closed(before).want(t, samples{
		`handshakes_total{transport="websocket"}`:            1,
		`messages_received_total{transport="websocket"}`:     4,
		`received_bytes_total{transport="websocket"}`:        float64(len(`0`) + len(`21["leave","x"]`) + len(`51-["leave",{"_placeholder":true,"num":0}]`) + len("blob")),
		`messages_sent_total{transport="websocket"}`:         2,
		`sent_bytes_total{transport="websocket"}`:            sent(open, connect, ack),
		`events_received_total{event="leave",namespace="/"}`: 2,
		`sessions_closed_total{reason="transport close"}`:    1,
		`disconnects_total{reason="transport close"}`:        1,
		`sockets{namespace="/"}`:                             0,
	})
}

func TestMetricsOfPollingAndUpgrade(t *testing.T) {
	n := start(t, "RELAY=true")
	before := n.scrape()
	c := n.client()
	c.Handshake()
	const sentBytes = `patchbay_sent_bytes_total{transport="polling"}`
	eventually(t, "the handshake is counted", func() bool { return n.scrape().since(before)[sentBytes] > 100 })
	open := n.scrape().since(before)[sentBytes]
	c.Send("40")
	connect := c.Get().Body
	c.Send(`421["leave","x"]`, `422["leave","y"]`)
	acks := c.Get().Body
	in := samples{
		`handshakes_total{transport="polling"}`:              1,
		`sessions{transport="polling"}`:                      1,
		`sockets{namespace="/"}`:                             1,
		`messages_received_total{transport="polling"}`:       3,
		`received_bytes_total{transport="polling"}`:          float64(len(`0`) + 2*len(`21["leave","x"]`)),
		`messages_sent_total{transport="polling"}`:           3,
		`sent_bytes_total{transport="polling"}`:              open + float64(len(connect)+len(acks)),
		`events_received_total{event="leave",namespace="/"}`: 2,
	}
	if n := len(strings.Split(acks, siotest.Separator)); n == 1 {
		more := c.Get().Body
		in[`sent_bytes_total{transport="polling"}`] += float64(len(more))
	}
	eventually(t, "the response is counted", func() bool {
		return n.scrape().since(before)[`patchbay_messages_sent_total{transport="polling"}`] == 3
	})
	n.scrape().since(before).want(t, in)

	middle := n.scrape()
	w, _ := c.Upgrade()
	w.Send(`423["leave","x"]`)
	ack := w.Text()
	eventually(t, "the writes are counted", func() bool {
		return n.scrape().since(middle)[`patchbay_sent_bytes_total{transport="websocket"}`] >= sent("3probe", ack)-sent("3probe")
	})
	n.scrape().since(middle).want(t, samples{
		`sessions{transport="polling"}`:                      -1,
		`sessions{transport="websocket"}`:                    1,
		`upgrades_total{result="upgraded"}`:                  1,
		`upgrade_duration_seconds_count`:                     1,
		`messages_received_total{transport="websocket"}`:     1,
		`received_bytes_total{transport="websocket"}`:        float64(len(`23["leave","x"]`)),
		`messages_sent_total{transport="websocket"}`:         1,
		`events_received_total{event="leave",namespace="/"}`: 1,
	}, "upgrade_duration_seconds_sum", "upgrade_duration_seconds_bucket", "sent_bytes_total")
	w.Close()
	end := n.closed(middle)
	if end[`patchbay_sessions{transport="polling"}`] != -1 || end[`patchbay_sessions{transport="websocket"}`] != 0 {
		t.Errorf("after the end: %v", end)
	}
}

func TestMetricsOfAFailedUpgrade(t *testing.T) {
	n := start(t)
	before := n.scrape()
	c := n.client()
	c.Handshake()
	c.Probe().Drop()
	eventually(t, "the failure is counted", func() bool { return n.scrape()[`patchbay_upgrades_total{result="failed"}`] == 1 })
	c.Send("1")
	n.closed(before).want(t, samples{
		`handshakes_total{transport="polling"}`:           1,
		`upgrades_total{result="failed"}`:                 1,
		`sessions_closed_total{reason="transport close"}`: 1,
	}, "sent_bytes_total")
}

func TestMetricsOfRefusals(t *testing.T) {
	n := start(t, "MAX_SESSIONS=1", "CHECK_ORIGIN=true")
	before := n.scrape()
	c := n.client()
	c.Handshake()
	eventually(t, "the handshake is counted", func() bool { return n.scrape().since(before)[`patchbay_sent_bytes_total{transport="polling"}`] > 0 })
	for _, r := range []struct {
		method, query, code string
		header              []string
	}{
		{http.MethodGet, "EIO=4&transport=x", "0", nil},
		{http.MethodGet, "EIO=4&transport=" + strings.Repeat("x", 1000), "0", nil},
		{http.MethodGet, "EIO=4&transport=polling&sid=x", "1", nil},
		{http.MethodPost, "EIO=4&transport=polling", "2", nil},
		{http.MethodGet, "EIO=4&transport=websocket&sid=" + c.SID, "3", nil},
		{http.MethodGet, "EIO=4&transport=polling", "4", []string{"Origin", foreign}},
		{http.MethodGet, "EIO=3&transport=polling", "5", nil},
		{http.MethodGet, "EIO=4&transport=polling", "unavailable", nil},
	} {
		was := n.scrape()
		n.do(r.method, n.public+"/socket.io/?"+r.query, r.header...)
		n.scrape().since(was).want(t, samples{fmt.Sprintf("requests_refused_total{code=%q}", r.code): 1})
	}
	c.Send("1")
	got := n.closed(before)
	if got[`patchbay_handshakes_total{transport="polling"}`] != 1 {
		t.Errorf("what was refused is counted as a handshake: %v", got)
	}
}

func TestMetricsOfHandshakeRate(t *testing.T) {
	n := start(t, "HANDSHAKE_RATE=1", "HANDSHAKE_BURST=3")
	opened := 0
	r := n.do(http.MethodGet, n.public+"/socket.io/?EIO=4&transport=polling")
	for ; r.Status == http.StatusOK; r = n.do(http.MethodGet, n.public+"/socket.io/?EIO=4&transport=polling") {
		opened++
	}
	if opened < 3 || r.Status != http.StatusServiceUnavailable {
		t.Errorf("%d were opened, then: %d", opened, r.Status)
	}
	if v := n.scrape()[`patchbay_requests_refused_total{code="rate"}`]; v != 1 {
		t.Errorf("%v were refused", v)
	}
}

func TestMetricsOfConnects(t *testing.T) {
	n := start(t, "NAMESPACES=/,/a", "JWT_SECRET="+secret)
	before := n.scrape()
	w := n.client().Open()
	for _, ns := range []string{"", "/a,", "/a,", "/none,", "/none2,"} {
		w.Send("40" + ns)
		w.Text()
	}
	w.Close()
	got := n.closed(before)
	for ns, want := range map[string]float64{"/": 1, "/a": 2, "other": 2} {
		if v := got[fmt.Sprintf("patchbay_connects_refused_total{namespace=%q}", ns)]; v != want {
			t.Errorf("%s: %v refused, want %v", ns, v, want)
		}
	}
	for series := range got {
		if strings.Contains(series, "none") || strings.HasPrefix(series, "patchbay_sockets") || strings.HasPrefix(series, "patchbay_disconnects") {
			t.Errorf("%s changed", series)
		}
	}
}

func TestMetricsOfEmits(t *testing.T) {
	n := start(t, "RELAY=true", "NAMESPACES=/,/a")
	ann := newPeer(t, n.client().Open(), "/a", "")
	bob, eve := newPeer(t, n.client().Open(), "/a", ""), newPeer(t, n.client().Open(), "/a", "")
	ann.join("r")
	bob.join("r")
	ann.presence()
	before := n.scrape()
	eve.call("publish", "r", "e") // to two
	ann.call("publish", "r", "e") // to one
	ann.call("publish", "x", "e") // to nobody
	ann.event()
	bob.event()
	bob.event()
	n.scrape().since(before).want(t, samples{
		`events_received_total{event="publish",namespace="/a"}`: 3,
		`emits_total{event="other",namespace="/a"}`:             2, // what reaches nobody is not counted
		`deliveries_total{event="other",namespace="/a"}`:        3,
	}, "messages_", "received_bytes_total", "sent_bytes_total", "queue_bytes")
}

func TestMetricsOfDisconnects(t *testing.T) {
	n := start(t, "PING_INTERVAL=300ms", "PING_TIMEOUT=200ms", "MAX_QUEUE_BYTES=5000")
	n.IO().On("panic", func(context.Context, *sio.Socket, *sio.Event) error { panic("on purpose") })
	n.IO().On("fail", func(context.Context, *sio.Socket, *sio.Event) error { return errors.New("on purpose") })
	for name, c := range map[string]struct {
		do                func(*siotest.WS)
		socket, session   string
		protocol, handler float64
	}{
		"DISCONNECT":  {func(w *siotest.WS) { w.Send("41"); w.Close() }, "client namespace disconnect", "transport close", 0, 0},
		"close":       {func(w *siotest.WS) { w.Close() }, "transport close", "transport close", 0, 0},
		"lost":        {func(w *siotest.WS) { w.Drop() }, "transport close", "transport close", 0, 0},
		"silent":      {func(w *siotest.WS) { w.DrainClose() }, "ping timeout", "ping timeout", 0, 0},
		"by server":   {func(w *siotest.WS) { n.socket().Disconnect(false); w.Expect("41"); w.Close() }, "server namespace disconnect", "transport close", 0, 0},
		"by server 2": {func(w *siotest.WS) { n.socket().Disconnect(true); w.DrainClose() }, "server namespace disconnect", "forced close", 0, 0},
		"nonsense":    {func(w *siotest.WS) { w.Send("4x"); w.DrainClose() }, "forced close", "forced close", 1, 0},
		"bad packet":  {func(w *siotest.WS) { w.Send("x"); w.DrainClose() }, "parse error", "parse error", 0, 0},
		"panic":       {func(w *siotest.WS) { w.Send(`42["panic"]`); w.Expect("41"); w.Close() }, "server namespace disconnect", "transport close", 0, 1},
		"error":       {func(w *siotest.WS) { w.Send(`421["fail"]`, "41"); w.Close() }, "client namespace disconnect", "transport close", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := n.scrape()
			w := n.client().Open()
			w.Connect("/", "")
			c.do(w)
			eventually(t, "the handler has run", func() bool { return n.scrape().since(before)["patchbay_handler_errors_total"] == c.handler })
			want := samples{
				`handshakes_total{transport="websocket"}`:                  1,
				fmt.Sprintf("disconnects_total{reason=%q}", c.socket):      1,
				fmt.Sprintf("sessions_closed_total{reason=%q}", c.session): 1,
			}
			if c.protocol > 0 {
				want["protocol_errors_total"] = c.protocol
			}
			if c.handler > 0 {
				want["handler_errors_total"] = c.handler
			}
			n.closed(before).want(t, want, "messages_", "received_bytes_total", "sent_bytes_total", "events_received_total")
		})
	}
}

func TestMetricsOfSlowAndVolatile(t *testing.T) {
	n := start(t, "MAX_QUEUE_BYTES=5000")
	before := n.scrape()
	c := n.client()
	c.Handshake()
	c.Send("40")
	c.Poll() // and no further one
	s := n.socket()
	if err := s.Volatile().Emit("lost"); err != nil {
		t.Error(err)
	}
	if v := n.scrape().since(before)["patchbay_volatile_dropped_total"]; v != 1 {
		t.Errorf("%v volatile events dropped", v)
	}
	if err := s.Emit("e", strings.Repeat("x", 3000)); err != nil {
		t.Error(err)
	}
	if v := n.scrape()["patchbay_queue_bytes"]; v < 3000 || v > 3100 {
		t.Errorf("%v bytes queued", v)
	}
	if v := n.scrape()["patchbay_clients_behind"]; v != 1 {
		t.Errorf("%v clients are behind", v)
	}
	if err := s.Emit("e", strings.Repeat("x", 3000)); err == nil {
		t.Error("the queue takes more than its bound")
	}
	n.closed(before).want(t, samples{
		`handshakes_total{transport="polling"}`:         1,
		`sessions_closed_total{reason="slow consumer"}`: 1,
		`disconnects_total{reason="slow consumer"}`:     1,
		`slow_clients_closed_total`:                     1,
		`client_behind_duration_seconds_count`:          1,
		`volatile_dropped_total`:                        1,
		`emits_total{event="other",namespace="/"}`:      2,
		`deliveries_total{event="other",namespace="/"}`: 2,
	}, "messages_", "received_bytes_total", "sent_bytes_total", "client_behind_duration_seconds_sum", "client_behind_duration_seconds_bucket")
	line := n.log.line(t, "slow_client_closed")
	if line["level"] != "WARN" || line["session"] != c.SID || line["transport"] != "polling" || line["queued_bytes"].(float64) < 3000 ||
		line["message_bytes"].(float64) < 3000 || line["not_logged"] != 0.0 || !strings.HasPrefix(line["remote_addr"].(string), "127.0.0.1:") {
		t.Errorf("logged: %v", line)
	}
}

// A flood of slow clients does not flood the log.
func TestLogOfSlowClients(t *testing.T) {
	n := start(t, "MAX_QUEUE_BYTES=5000")
	before := n.scrape()
	const clients = gateway.SlowLines + 5
	for range clients {
		c := n.client()
		c.Header.Set("X-Forwarded-For", "192.0.2.1"+strings.Repeat(", 192.0.2.2", 100))
		c.Handshake()
		c.Send("40")
		c.Poll() // and no further one
		s := n.socket()
		for s.Emit("e", strings.Repeat("x", 3000)) == nil {
		}
		eventually(t, "it is gone", func() bool { return n.IO().Engine().Len() == 0 })
	}
	if v := n.closed(before)["patchbay_slow_clients_closed_total"]; v != clients {
		t.Errorf("%v slow clients", v)
	}
	log := n.log.String()
	if lines := strings.Count(log, "slow_client_closed"); lines != gateway.SlowLines {
		t.Errorf("%d lines for %d slow clients", lines, clients)
	}
	if !strings.Contains(log, `"forwarded_for":"192.0.2.1, 192.0.2.2`) || strings.Contains(log, strings.Repeat(", 192.0.2.2", 50)) {
		t.Error("where they came from is not in the log, or too much of it")
	}
}

func TestSlowLimit(t *testing.T) {
	allow := gateway.NewSlowLimit()
	at := time.Now()
	for i := range 3 * gateway.SlowLines {
		if ok, silent := allow(at); ok != (i < gateway.SlowLines) || silent != 0 {
			t.Errorf("line %d: %v, %d", i, ok, silent)
		}
	}
	at = at.Add(gateway.SlowInterval)
	if ok, silent := allow(at); !ok || silent != 2*gateway.SlowLines {
		t.Errorf("later: %v, %d", ok, silent)
	}
	if ok, silent := allow(at); !ok || silent != 0 {
		t.Errorf("after that: %v, %d", ok, silent)
	}
}

// What /readyz says is in the metrics.
func TestMetricsOfReadiness(t *testing.T) {
	n := start(t)
	eventually(t, "it is ready", func() bool { return n.scrape()["patchbay_ready"] == 1 })
	for _, reason := range gateway.NotReadyReasons() {
		if v, ok := n.scrape()[fmt.Sprintf("patchbay_not_ready{reason=%q}", reason)]; v != 0 || !ok {
			t.Errorf("ready, but %s: %v", reason, v)
		}
	}
	for what, reason := range gateway.NotReady {
		n.SetHealth(what, "for a test")
		now := n.scrape()
		if now["patchbay_ready"] != 0 {
			t.Errorf("ready in spite of %s", what)
		}
		for _, r := range gateway.NotReadyReasons() {
			if v := now[fmt.Sprintf("patchbay_not_ready{reason=%q}", r)]; (v == 1) != (r == reason) {
				t.Errorf("%s: not_ready{reason=%q} is %v", what, r, v)
			}
		}
		n.SetHealth(what, "")
	}
}

func TestMetricsOfAcks(t *testing.T) {
	n := start(t, "ACK_TIMEOUT=50ms")
	p := n.dial("")
	before := n.scrape()
	s := n.socket()
	ctx, cancel := context.WithTimeout(t.Context(), siotest.Patience)
	defer cancel()
	answered := make(chan error, 1)
	go func() { // ends with its answer
		_, err := s.EmitWithAck(ctx, "q")
		answered <- err
	}()
	q := p.Text()
	p.Send(strings.Replace(strings.TrimSuffix(q, `["q"]`), "42", "43", 1) + "[]")
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if _, err := s.EmitWithAck(t.Context(), "q"); !errors.Is(err, sio.ErrAckTimeout) {
		t.Errorf("no answer: %v", err)
	}
	n.scrape().since(before).want(t, samples{
		`acks_total{result="acked"}`:                    1,
		`acks_total{result="timeout"}`:                  1,
		`emits_total{event="other",namespace="/"}`:      2,
		`deliveries_total{event="other",namespace="/"}`: 2,
	}, "messages_", "received_bytes_total", "sent_bytes_total", "queue_bytes")
}

func TestMetricsOfRecovery(t *testing.T) {
	n := start(t, "RELAY=true", "RECOVERY=true")
	ann, bob := n.dial("{}"), n.dial("{}")
	ann.join("r")
	before := n.scrape()
	bob.call("publish", "r", "e")
	offset := offsetOf(t, ann.event())
	ann.Drop()
	back, _ := recoverPeer(t, n.client(), ann, offset, "")
	if back.id != ann.id {
		t.Error("not recovered")
	}
	other, _ := recoverPeer(t, n.client(), &peer{pid: "unknown"}, offset, "")
	if other.id == ann.id {
		t.Error("recovered twice")
	}
	got := n.scrape().since(before)
	for result, want := range map[string]float64{"recovered": 1, "new": 1} {
		if v := got[fmt.Sprintf("patchbay_recoveries_total{result=%q}", result)]; v != want {
			t.Errorf("%s: %v, want %v", result, v, want)
		}
	}
}

func TestMetricsOfNamespaces(t *testing.T) {
	for cleanup, left := range map[bool]float64{true: 3, false: 5} {
		n := start(t, "NAMESPACES=/,/a,/b", `NAMESPACE_PATTERN=^/dyn-`, fmt.Sprintf("CLEANUP_EMPTY_CHILD_NAMESPACES=%v", cleanup))
		count := func() float64 { return n.scrape()["patchbay_namespaces"] }
		if count() != 3 {
			t.Errorf("%v namespaces at the start", count())
		}
		w := n.client().Open()
		w.Connect("/dyn-1", "")
		w.Connect("/dyn-2", "")
		if count() != 5 {
			t.Errorf("%v namespaces with two more", count())
		}
		w.Close()
		eventually(t, "empty namespaces are gone", func() bool { return n.IO().Engine().Len() == 0 && count() == left })
	}
}

// However many namespaces clients make, and whatever their names, the number of series is bounded, and those of configured
// namespaces have their own.
func TestMetricsLabels(t *testing.T) {
	n := start(t, "NAMESPACES=/,/later", `NAMESPACE_PATTERN=^/`, "MAX_NAMESPACES=200")
	before := len(n.scrape())
	w := n.client().Open()
	const many = 120
	for i := range many {
		ns := fmt.Sprintf("/n%d", i)
		if i == 0 {
			ns = "/\"weird\"\\ {a=\"b\"} 1\n\t\u2028é"
		}
		w.Connect(ns, "")
	}
	w.Connect("/later", "")
	values, sockets := 0, 0.0
	got := n.scrape()
	for series, v := range got {
		if strings.HasPrefix(series, "patchbay_sockets{") {
			values++
			sockets += v
		}
	}
	if values > 51 || sockets != many+1 || got[`patchbay_sockets{namespace="other"}`] < many-50 {
		t.Errorf("%d series of %v sockets, %v in others", values, sockets, got[`patchbay_sockets{namespace="other"}`])
	}
	if got[`patchbay_sockets{namespace="/later"}`] != 1 {
		t.Error("a configured namespace has no label of its own any more")
	}
	if len(got)-before > 60 {
		t.Errorf("%d series more", len(got)-before)
	}
	w.Close()
	for series, v := range n.closed(got) {
		if strings.HasPrefix(series, "patchbay_sockets{") && n.scrape()[series] != 0 {
			t.Errorf("%s: %v", series, v)
		}
	}
}

// A client that is refused in the middle of a WebSocket handshake leaves nothing.
func TestMetricsOfARefusedWebSocket(t *testing.T) {
	n := start(t, "CHECK_ORIGIN=true")
	before := n.scrape()
	c := n.client()
	c.Header.Set("Origin", foreign)
	if _, r, err := c.TryDial(&websocket.DialOptions{}); err == nil || r.Status != http.StatusBadRequest {
		t.Errorf("got %d, %v", r.Status, err)
	}
	n.closed(before).want(t, samples{`requests_refused_total{code="4"}`: 1})
}
