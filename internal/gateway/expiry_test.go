package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// inBubble serves a gateway in a bubble and calls f with a function that connects with an auth and returns what comes.
func inBubble(t *testing.T, f func(t *testing.T, connect func(auth string) <-chan string), vars ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := load(t, append([]string{"NODE=node-1"}, vars...)...)
		g, err := gateway.New(cfg, gateway.NewLogger(new(logBuffer), cfg))
		if err != nil {
			t.Fatal(err)
		}
		public, admin := siotest.Listen(0), siotest.Listen(0)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.ServeOn(ctx, public, admin) }() // ends by stop
		transport := &http.Transport{DialContext: public.DialContext}
		f(t, func(auth string) <-chan string {
			t.Helper()
			c, _, err := websocket.Dial(ctx, "ws://memory/socket.io/?EIO=4&transport=websocket", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Write(ctx, websocket.MessageText, []byte("40"+auth)); err != nil {
				t.Fatal(err)
			}
			got := make(chan string, 100)
			go func() { // ends with the connection
				defer close(got)
				for {
					_, data, err := c.Read(context.WithoutCancel(ctx))
					if err != nil {
						return
					}
					if string(data) == "2" {
						_ = c.Write(ctx, websocket.MessageText, []byte("3")) // or the connection has ended
						continue
					}
					got <- string(data)
				}
			}()
			if p := <-got; !strings.HasPrefix(p, "0{") {
				t.Fatalf("got %q", p)
			}
			return got
		})
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		transport.CloseIdleConnections()
	})
}

func TestDisconnectWhenTheTokenExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, connect func(string) <-chan string) {
		begin := time.Now()
		got := connect(`{"token":"` + sign(t, "HS256", []byte(secret), claims{"exp": begin.Add(time.Hour).Unix()}) + `"}`)
		forever := connect(`{"token":"` + sign(t, "HS256", []byte(secret), claims{}) + `"}`)
		if p := <-got; !strings.HasPrefix(p, "40{") {
			t.Fatalf("got %q", p)
		}
		<-forever
		// A DISCONNECT, so that a stock client does not come again with the same token.
		if p := <-got; p != "41" {
			t.Errorf("got %q", p)
		}
		if took := time.Since(begin); took < time.Hour || took > time.Hour+10*time.Second {
			t.Errorf("after %v", took)
		}
		time.Sleep(24 * time.Hour) // of the bubble
		synctest.Wait()
		if len(forever) > 0 {
			t.Errorf("without exp: got %q", <-forever)
		}
	}, "JWT_SECRET="+secret)
}

// What the leeway for clocks that differ admits is not thrown out in the same moment.
func TestTokenLeeway(t *testing.T) {
	inBubble(t, func(t *testing.T, connect func(string) <-chan string) {
		for _, c := range []struct {
			ago   time.Duration
			admit bool
		}{{2 * time.Second, true}, {10 * time.Second, false}} {
			got := connect(`{"token":"` + sign(t, "HS256", []byte(secret), claims{"exp": time.Now().Add(-c.ago).Unix()}) + `"}`)
			p := <-got
			if !c.admit {
				if p != `44{"message":"Token expired"}` {
					t.Errorf("expired %v ago: got %q", c.ago, p)
				}
				continue
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if !strings.HasPrefix(p, "40{") || len(got) > 0 {
				t.Errorf("expired %v ago: got %q and %d packets more", c.ago, p, len(got))
			}
		}
	}, "JWT_SECRET="+secret)
}
