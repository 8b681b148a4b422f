package sio_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

type (
	Message struct{ ID, Room, Text string }
	Receipt struct{ ID string }
	User    struct{ Name string }
	userKey struct{}
)

func verify(_ context.Context, token string) (User, error) {
	if token != "secret" {
		return User{}, &sio.ConnectError{Message: "invalid token", Data: map[string]bool{"retry": false}}
	}
	return User{Name: "ada"}, nil
}

func Example() {
	run := func(ctx context.Context, lis net.Listener) error {
		io := sio.NewServer(&sio.Options{})
		chat := io.Of("/chat")
		chat.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
			var auth struct{ Token string }
			if err := s.Handshake().Auth(&auth); err != nil {
				return nil, err
			}
			user, err := verify(ctx, auth.Token)
			return context.WithValue(ctx, userKey{}, user), err // an error refuses the client: CONNECT_ERROR
		})
		chat.OnConnect(func(ctx context.Context, s *sio.Socket) error {
			s.Join("lobby")
			user, _ := ctx.Value(userKey{}).(User)
			return s.Emit("welcome", user.Name)
		})
		chat.On("message", sio.Reply(func(ctx context.Context, s *sio.Socket, m Message) (Receipt, error) {
			err := s.To(m.Room).Except("muted").Emit(ctx, "message", m)
			return Receipt{m.ID}, err // the result is the acknowledgement
		}))
		srv := &http.Server{Handler: io}
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(lis) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return errors.Join(io.Shutdown(ctx), srv.Shutdown(ctx)) // sockets first: net/http cannot see them
	}

	ctx, stop := context.WithCancel(context.Background())
	lis, done := listen(), make(chan error)
	go func() { done <- run(ctx, lis) }()

	ada, bob := dial(lis), dial(lis)
	ada.send(`0/chat,{"token":"wrong"}`)
	ada.print(1)
	ada.send(`0/chat,{"token":"secret"}`)
	ada.print(2)
	bob.send(`0/chat,{"token":"secret"}`)
	bob.skip(2)
	bob.send(`2/chat,0["message",{"ID":"m1","Room":"lobby","Text":"hello"}]`)
	bob.print(1)
	ada.print(1)
	stop()
	ada.skip(1) // the close frame, which it answers
	bob.skip(1)
	fmt.Println(<-done)
	// Output:
	// 4/chat,{"message":"invalid token","data":{"retry":false}}
	// 0/chat,{"sid":"…"}
	// 2/chat,["welcome","ada"]
	// 3/chat,0[{"ID":"m1"}]
	// 2/chat,["message",{"ID":"m1","Room":"lobby","Text":"hello"}]
	// <nil>
}

func ExampleNewServer() {
	io := sio.NewServer(nil)
	io.OnConnect(func(_ context.Context, s *sio.Socket) error {
		return s.Emit("hello", "world", []byte("binary"))
	})
	lis, stop := serve(io)
	defer stop()

	c := dial(lis)
	c.send("0")
	c.print(3)
	// Output:
	// 0{"sid":"…"}
	// 51-["hello","world",{"_placeholder":true,"num":0}]
	// bin:binary
}

func ExampleReply() {
	io := sio.NewServer(nil)
	io.On("sum", sio.Reply(func(_ context.Context, _ *sio.Socket, numbers []int) (int, error) {
		sum := 0
		for _, n := range numbers {
			sum += n
		}
		return sum, nil
	}))
	lis, stop := serve(io)
	defer stop()

	c := dial(lis)
	c.send("0", `20["sum",[1,2,3]]`)
	c.print(2)
	// Output:
	// 0{"sid":"…"}
	// 30[6]
}

func ExampleBroadcast_EmitWithAck() {
	io := sio.NewServer(nil)
	ready := make(chan struct{}, 3)
	io.OnConnect(func(_ context.Context, s *sio.Socket) error {
		s.Join("voters")
		ready <- struct{}{}
		return nil
	})
	lis, stop := serve(io)
	defer stop()
	for _, vote := range []string{`"yes"`, `"no"`, ""} {
		c := dial(lis)
		c.send("0")
		c.skip(1)
		<-ready
		go c.answer(vote) // with its acknowledgement, or not at all
	}

	var votes []string
	for args, err := range io.To("voters").Timeout(100*time.Millisecond).EmitWithAck(context.Background(), "vote") {
		if errors.Is(err, sio.ErrAckTimeout) {
			fmt.Println(err)
			break
		}
		var vote string
		if err := args.Decode(&vote); err != nil {
			fmt.Println(err)
		}
		votes = append(votes, vote)
	}
	slices.Sort(votes)
	fmt.Println(votes)
	// Output:
	// sio: operation has timed out: context deadline exceeded: 1 of 3 clients did not answer
	// [no yes]
}

func ExampleServer_OfRegexp() {
	io := sio.NewServer(&sio.Options{CleanupEmptyChildNamespaces: true})
	tenants := io.OfRegexp(regexp.MustCompile(`^/tenant-\w+$`))
	tenants.OnConnect(func(_ context.Context, s *sio.Socket) error {
		return s.Emit("welcome", s.Namespace().Name())
	})
	lis, stop := serve(io)
	defer stop()

	c := dial(lis)
	c.send("0/tenant-a,")
	c.print(2)
	c.send("0/elsewhere,")
	c.print(1)
	// Output:
	// 0/tenant-a,{"sid":"…"}
	// 2/tenant-a,["welcome","/tenant-a"]
	// 4/elsewhere,{"message":"Invalid namespace"}
}

func ExampleRecoveryOptions() {
	io := sio.NewServer(&sio.Options{Recovery: &sio.RecoveryOptions{MaxDisconnection: time.Minute}})
	joined, lost := make(chan bool, 1), make(chan sio.Reason, 2)
	io.OnConnect(func(_ context.Context, s *sio.Socket) error {
		s.Join("news")
		joined <- s.Recovered()
		return nil
	})
	io.OnDisconnect(func(_ context.Context, _ *sio.Socket, reason sio.Reason) { lost <- reason })
	lis, stop := serve(io)
	defer stop()

	c := dial(lis)
	c.send("0")
	session := c.connected()
	fmt.Println("recovered:", <-joined)
	c.cut()
	fmt.Println(<-lost)
	if err := io.To("news").Emit(context.Background(), "news", "while you were away"); err != nil {
		fmt.Println(err)
	}

	c = dial(lis)
	c.send(fmt.Sprintf(`0{"pid":%q}`, session.PID))
	c.print(2)
	fmt.Println("recovered:", <-joined)
	// Output:
	// recovered: false
	// transport close
	// 2["news","while you were away","…"]
	// 0{"sid":"…","pid":"…"}
	// recovered: true
}
