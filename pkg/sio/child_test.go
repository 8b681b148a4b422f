package sio_test

import (
	"os"
	"os/exec"
	"testing"
)

const childVariable = "SIO_TEST_CHILD"

// inChild tells whether this process was started by child for this test.
func inChild(t *testing.T) bool {
	t.Helper()
	return os.Getenv(childVariable) == t.Name()
}

// child runs the test in a process of its own, for what might end it.
func child(t *testing.T) (output []byte, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name())
	return cmd.CombinedOutput()
}
