//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc, USER_HZ: 100 a second on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// The fields of /proc/PID/stat that are used here.
const (
	parent = 4  // its id
	used   = 14 // in user mode; in the kernel is the next field
	waited = 16 // the same of children that have ended
)

// stat is what /proc/PID/stat has after the name.
type stat []string

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name, in parentheses, may hold anything.
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])), nil
}

func (s stat) number(field int) (int, error) { return strconv.Atoi(s[field-3]) }

// cpu returns the sum of two fields.
func (s stat) cpu(field int) (time.Duration, error) {
	user, err1 := s.number(field)
	kernel, err2 := s.number(field + 1)
	return time.Duration(user+kernel) * tick, errors.Join(err1, err2)
}

// processCPU returns the time that all threads of a process have used.
func processCPU(pid int) (time.Duration, error) {
	s, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	return s.cpu(used)
}

// familyCPU returns the time that a process and its children have used, also those that have ended. Each has one thread.
func familyCPU(pid int) (time.Duration, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, dir := range dirs {
		child, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		t, err := memberCPU(child, pid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // it has ended
			return 0, err
		}
		sum += t
	}
	s, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	ended, err := s.cpu(waited)
	return sum + ended, err
}

// memberCPU returns the time that a process has used if it is that of the family, or a child of it, and 0 if it is neither. It
// is more exact than ticks: there are many processes, of which each does little.
func memberCPU(pid, family int) (time.Duration, error) {
	s, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	if p, err := s.number(parent); err != nil || p != family && pid != family {
		return 0, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var t time.Duration
	_, err = fmt.Sscan(string(text), &t) // in nanoseconds
	return t, err
}
