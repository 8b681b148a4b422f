package redistest

import "syscall"

// attributes put the server into a group of its own, out of reach of the terminal's signals. It dies with the thread that
// starts it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
