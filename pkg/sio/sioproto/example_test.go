package sioproto_test

import (
	"fmt"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// An event with binary in it goes from one end to the other.
func Example() {
	payload, attachments, err := sioproto.AppendEvent(nil, nil, "upload", map[string]any{
		"name": "a.bin",
		"data": []byte{1, 2, 3},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	p := &sioproto.Packet{Type: sioproto.Event, Namespace: "/files", ID: 7, HasID: true, Payload: payload, Attachments: attachments}

	decoder := sioproto.Default.NewDecoder(sioproto.Limits{})
	for _, f := range sioproto.Default.Encode(p) {
		if f.Binary {
			fmt.Println(f.Data)
		} else {
			fmt.Println(string(f.Data))
		}
		received, err := decoder.Add(f.Data, f.Binary)
		if err != nil {
			fmt.Println(err)
			return
		}
		if received == nil {
			continue // attachments are to come
		}
		name, _ := sioproto.EventName(received.Payload)
		var file struct {
			Name string
			Data []byte
		}
		err = sioproto.DecodeEvent(received.Payload, received.Attachments, &file)
		fmt.Println(received.Namespace, received.ID, name, file.Name, file.Data, err)
	}
	// Output:
	// 51-/files,7["upload",{"data":{"_placeholder":true,"num":0},"name":"a.bin"}]
	// [1 2 3]
	// /files 7 upload a.bin [1 2 3] <nil>
}

// Raw passes an argument on without understanding it.
func ExampleRaw() {
	payload := []byte(`["publish","room",{"image":{"_placeholder":true,"num":0}}]`)
	attachments := [][]byte{{0xff}}

	var room string
	var value sioproto.Raw
	if err := sioproto.DecodeEvent(payload, attachments, &room, &value); err != nil {
		fmt.Println(err)
		return
	}
	out, attachments, err := sioproto.AppendEvent(nil, nil, room, []byte("mine"), value)
	fmt.Printf("%s %q %v\n", out, attachments, err)
	// Output:
	// ["room",{"_placeholder":true,"num":0},{"image":{"_placeholder":true,"num":1}}] ["mine" "\xff"] <nil>
}
