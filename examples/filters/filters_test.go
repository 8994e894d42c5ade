package filters

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/plugins/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// build makes the program of a Go example.
func build(t *testing.T, name string) []string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	if b, err := exec.CommandContext(t.Context(), "go", "build", "-o", out, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return []string{out}
}

// script is the command of an example in another language.
func script(t *testing.T, interpreter, file string) []string {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return []string{interpreter, path}
}

// python is Debian's, which has the packages that make setup installs.
func python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// specs are the examples as relay runs them.
func specs(t *testing.T) map[string]filtertest.Spec {
	return map[string]filtertest.Spec{
		"hello":     {Command: build(t, "hello")},
		"profanity": {Command: build(t, "profanity")},
		"review":    {Command: build(t, "review")},
		"links":     {Command: script(t, python(), "links/main.py"), Plain: true},
		"slowmode":  {Command: script(t, "node", "slowmode/main.js"), Plain: true},
	}
}

func TestTheExamplesDoWhatTheyShould(t *testing.T) {
	for name, spec := range specs(t) {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(name, "table.yaml")
			table, err := filtertest.ReadTable(file)
			if err != nil {
				t.Fatal(err)
			}
			if spec.Config, err = table.ConfigJSON(); err != nil {
				t.Fatal(err)
			}
			filtertest.RunTable(t, filtertest.Start(t, spec), file)
		})
	}
}

func TestTheExamplesKeepTheContract(t *testing.T) {
	configs := map[string]string{"profanity": `{"words": ["darn"]}`, "review": `{"url": "http://127.0.0.1:9/"}`, "slowmode": `{"seconds": 0.000001}`}
	for name, spec := range specs(t) {
		t.Run(name, func(t *testing.T) {
			spec.Config = json.RawMessage(configs[name])
			filtertest.Conform(t, spec)
		})
	}
}

// The service that review asks sees the text and the key, and its word counts.
func TestReviewAsksTheService(t *testing.T) {
	asked := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.Header.Get("Authorization") + " " + string(body)
		_, _ = io.WriteString(w, `{"results": [{"flagged": true, "categories": {"hate": true, "violence": false}}]}`)
	}))
	defer service.Close()
	s := filtertest.Start(t, filtertest.Spec{
		Command: build(t, "review"), Env: map[string]string{"MODERATION_KEY": "sesame"},
		Config: json.RawMessage(`{"url": "` + service.URL + `/v1/moderations", "model": "m"}`),
	})
	s.MustJudge(t, filtertest.Message{Text: "rude words"})
	if got := <-asked; !strings.HasPrefix(got, "Bearer sesame ") || !strings.Contains(got, `"input":"rude words"`) || !strings.Contains(got, `"model":"m"`) {
		t.Errorf("the service was asked %s", got)
	}
}
