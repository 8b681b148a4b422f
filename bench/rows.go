//go:build linux

package main

import "fmt"

// row is a line of the table.
type row struct {
	name string // for -run
	text string
	unit string
	// The bars of the project: our value divided by Node's, and our value. 0: there is none.
	ratio, most float64
}

var rows = []row{
	{name: "idle/rss", text: "idle WebSocket client (of 10,000), RSS", unit: "KB", ratio: 0.5, most: 8},
	{name: "idle/heartbeat", text: "heartbeat of 10,000 idle clients", unit: "% of a core", most: 1},
	{name: "polling/between", text: "idle long-polling client (of 5,000) between polls, RSS", unit: "KB", most: 6},
	{name: "polling/waiting", text: "idle long-polling client (of 5,000) with a poll waiting, RSS", unit: "KB"},
	{name: "connect/cpu", text: "connect: handshake and namespace", unit: "µs", ratio: 0.35},
	{name: "connect/rate", text: "connects a second, as fast as it goes", unit: "/s"},
	{name: "churn/growth", text: "churn: RSS after 50,000 connects and closes ÷ after 10,000", unit: "×", most: 1.10},
	{name: "echo/1", text: "event with ack, 100 clients, 1 in flight each", unit: "µs", ratio: 0.55},
	{name: "echo/8", text: "the same, 8 in flight each", unit: "µs", ratio: 0.65},
	{name: "echo/p50", text: "event with ack, 2,000 a second: p50", unit: "µs latency"},
	{name: "echo/p99", text: "p99", unit: "µs latency"},
	{name: "echo/p99.9", text: "p99.9", unit: "µs latency"},
	{name: "broadcast/cpu", text: "broadcast to a room of 1,000, 20 a second, each delivery", unit: "µs", ratio: 0.6},
	{name: "broadcast/p50", text: "p50", unit: "µs latency"},
	{name: "broadcast/p99", text: "p99", unit: "µs latency", ratio: 0.6},
	{name: "broadcast/p99.9", text: "p99.9", unit: "µs latency"},
	{name: "broadcast/8", text: "broadcast to a room of 1,000, 8 in flight, each delivery", unit: "µs", ratio: 0.35},
	{name: "room/cpu", text: "broadcast to a room of 10,000, 2 a second, each delivery", unit: "µs"},
	{name: "room/p50", text: "p50", unit: "µs latency"},
	{name: "room/p99", text: "p99", unit: "µs latency"},
	{name: "room/p99.9", text: "p99.9", unit: "µs latency"},
	{name: "redis/cpu", text: "two nodes on Redis: broadcast to 1,000, 20 a second, each delivery", unit: "µs", ratio: 0.6},
	{name: "redis/p50", text: "p50", unit: "µs latency"},
	{name: "redis/p99", text: "p99", unit: "µs latency", ratio: 1},
	{name: "redis/p99.9", text: "p99.9", unit: "µs latency"},
	{name: "redis/8", text: "two nodes on Redis: broadcast to 1,000, 8 in flight, each delivery", unit: "µs", ratio: 0.4},
	{name: "redis/rooms", text: "two nodes on Redis: rooms of 10, 32 broadcasts in flight, each delivery", unit: "µs", ratio: 0.6},
	{name: "postgres/cpu", text: "two nodes on PostgreSQL: broadcast to 1,000, 20 a second, each delivery", unit: "µs", ratio: 0.6},
	{name: "postgres/p50", text: "p50", unit: "µs latency"},
	{name: "postgres/p99", text: "p99", unit: "µs latency"},
	{name: "postgres/p99.9", text: "p99.9", unit: "µs latency"},
	{name: "postgres/db", text: "PostgreSQL itself, each broadcast", unit: "µs", ratio: 1},
	{name: "postgres/8", text: "two nodes on PostgreSQL: broadcast to 1,000, 8 in flight, each delivery", unit: "µs", ratio: 0.4},
	{name: "postgres/rooms", text: "two nodes on PostgreSQL: rooms of 10, 32 broadcasts in flight, each delivery", unit: "µs", ratio: 0.6},
	{name: "postgres/publishes", text: "broadcasts a second", unit: "/s"},
	{name: "postgres/db-rooms", text: "PostgreSQL itself, each broadcast", unit: "µs", ratio: 1},
	{name: "polling/echo", text: "event with ack over long-polling, 100 clients, 1 in flight each", unit: "µs"},
	{name: "binary/cpu", text: "1 MB of binary with ack, 4 clients", unit: "ms"},
	{name: "binary/rate", text: "MB a second, there and back", unit: "MB/s"},
}

// bar returns the row's bars as text, and whether ours, as a value and as a share of Node's, is within them.
func (r row) bar(ours, ratio float64) (text string, met bool) {
	met = true
	if r.ratio > 0 {
		text = fmt.Sprintf("≤ %.2f", r.ratio)
		met = ratio <= r.ratio
	}
	if r.most > 0 {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("ours ≤ %g", r.most)
		met = met && ours <= r.most
	}
	return text, met
}
