//go:build !linux

package daemon

import "syscall"

func attributes(*Account) *syscall.SysProcAttr { return nil }
