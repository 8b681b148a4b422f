package sioproto_test

import "math"

var (
	negativeZero = math.Copysign(0, -1)
	nan          = math.NaN()
	inf          = math.Inf(1)
)

// controls has the characters 0 to 32.
func controls() string {
	b := make([]byte, 33)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}
