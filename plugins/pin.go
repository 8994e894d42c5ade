package plugins

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Sum is the SHA-256 of a file in hex, as a pin wants it.
func Sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// verify holds the pinned files against their sums. It runs before each start,
// so that a file that was replaced meanwhile does not run. Between the look and
// the start there is a moment: pinned files should not be writable by others.
func verify(pins map[string][]string) error {
	var errs []error
	for path, want := range pins {
		got, err := Sum(program(path))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("checking a pinned file: %w", err))
		case !slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(w, got) }):
			errs = append(errs, fmt.Errorf("%s has the sha256 %s, which is not among the pinned; if the file is meant to be this one, pin it (relay plugin pin %s)", path, got, path))
		}
	}
	return errors.Join(errs...)
}

// pinned says whether the program that command starts is among the pins.
func pinned(command []string, pins map[string][]string) error {
	for path := range pins {
		if program(path) == program(command[0]) {
			return nil
		}
	}
	return fmt.Errorf("%s is not pinned: name its sha256 (relay plugin pin %s), or say unpinned: true", command[0], command[0])
}

// program is the file that a command's first word means, which is looked for in
// PATH when it has no slash; or the word, when there is none.
func program(word string) string {
	if path, err := exec.LookPath(word); err == nil {
		return path
	}
	return word
}

// fingerprint identifies what a command would run now: the files among its
// words, and the pinned ones. A changed file makes a reload start it anew.
func fingerprint(command []string, pins map[string][]string) string {
	files := slices.Clone(command)
	files[0] = program(files[0])
	for path := range pins {
		files = append(files, program(path))
	}
	slices.Sort(files)
	var b strings.Builder
	for _, path := range slices.Compact(files) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			sum, err := Sum(path)
			fmt.Fprintf(&b, "%s %s %v\n", path, sum, err)
		}
	}
	return b.String()
}
