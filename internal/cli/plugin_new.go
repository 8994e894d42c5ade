package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/examples/filters"
)

//go:embed newplugin
var newPlugin embed.FS

// languages are what plugins can be begun in: what lies beside the judgement, and
// what to do next.
var languages = map[string]struct {
	support []string // of filters.Support
	test    string
	next    []string
}{
	"go":     {nil, "go test ./...", nil},
	"python": {[]string{"links/relay_filter.py", "links/filter_pb2.py"}, "python3 -m unittest", nil},
	"node":   {[]string{"slowmode/relay-filter.js", "slowmode/filter.proto"}, "npm test", []string{"npm install"}},
}

var pluginName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

func pluginNewCommand() *cobra.Command {
	var lang, checkout string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a plugin in a folder of its own",
		Long: `Begin a plugin in a folder of its own, with a judgement to change, a table of
verdicts and a test that passes. Try it with relay --dev --filter NAME, which
replaces it whenever a file in the folder changes.`,
		Example: "  relay plugin new politeness\n  relay plugin new politeness --lang python",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			l, ok := languages[lang]
			switch {
			case !ok:
				return usageError{fmt.Errorf("--lang: no %q; there are go, python and node", lang), cmd.CommandPath()}
			case !pluginName.MatchString(name):
				return usageError{fmt.Errorf("%q: a name is lower-case letters, digits and -, and starts with a letter", name), cmd.CommandPath()}
			}
			n := begun{Name: name, Version: "v0.0.0", Checkout: checkout}
			if lang == "go" {
				if err := n.module(); err != nil {
					return err
				}
			}
			if err := n.write(lang, l.support); err != nil {
				return err
			}
			next := l.next
			if lang == "go" {
				if err := tidy(cmd, name); err != nil {
					next = append(next, "go mod tidy")
				}
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s is there. Next:\n\n  cd %s\n", name, name)
			for _, step := range append(next, l.test) {
				fmt.Fprintf(out, "  %s\n", step)
			}
			fmt.Fprintf(out, "  relay plugin test . table.yaml\n  relay --dev --filter .          # then: relay chat ws://localhost:5000/\n")
			return nil
		},
	}
	cmd.Flags().StringVar(&lang, "lang", "go", "go, python or node")
	cmd.Flags().StringVar(&checkout, "relay", "", "folder with a checkout of relay to build Go plugins against; default: the one that this folder is in, if it is in one")
	return cmd
}

// begun is what the templates see.
type begun struct {
	Name, Version string
	Checkout      string // absolute; empty: the module proxy has relay
}

// module finds out which relay a Go plugin is built against.
func (n *begun) module() error {
	if v := Version(); strings.HasPrefix(v, "v") && !strings.Contains(v, "+dirty") && n.Checkout == "" {
		n.Version = v
	}
	dir := n.Checkout
	if dir == "" {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Path}} {{.Dir}}").Output()
		if found, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "github.com/wsrelay/relay "); err == nil && ok {
			dir = found
		}
	}
	if dir == "" {
		if n.Version == "v0.0.0" {
			return errors.New("this relay is no release, so a Go plugin needs its sources: give the folder with a checkout as --relay")
		}
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(abs, "plugins", "filter")); err != nil {
		return fmt.Errorf("--relay: no checkout of relay there: %w", err)
	}
	n.Checkout = abs
	return nil
}

// write makes the folder. It leaves nothing half done: one that is there already
// is an error.
func (n *begun) write(lang string, support []string) error {
	if err := os.Mkdir(n.Name, 0o755); err != nil {
		return fmt.Errorf("making the plugin's folder: %w", err)
	}
	files, err := fs.Glob(newPlugin, "newplugin/"+lang+"/*.tmpl")
	if err != nil {
		return err
	}
	for _, file := range append(files, "newplugin/table.yaml.tmpl") {
		t, err := template.ParseFS(newPlugin, file)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, n); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(n.Name, strings.TrimSuffix(path.Base(file), ".tmpl")), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	for _, file := range support {
		b, err := filters.Support.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(n.Name, path.Base(file)), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tidy fetches what a Go plugin needs, if there is a Go to do it.
func tidy(cmd *cobra.Command, dir string) error {
	c := exec.CommandContext(cmd.Context(), "go", "mod", "tidy")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "go mod tidy: %v\n%s", err, out)
		return err
	}
	return nil
}
