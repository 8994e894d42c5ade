package plugins

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	dirPrefix = "relay-filters-"
	lockName  = "lock"

	// maxBase bounds the folder in which the sockets' folder is made: the rest of
	// a socket's path, go-plugin's own folder included, takes up to 68 of the 104
	// bytes that some systems allow.
	maxBase = 36
)

// socketDir is the folder of one host's sockets. Nobody else may look into it. A
// lock in it says that the host lives, so that what a killed one left behind can
// be told from what is in use.
type socketDir struct {
	path string
	held *os.File
}

// newSocketDir makes the folder, and removes those of hosts that were killed.
func newSocketDir(base string) (*socketDir, error) {
	if base == "" {
		if base = os.TempDir(); len(base) > maxBase {
			base = "/tmp"
		}
	}
	if len(base) > maxBase {
		return nil, fmt.Errorf("the folder for sockets, %s, is too long a path: at most %d bytes", base, maxBase)
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, fmt.Errorf("finding the folder for sockets: %w", err)
	}
	sweep(base)
	path, err := os.MkdirTemp(base, dirPrefix) // 0700
	if err != nil {
		return nil, fmt.Errorf("making the folder for the sockets of filters: %w", err)
	}
	held, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = lock(held)
	}
	if err != nil {
		_ = os.RemoveAll(path)
		return nil, fmt.Errorf("locking the folder for the sockets of filters: %w", err)
	}
	return &socketDir{path, held}, nil
}

func (d *socketDir) remove() {
	_ = os.RemoveAll(d.path) // what is left, the next host removes
	_ = d.held.Close()
}

// sweep removes the folders whose host does not live any more.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return // making ours will tell
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), dirPrefix) {
			sweepOne(filepath.Join(base, e.Name()))
		}
	}
}

func sweepOne(path string) {
	info, err := os.Stat(path)
	if err != nil || time.Since(info.ModTime()) < time.Minute {
		return // perhaps being made just now
	}
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			_ = os.RemoveAll(path)
		}
		return // somebody else's
	}
	defer f.Close()
	if lock(f) == nil {
		_ = os.RemoveAll(path)
	}
}
