package daemon

import "syscall"

// attributes put a program into a group of its own, out of reach of the terminal's signals. It dies with the thread that
// starts it.
func attributes(a *Account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.UID, Gid: a.GID}
	}
	return attr
}
