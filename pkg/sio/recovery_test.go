package sio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func recovering(opts sio.RecoveryOptions) *sio.Options { return &sio.Options{Recovery: &opts} }

// player is a client as a stock one is: it remembers the last string argument as its offset, also while it is not connected.
type player struct {
	pid, offset, sid string
	got              []string
	recovered        bool
}

// auth is what it presents when it comes back.
func (p *player) auth() string {
	if p.pid == "" {
		return ""
	}
	if p.offset == "" {
		return fmt.Sprintf(`{"pid":%q}`, p.pid)
	}
	return fmt.Sprintf(`{"pid":%q,"offset":%q}`, p.pid, p.offset)
}

// join connects c and takes what comes before the answer.
func (p *player) join(c *client) bool {
	if c.trySend("0"+p.auth()) != nil {
		return false
	}
	for {
		packet, ok := c.next()
		if !ok {
			return false
		}
		if j, ok := parseConnect("/", packet); ok {
			p.recovered = p.pid != "" && p.pid == j.PID
			p.pid, p.sid = j.PID, j.SID
			return true
		}
		p.take(packet)
	}
}

// take handles an event: its first argument is noted, the last one is the offset.
func (p *player) take(packet string) {
	data, ok := strings.CutPrefix(packet, "2")
	if !ok {
		return
	}
	var args []any
	if err := json.Unmarshal([]byte(data), &args); err != nil || len(args) == 0 {
		return
	}
	if len(args) > 2 {
		p.got = append(p.got, fmt.Sprint(args[1]))
	} else {
		p.got = append(p.got, fmt.Sprint(args[0]))
	}
	if offset, ok := args[len(args)-1].(string); ok {
		p.offset = offset
	}
}

// drain takes what has come, once everything is at rest.
func (p *player) drain(c *client) {
	for _, packet := range c.drain() {
		p.take(packet)
	}
}

func (p *player) wantGot(t testing.TB, want ...string) {
	t.Helper()
	if !slices.Equal(p.got, want) {
		t.Errorf("got events %q, want %q", p.got, want)
	}
}

func emit(t testing.TB, l *lab, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := l.Emit(context.Background(), "e", v); err != nil {
			t.Error(err)
		}
	}
}

// player returns a player that has joined.
func (l *lab) player(c *client) *player {
	l.t.Helper()
	p := new(player)
	if !p.join(c) {
		l.t.Fatal("not connected")
	}
	return p
}

// played returns a player that has joined and got "1".
func (l *lab) played(c *client) *player {
	l.t.Helper()
	p := l.player(c)
	emit(l.t, l, "1")
	p.drain(c)
	return p
}

// missing returns a player that got "1" and lost its connection, and so missed "2".
func (l *lab) missing(c *client) *player {
	l.t.Helper()
	p := l.played(c)
	c.cut()
	synctest.Wait()
	emit(l.t, l, "2")
	return p
}

// wantRecovered lets p come back over c, and compares what it has got then.
func (p *player) wantRecovered(c *client, want ...string) {
	c.l.t.Helper()
	p.join(c)
	p.drain(c)
	if !p.recovered {
		c.l.t.Error("not recovered")
	}
	p.wantGot(c.l.t, want...)
}

var transports = []eio.Transport{eio.WebSocket, eio.Polling}

func TestRecovery(t *testing.T) {
	for _, transport := range transports {
		t.Run(string(transport), func(t *testing.T) {
			bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
				var recovered []bool
				l.OnConnect(func(_ context.Context, s *sio.Socket) error {
					recovered = append(recovered, s.Recovered())
					if !s.Recovered() {
						s.Join("room")
						s.SetData("data")
					}
					return nil
				})
				p := l.missing(l.open(transport))
				if err := l.To("room").Emit(t.Context(), "e", "3"); err != nil {
					t.Error(err)
				}
				_ = l.To("other").Emit(t.Context(), "e", "not for it")
				_ = l.To(p.sid).Emit(t.Context(), "e", "4")
				_ = l.Except("room").Emit(t.Context(), "e", "not for it")
				_ = l.Except(p.sid).Emit(t.Context(), "e", "not for it")
				sid := p.sid
				c := l.open(transport)
				p.join(c)
				emit(t, l, "5")
				p.drain(c)
				p.wantGot(t, "1", "2", "3", "4", "5")
				if !p.recovered || p.sid != sid || !slices.Equal(recovered, []bool{false, true}) {
					t.Errorf("recovered: client %v (sid %s, was %s), server %v", p.recovered, p.sid, sid, recovered)
				}
				s := only(t, l.Of("/"))
				if !s.In("room") || s.Data() != "data" || s.ID() != sid {
					t.Errorf("in room: %v, data %v, id %s", s.In("room"), s.Data(), s.ID())
				}
			})
		})
	}
}

// The connection that a client came back on may be lost too, before anything of what it missed has arrived.
func TestLesson24_RecoveryLostAgainBeforeTheMissedArrived(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		p := l.missing(l.ws())
		emit(t, l, "3")
		second := l.ws()
		second.send("0" + p.auth())
		synctest.Wait()
		second.cut() // what it got is thrown away unseen
		synctest.Wait()
		emit(t, l, "4")
		p.wantRecovered(l.ws(), "1", "2", "3", "4")
	})
}

// Between the middlewares and the join the connection may be lost: the session is kept as it was.
func TestRecoveryConnectionDiesWhileItIsAdmitted(t *testing.T) {
	opts := recovering(sio.RecoveryOptions{})
	var kill bool
	opts.Hooks.Connected = func(s *sio.Socket) {
		if kill {
			s.Session().Close()
		}
	}
	bubble(t, opts, func(t *testing.T, l *lab) {
		l.OnConnect(func(_ context.Context, s *sio.Socket) error {
			if !s.Recovered() {
				s.Join("room")
			}
			return nil
		})
		p := l.missing(l.ws())
		kill = true
		c := l.ws()
		if p.join(c) {
			t.Fatal("joined")
		}
		kill = false
		emit(t, l, "3")
		p.wantRecovered(l.ws(), "1", "2", "3")
		if !only(t, l.Of("/")).In("room") {
			t.Error("its room was forgotten")
		}
	})
}

// If more is sent during the middlewares than is kept, some is lost, and the client must not be told otherwise.
func TestRecoveryMissedTooMuchDuringMiddlewares(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{MaxPackets: 2}), func(t *testing.T, l *lab) {
		var slow bool
		l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
			if slow {
				emit(t, l, "3", "4", "5")
			}
			return ctx, nil
		})
		p := l.missing(l.ws())
		slow = true
		c := l.ws()
		for !p.join(c) {
			c.wantGone()
			slow = false
			c = l.ws()
		}
		p.drain(c)
		if p.recovered && !slices.Equal(p.got, []string{"1", "2", "3", "4", "5"}) {
			t.Errorf("recovered, but got only %q", p.got)
		}
	})
}

// A middleware may join rooms; what is sent to them before the client is admitted must not come twice, nor too early.
func TestRecoveryRoomJoinedInMiddleware(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		var again bool
		l.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
			s.Join("user")
			return ctx, nil
		}, func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
			if again {
				_ = l.To("user").Emit(ctx, "e", "3")
			}
			return ctx, nil
		})
		p := l.missing(l.ws())
		again = true
		c := l.ws()
		p.join(c)
		emit(t, l, "4")
		p.drain(c)
		p.wantGot(t, "1", "2", "3", "4")
	})
}

// The client may be back while the server is still busy with the loss of its connection.
func TestRecoveryClientReturnsWhileTheServerNotices(t *testing.T) {
	opts := recovering(sio.RecoveryOptions{})
	opts.Hooks.Disconnected = func(s *sio.Socket, _ sio.Reason) {
		if s.Namespace().Name() == "/first" {
			time.Sleep(10 * time.Second) // stands for any delay: the namespaces of a connection end one after the other
		}
	}
	bubble(t, opts, func(t *testing.T, l *lab) {
		l.Of("/first")
		c := l.ws()
		c.connect("/first", "")
		p := l.missing(c)
		p.wantRecovered(l.ws(), "1", "2")
	})
}

func TestRecoveryClientReturnsBeforeTheServerNoticed(t *testing.T) {
	for _, transport := range transports {
		t.Run(string(transport), func(t *testing.T) {
			bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
				var g log
				l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) { g.add("%s", r) })
				first := l.open(transport)
				p := l.played(first)
				emit(t, l, "2") // on its way into a dead connection
				synctest.Wait()
				c := l.open(transport)
				p.join(c)
				emit(t, l, "3")
				p.drain(c)
				if !p.recovered {
					t.Error("not recovered")
				}
				p.wantGot(t, "1", "2", "3")
				g.want(t, "transport close")
				if n := l.Len(); n != 1 {
					t.Errorf("%d sockets, want 1", n)
				}
			})
		})
	}
}

// What is sent to a socket itself is no different from what is sent to its room.
func TestRecoveryEmitToSocketThatIsAway(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		c := l.ws()
		p := l.played(c)
		s := only(t, l.Of("/"))
		c.cut()
		synctest.Wait()
		_ = s.Emit("e", "2") // as the official server does; whether it says that the socket is away is not the point
		p.wantRecovered(l.ws(), "1", "2")
	})
}

// The connection that a client comes back on may be lost while its middlewares still run; the next one finds the session.
func TestRecoveryClientReturnsAgainDuringMiddlewares(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		var slow time.Duration
		l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
			time.Sleep(slow)
			return ctx, nil
		})
		c := l.ws()
		p := l.played(c)
		c.cut()
		synctest.Wait()
		slow = 5 * time.Second
		c = l.ws()
		c.send("0" + p.auth())
		time.Sleep(time.Second)
		c.cut()
		emit(t, l, "2")
		p.wantRecovered(l.ws(), "1", "2")
	})
}
