package envelope

import (
	"math/bits"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// field is a set of members of data.
type field uint8

const (
	packetField field = 1 << iota // an event
	valueField                    // packet as well, but any value
	optsField
	idField
	roomsField
	socketsField
	closeField
	clientsField
)

var fieldNames = [...]string{"packet", "packet", "opts", "requestId", "rooms", "sockets", "close", "clientCount"}

// String returns the name of the first.
func (f field) String() string {
	return fieldNames[bits.TrailingZeros8(uint8(f))%len(fieldNames)]
}

// What data has, by the type of the message.
var (
	required = [adapter.Close + 1]field{
		adapter.Broadcast:              packetField | optsField,
		adapter.SocketsJoin:            optsField | roomsField,
		adapter.SocketsLeave:           optsField | roomsField,
		adapter.DisconnectSockets:      optsField,
		adapter.FetchSockets:           optsField | idField,
		adapter.FetchSocketsResponse:   idField | socketsField,
		adapter.ServerSideEmit:         packetField,
		adapter.ServerSideEmitResponse: idField,
		adapter.BroadcastClientCount:   idField | clientsField,
		adapter.BroadcastAck:           idField,
	}
	optional = [adapter.Close + 1]field{
		adapter.Broadcast:              idField,
		adapter.DisconnectSockets:      closeField,
		adapter.ServerSideEmit:         idField,
		adapter.ServerSideEmitResponse: valueField,
		adapter.BroadcastAck:           valueField,
	}
)

// fieldOf returns the fields that a key stands for.
func fieldOf(key []byte) field {
	switch string(key) {
	case "packet":
		return packetField | valueField
	case "opts":
		return optsField
	case "requestId":
		return idField
	case "rooms":
		return roomsField
	case "sockets":
		return socketsField
	case "close":
		return closeField
	case "clientCount":
		return clientsField
	default:
		return 0
	}
}
