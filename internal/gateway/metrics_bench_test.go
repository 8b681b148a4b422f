package gateway_test

import (
	"fmt"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// What it costs to count, for each thing that happens for each event or message.
func BenchmarkMetrics(b *testing.B) {
	n := startWith(b, gateway.New, "RELAY=true", "LOG_LEVEL=error")
	n.dial("")
	s := n.socket()
	o := new(sio.Options)
	cluster := gateway.CountMetrics(load(b, "RELAY=true"), o).Cluster
	madeUp := make([]string, 10_000)
	for i := range madeUp {
		madeUp[i] = fmt.Sprintf("made-up-%d", i)
	}
	for range 100 {
		o.Hooks.Sent(s.Namespace(), "message", 1)
	}
	next := 0
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"event=received", func() { o.Hooks.Received(s, "publish") }},
		{"event=sent", func() { o.Hooks.Sent(s.Namespace(), "message", 10) }},
		{"event=made-up", func() {
			next = (next + 1) % len(madeUp)
			o.Hooks.Received(s, madeUp[next])
		}},
		{"message=received", func() { o.Engine.Hooks.Received(eio.WebSocket, 100) }},
		{"message=queued", func() { o.Engine.Hooks.Queued(100) }},
		{"message=sent", func() { o.Engine.Hooks.Sent(eio.WebSocket, 3, 300) }},
		{"ack", func() { o.Hooks.Acked(s.Namespace()) }},
		{"bus=received", func() { cluster.Received("/", adapter.Broadcast, 100) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.do()
			}
		})
	}
	b.Run("event=sent/parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				o.Hooks.Sent(s.Namespace(), "message", 10)
			}
		})
	})
}
