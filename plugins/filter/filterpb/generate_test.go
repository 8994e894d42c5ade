package filterpb

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// protocVersion is the comment in which generated code names its protoc, which
// is the distribution's and may differ.
var protocVersion = regexp.MustCompile(`(?m)^//.*protoc  .*$`)

func TestGeneratedCodeIsFresh(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("protoc is not installed (Debian: protobuf-compiler)")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "sh", "generate.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, out)
	}
	for _, name := range []string{"filter.pb.go", "filter_grpc.pb.go"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		plain := func(b []byte) string { return string(protocVersion.ReplaceAll(b, nil)) }
		if plain(got) != plain(want) {
			t.Errorf("%s is stale: run go generate ./plugins/filter/filterpb", name)
		}
	}
}
