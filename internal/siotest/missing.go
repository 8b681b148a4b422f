package siotest

import (
	"os"
	"testing"
)

// Missing ends a test for want of a program: it is skipped, or fails if SIO_TEST_REQUIRE is set.
func Missing(t testing.TB, text string) {
	t.Helper()
	if os.Getenv("SIO_TEST_REQUIRE") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}
