package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/wsrelay/relay/config"
)

// devWatchEvery is how often the files of a plugin are looked at in dev mode.
const devWatchEvery = 300 * time.Millisecond

// devFilters are the plugins of dev mode: programs, scripts, or folders with a Go
// program that is built anew whenever a file in it changes.
type devFilters struct {
	list  []*devFilter
	built string // folder of the programs; empty until there is one
}

// devFilter is one of them.
type devFilter struct {
	name  string
	path  string // as given
	seen  [sha256.Size]byte
	build int  // how often it was built
	goDir bool // path is a folder with a Go program
	run   []string
	mtls  string
}

var notInName = regexp.MustCompile(`[^a-z0-9_-]+`)

// newDevFilters finds out what the paths are. Nothing is built yet.
func newDevFilters(paths []string) (*devFilters, error) {
	d := &devFilters{}
	taken := map[string]bool{}
	for _, path := range paths {
		f, err := newDevFilter(path)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", path, err)
		}
		if taken[f.name] {
			return nil, fmt.Errorf("--filter %s: there is another filter %q already", path, f.name)
		}
		taken[f.name] = true
		d.list = append(d.list, f)
	}
	return d, nil
}

func newDevFilter(path string) (*devFilter, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(filepath.Base(abs), filepath.Ext(abs))
	f := &devFilter{path: abs, mtls: "auto", name: "f" + notInName.ReplaceAllString(strings.ToLower(base), "-")}
	if name := f.name[1:]; name != "" && name[0] >= 'a' && name[0] <= 'z' {
		f.name = name
	}
	if !info.IsDir() {
		f.script(abs)
		return f, nil
	}
	for _, main := range []string{"main.go", "go.mod"} {
		if _, err := os.Stat(filepath.Join(abs, main)); err == nil {
			f.goDir = true
			return f, nil
		}
	}
	for _, main := range []string{"main.py", "plugin.py", "main.js", "index.js", "plugin.js", "main.mjs"} {
		if file := filepath.Join(abs, main); exists(file) {
			f.script(file)
			return f, nil
		}
	}
	return nil, fmt.Errorf("holds neither main.go nor main.py nor main.js")
}

// script sets how a file is run.
func (f *devFilter) script(file string) {
	switch filepath.Ext(file) {
	case ".py":
		f.run, f.mtls = []string{"python3", file}, "off"
	case ".js", ".mjs", ".cjs":
		f.run, f.mtls = []string{"node", file}, "off"
	default:
		f.run = []string{file}
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// into puts the filters into a configuration, and builds what has to be.
func (d *devFilters) into(ctx context.Context, cfg *config.Config) error {
	for _, f := range d.list {
		if f.goDir {
			if err := d.compile(ctx, f); err != nil {
				return err
			}
		}
		cfg.DevFilter(f.name, f.run, f.mtls)
	}
	return nil
}

// compile builds a Go program under a new name, as the old one is still running.
func (d *devFilters) compile(ctx context.Context, f *devFilter) error {
	if d.built == "" {
		dir, err := os.MkdirTemp("", "relay-dev-")
		if err != nil {
			return err
		}
		d.built = dir
	}
	f.build++
	out := filepath.Join(d.built, fmt.Sprintf("%s-%d", f.name, f.build))
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, ".")
	cmd.Dir = f.path
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", f.path, err, bytes.TrimSpace(said.Bytes()))
	}
	if len(f.run) == 1 && f.build > 2 { // the one before the last runs no more
		_ = os.Remove(filepath.Join(d.built, fmt.Sprintf("%s-%d", f.name, f.build-2)))
	}
	f.run = []string{out}
	return nil
}

// changed reports whether a file of a filter is not what it was.
func (d *devFilters) changed() (changed bool) {
	for _, f := range d.list {
		if sum := f.sum(); sum != f.seen {
			f.seen, changed = sum, true
		}
	}
	return changed
}

// sum is of the names, sizes and times of the filter's files: of a script's
// folder too, as it may have parts there.
func (f *devFilter) sum() [sha256.Size]byte {
	const most = 1000 // files that are looked at
	root, n := f.path, 0
	if !f.goDir && len(f.run) > 1 {
		root = filepath.Dir(f.run[1])
	}
	h := sha256.New()
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error { // what cannot be read has not changed
		switch {
		case err != nil:
			return nil
		case e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "node_modules" || e.Name() == "__pycache__"):
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		if n++; n > most {
			return fs.SkipAll
		}
		if info, err := e.Info(); err == nil {
			fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return [sha256.Size]byte(h.Sum(nil))
}

// close removes what was built.
func (d *devFilters) close() {
	if d.built != "" {
		_ = os.RemoveAll(d.built)
	}
}
