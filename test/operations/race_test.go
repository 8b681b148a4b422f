//go:build race

package operations_test

const raceEnabled = true
