package load

// What the tests look into.
var (
	AppendPacket = appendPacket
	OpenFrame    = openFrame
	CloseFrame   = closeFrame
)

// ParsePacket returns the parts of a packet.
func ParsePacket(p, prefix string) (kind byte, attachments, id int, data string, err error) {
	got, err := parsePacket([]byte(p), prefix)
	return got.kind, got.attachments, got.id, string(got.data), err
}

// Frames cuts messages out of what is fed.
type Frames struct{ f frames }

// Feed feeds one read.
func (f *Frames) Feed(data []byte, handle func(op byte, payload []byte) error) error {
	return f.f.feed(data, handle)
}

// PretendDials makes the next dial the one after n.
func (g *Generator) PretendDials(n uint64) { g.dials.Store(n) }
