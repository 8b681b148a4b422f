package sio_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// The name of a namespace that a client makes up is kept as long as the namespace, so it has a bound.
func TestNamespaceNameOfAClientIsBounded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		l.OfFunc(func(context.Context, string, json.RawMessage) (bool, error) { return true, nil })
		c := l.ws()
		name := "/" + strings.Repeat("a", 1023)
		c.send("0" + name + "a,")
		c.want("4" + name + `a,{"message":"Invalid namespace"}`)
		c.connect(name, "")
	})
}
