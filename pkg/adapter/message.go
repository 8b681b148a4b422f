package adapter

import (
	"strconv"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// NodeID names a node on the bus ("uid" of the official adapters). It is unique among the nodes of all times: one that
// starts again has another.
type NodeID string

// EmitterID is the sender of messages that come from no node: processes that only emit.
const EmitterID NodeID = "emitter"

// Type is the kind of a message. The numbers up to Close are those of the official ClusterAdapter.
type Type uint8

// The types. Those without a remark about their fields have none but From.
const (
	InitialHeartbeat       Type = iota + 1 // a node that has just come; others answer with a Heartbeat
	Heartbeat                              // a node that lives
	Broadcast                              // Target, Event; with RequestID clients are asked to acknowledge: Timeout
	SocketsJoin                            // Target, Rooms
	SocketsLeave                           // Target, Rooms
	DisconnectSockets                      // Target, CloseTransport
	FetchSockets                           // Target, RequestID
	FetchSocketsResponse                   // To, RequestID, Sockets
	ServerSideEmit                         // Event; with RequestID servers are asked to acknowledge
	ServerSideEmitResponse                 // To, RequestID, Value
	BroadcastClientCount                   // To, RequestID, Clients: how many acknowledgements to expect
	BroadcastAck                           // To, RequestID, Value: one client's acknowledgement
	Close                                  // a node that leaves
	AllRooms                               // RequestID; asked by official servers on classic Redis pub/sub only
	AllRoomsResponse                       // To, RequestID, Rooms
	AllSockets                             // RequestID, Target; as AllRooms, by older servers
	AllSocketsResponse                     // To, RequestID, Rooms: the ids
)

var typeNames = [...]string{
	InitialHeartbeat: "initial_heartbeat", Heartbeat: "heartbeat", Broadcast: "broadcast",
	SocketsJoin: "sockets_join", SocketsLeave: "sockets_leave", DisconnectSockets: "disconnect_sockets",
	FetchSockets: "fetch_sockets", FetchSocketsResponse: "fetch_sockets_response",
	ServerSideEmit: "server_side_emit", ServerSideEmitResponse: "server_side_emit_response",
	BroadcastClientCount: "broadcast_client_count", BroadcastAck: "broadcast_ack", Close: "close",
	AllRooms: "all_rooms", AllRoomsResponse: "all_rooms_response",
	AllSockets: "all_sockets", AllSocketsResponse: "all_sockets_response",
}

// String returns the name in snake case, as in labels of metrics.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "type_" + strconv.Itoa(int(t))
}

// Response tells whether messages of the type answer a request, and so are for one node.
func (t Type) Response() bool {
	switch t {
	case FetchSocketsResponse, ServerSideEmitResponse, BroadcastClientCount, BroadcastAck, AllRoomsResponse, AllSocketsResponse:
		return true
	default:
		return false
	}
}

// Message is what nodes tell each other about one namespace, in no particular encoding. It is read-only once it is
// published or handed over.
type Message struct {
	Type      Type
	From      NodeID // empty if the encoding does not say, as in responses of classic Redis pub/sub
	To        NodeID // of a response: who asked; else empty: all other nodes
	RequestID string

	Target         sio.Target // its Local is of no meaning here
	Event          *sio.Outgoing
	Timeout        time.Duration // 0: the sender does not say
	Rooms          []string
	CloseTransport bool
	Sockets        []sio.RemoteSocket
	Value          sio.Raw // one value; its JSON is empty if there is none ("undefined")
	Clients        int

	Offset string // of a broadcast that was received from a log: its place there
}
