//go:build race

package balancers_test

const raceEnabled = true
