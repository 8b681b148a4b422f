package pgtest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
)

// programs are those that a directory must have.
var programs = []string{"postgres", "initdb", "pg_basebackup"}

// findPrograms returns the directory of PostgreSQL's programs: that on PATH, or the newest where Debian puts them.
var findPrograms = sync.OnceValues(func() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	newest, best := "", 0
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well-formed
	for _, dir := range debian {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > best && complete(dir) {
			newest, best = dir, n
		}
	}
	for _, dir := range append(dirs, newest) {
		if dir != "" && complete(dir) {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL is missing: run scripts/need postgresql")
})

func complete(dir string) bool {
	for _, name := range programs {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// account is who the programs run as.
var account = sync.OnceValues(func() (*daemon.Account, error) { return daemon.Unprivileged("postgres", "nobody") })

// template is a new data directory, as an archive without a name: it is gone with the process.
var template = sync.OnceValues(func() (*os.File, error) {
	bin, err := findPrograms()
	if err != nil {
		return nil, err
	}
	user, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := user.TempDir("pgtest-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in the temporary directory
	data := filepath.Join(dir, "data")
	// Small segments, as each new server copies one. C: messages in English, and no ICU.
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata="+data, "--username="+Superuser, "--auth=trust", "--encoding=UTF8",
		"--locale=C", "--wal-segsize=1", "--no-sync")
	initdb.Dir = dir
	if err := daemon.Run(initdb, user); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	if err = errors.Join(os.Remove(f.Name()), archive(f, data)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
})

func archive(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	return errors.Join(tw.AddFS(os.DirFS(dir)), tw.Close())
}

// makeData makes a data directory out of the template.
func makeData(dir string, user *daemon.Account) error {
	f, err := template()
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := makeDir(dir, user); err != nil {
		return err
	}
	for tr := tar.NewReader(io.NewSectionReader(f, 0, size)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name)) // of our own making
		if h.Typeflag == tar.TypeDir {
			err = makeDir(path, user)
		} else {
			err = makeFile(path, tr, user)
		}
		if err != nil {
			return err
		}
	}
}

func makeDir(path string, user *daemon.Account) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return user.Own(path)
}

func makeFile(path string, content io.Reader, user *daemon.Account) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close(), user.Own(path)); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}
