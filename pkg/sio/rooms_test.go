package sio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// crowd connects n clients to "/" and returns them with their sockets.
func crowd(l *lab, n int) ([]*client, []*sio.Socket) {
	l.t.Helper()
	var (
		clients []*client
		sockets []*sio.Socket
	)
	for range n {
		c := l.ws()
		j := c.connect("/", "")
		synctest.Wait()
		s := l.Socket(j.SID)
		if s == nil {
			l.t.Fatalf("no socket %s", j.SID)
		}
		clients, sockets = append(clients, c), append(sockets, s)
	}
	return clients, sockets
}

func TestRoomsSelection(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		clients, s := crowd(l, 4)
		s[0].Join("a", "b")
		s[1].Join("a")
		s[2].Join("b", "c")
		id := s[3].ID()
		for _, tc := range []struct {
			name string
			b    sio.Broadcast
			want []int
		}{
			{"all", l.Except(), []int{0, 1, 2, 3}},
			{"a room", l.To("a"), []int{0, 1}},
			{"union, each once", l.To("a", "b").In("c"), []int{0, 1, 2}},
			{"unknown room", l.To("x"), nil},
			{"unknown beside known", l.To("x").To("a"), []int{0, 1}},
			{"except", l.To("a").Except("b"), []int{1}},
			{"except of all", l.Except("a"), []int{2, 3}},
			{"except two", l.Except("a", "c"), []int{3}},
			{"own id", l.To(id), []int{3}},
			{"except an id", l.Except(id), []int{0, 1, 2}},
			{"id and room", l.To(id, "c"), []int{2, 3}},
			{"local", l.Local().To("a"), []int{0, 1}},
			{"sender is left out", s[0].To("a"), []int{1}},
			{"sender is left out of all", s[0].Broadcast(), []int{1, 2, 3}},
			{"sender's except", s[0].Except("b"), []int{1, 3}},
			{"sender to its own id", s[0].To(s[0].ID()), nil},
		} {
			if err := tc.b.Emit(t.Context(), "e", tc.name); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			var got []int
			for i, c := range clients {
				switch p := c.drain(); {
				case len(p) == 1 && p[0] == fmt.Sprintf(`2["e",%q]`, tc.name):
					got = append(got, i)
				case len(p) != 0:
					t.Errorf("%s: client %d got %q", tc.name, i, p)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
			}
			found, err := tc.b.FetchSockets(t.Context())
			if err != nil || len(found) != len(tc.want) {
				t.Errorf("%s: FetchSockets found %d, %v", tc.name, len(found), err)
			}
		}
	})
}

func TestBroadcastIsAValue(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		clients, s := crowd(l, 2)
		s[0].Join("a")
		s[1].Join("b")
		both := l.To("a")
		first, second := both.To("b"), both.Except("a")
		_ = both.Emit(t.Context(), "a")
		_ = first.Emit(t.Context(), "ab")
		_ = second.Emit(t.Context(), "none")
		if got := clients[0].drain(); !slices.Equal(got, []string{`2["a"]`, `2["ab"]`}) {
			t.Errorf("client in a got %q", got)
		}
		if got := clients[1].drain(); !slices.Equal(got, []string{`2["ab"]`}) {
			t.Errorf("client in b got %q", got)
		}
	})
}

func TestRoomsOfAnothersID(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		clients, s := crowd(l, 2)
		s[1].Join(s[0].ID()) // as a listener to what is sent to one client
		s[0].Join(s[0].ID()) // has no effect
		_ = l.To(s[0].ID()).Emit(t.Context(), "e")
		for i, c := range clients {
			if got := c.drain(); !slices.Equal(got, []string{`2["e"]`}) {
				t.Errorf("client %d got %q", i, got)
			}
		}
		s[0].Leave(s[0].ID()) // its own room is for life
		clients[0].cut()
		synctest.Wait()
		_ = l.To(s[0].ID()).Emit(t.Context(), "late")
		clients[1].want(`2["late"]`)
		s[1].Leave(s[0].ID())
		if rooms := sio.Rooms(l.Of("/")); len(rooms) != 0 {
			t.Errorf("rooms left: %q", rooms)
		}
	})
}

func TestRoomsOfSocket(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		_, s := crowd(l, 1)
		s[0].Join("b", "a", "b")
		if got, want := slices.Collect(s[0].Rooms()), []string{s[0].ID(), "a", "b"}; !slices.Equal(got, want) {
			t.Errorf("rooms %q, want %q", got, want)
		}
		s[0].Leave("b", "never joined")
		if !s[0].In("a") || s[0].In("b") || !s[0].In(s[0].ID()) {
			t.Error("In is wrong")
		}
	})
}

func TestFetchSockets(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		j := c.connect("/", `{"token":"x"}`)
		synctest.Wait()
		s := l.Socket(j.SID)
		s.Join("room")
		s.SetData(map[string]any{"name": "ada"})
		c2 := l.ws()
		c2.connect("/", "")
		synctest.Wait()
		all, err := l.To("room").FetchSockets(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("got %v, %v", all, err)
		}
		r := all[0]
		if r.ID != j.SID || string(r.Data) != `{"name":"ada"}` || !slices.Equal(r.Rooms, []string{j.SID, "room"}) ||
			string(r.Handshake.Auth) != `{"token":"x"}` || r.Handshake.Query["EIO"] != "4" {
			t.Errorf("got %+v", r)
		}
		if err := r.Emit(t.Context(), "hi"); err != nil {
			t.Error(err)
		}
		c.want(`2["hi"]`)
		c2.wantNone()
		_ = r.Join(t.Context(), "x")
		_ = r.Leave(t.Context(), "room")
		if got := slices.Collect(s.Rooms()); !slices.Equal(got, []string{j.SID, "x"}) {
			t.Errorf("rooms %q", got)
		}
		_ = r.Disconnect(t.Context(), false)
		c.want("1")
		if all, _ := l.FetchSockets(t.Context()); len(all) != 1 || string(all[0].Data) != "{}" || string(all[0].Handshake.Auth) != "{}" {
			t.Errorf("got %+v", all)
		}
	})
}

// One socket whose data is no JSON must not hide the others.
func TestFetchSocketsWithDataThatCannotBeEncoded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		_, s := crowd(l, 3)
		s[1].SetData(make(chan int))
		all, err := l.FetchSockets(t.Context())
		if err == nil {
			t.Error("no error")
		}
		if len(all) < 2 {
			t.Errorf("got %d of the other sockets, want 2", len(all))
		}
	})
}

func TestUtilityMethods(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		clients, s := crowd(l, 3)
		ctx := t.Context()
		s[0].Join("a")
		_ = l.To("a").SocketsJoin(ctx, "b", "c")
		_ = l.To(s[1].ID()).SocketsJoin(ctx, "c")
		if !s[0].In("b") || !s[1].In("c") || s[1].In("b") || s[2].In("c") {
			t.Error("SocketsJoin")
		}
		_ = l.To("c").Except("a").SocketsLeave(ctx, "c")
		if !s[0].In("c") || s[1].In("c") {
			t.Error("SocketsLeave")
		}
		_ = l.Local().To("c").DisconnectSockets(ctx, false)
		clients[0].want("1")
		clients[0].wantAlive()
		_ = l.To(s[1].ID()).DisconnectSockets(ctx, true)
		clients[1].want("1")
		clients[1].wantGone()
		_ = l.SocketsJoin(ctx, "all")
		_ = l.SocketsLeave(ctx, "none")
		if !s[2].In("all") || s[0].In("all") {
			t.Error("SocketsJoin of all")
		}
		_ = l.DisconnectSockets(ctx, false)
		clients[2].want("1")
		if l.Len() != 0 {
			t.Errorf("%d sockets left", l.Len())
		}
	})
}

func TestLesson11_JoinAfterDisconnectLeavesNoRoom(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var in []string
		l.OnDisconnecting(func(_ context.Context, s *sio.Socket, _ sio.Reason) { s.Join("disconnecting") })
		l.OnDisconnect(func(_ context.Context, s *sio.Socket, _ sio.Reason) {
			s.Join("disconnect")
			in = slices.Collect(s.Rooms())
		})
		clients, s := crowd(l, 1)
		clients[0].cut()
		synctest.Wait()
		s[0].Join("late")
		_ = l.To(s[0].ID()).SocketsJoin(t.Context(), "late")
		if rooms := sio.Rooms(l.Of("/")); len(rooms) != 0 {
			t.Errorf("rooms left: %q", rooms)
		}
		if len(in) != 0 || s[0].In("late") {
			t.Errorf("the socket is in %q, in late: %v", in, s[0].In("late"))
		}
	})
}

func TestLesson11_JoinRacesWithDisconnect(t *testing.T) {
	l := newLab(t, nil)
	for i := range 200 {
		c := l.ws()
		j := c.connect("/", "")
		until(t, "visible", func() bool { return l.Socket(j.SID) != nil }) // the answer is sent first
		s := l.Socket(j.SID)
		var wg sync.WaitGroup
		for k := range 3 {
			wg.Go(func() {
				for n := range 20 {
					s.Join(fmt.Sprint(k, "-", n), "shared")
					if n%3 == 0 {
						s.Leave("shared")
					}
				}
			})
		}
		wg.Go(func() {
			if i%2 == 0 {
				c.cut()
			} else {
				s.Disconnect(false)
			}
		})
		wg.Wait()
		c.cut()
		<-s.Context().Done()
	}
	_ = l.Close() // then check looks for rooms that are left
}

// Joining and leaving one room at once ends in one or the other, for the socket and for the index alike.
func TestRoomsJoinRacesWithLeave(t *testing.T) {
	l := newLab(t, nil)
	c := l.ws()
	j := c.connect("/", "")
	until(t, "visible", func() bool { return l.Socket(j.SID) != nil })
	s := l.Socket(j.SID)
	for i := range 20_000 {
		s.Join("room")
		var wg sync.WaitGroup
		wg.Go(func() { s.Leave("room") })
		s.Join("room")
		wg.Wait()
		indexed := len(sio.Rooms(l.Of("/"))) == 1
		if in := s.In("room"); in != indexed {
			t.Fatalf("after %d rounds: the socket is in the room: %v, the room has it: %v", i, in, indexed)
		}
	}
}

func TestRoomsHammer(t *testing.T) {
	l := newLab(t, nil)
	var clients []*client
	for range 8 {
		c := l.ws()
		c.connect("/", "")
		clients = append(clients, c)
	}
	until(t, "visible", func() bool { return l.Len() == len(clients) })
	sockets := slices.Collect(l.Sockets())
	var wg sync.WaitGroup
	for i, s := range sockets {
		wg.Go(func() {
			for n := range 300 {
				s.Join(fmt.Sprint(n%7), fmt.Sprint((n+i)%5))
				s.Leave(fmt.Sprint((n + 1) % 7))
			}
			s.Join("done")
		})
		wg.Go(func() {
			for n := range 100 {
				_ = s.To(fmt.Sprint(n%7), fmt.Sprint(n%5)).Except(fmt.Sprint(n%3)).Emit(t.Context(), "e", n)
				_, _ = l.To(fmt.Sprint(n % 7)).FetchSockets(t.Context())
				_ = l.To(fmt.Sprint(n%5)).SocketsLeave(t.Context(), fmt.Sprint(n%5))
			}
		})
	}
	wg.Wait()
	_ = l.To("done").Emit(t.Context(), "last")
	for _, c := range clients {
		for {
			p, ok := c.next()
			if !ok {
				t.Fatal("the last event did not come")
			}
			if p == `2["last"]` {
				break
			}
			var args []any
			if err := json.Unmarshal([]byte(strings.TrimPrefix(p, "2")), &args); err != nil {
				t.Fatalf("%q: %v", p, err)
			}
		}
	}
}
