package sioproto_test

import (
	"math"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

func TestJavaScript(t *testing.T) {
	got := sioproto.AppendNumber([]byte("x"), 1e21)
	got = sioproto.AppendNumber(got, 100)
	got = sioproto.AppendNumber(got, math.NaN())
	got = sioproto.AppendTime(got, time.UnixMilli(-1))
	if want := `x1e+21100null"1969-12-31T23:59:59.999Z"`; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}
