package telemetrytest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/wsrelay/relay/telemetry/tracetree"
)

// Secrets are words that must turn up nowhere. A test plants one in each place
// that holds a secret (a token, a query, a message's body), and then searches
// what relay told.
type Secrets struct {
	words map[string]string // by what they are
}

// Plant draws a word for each name.
func Plant(names ...string) *Secrets {
	s := &Secrets{words: make(map[string]string, len(names))}
	for _, n := range names {
		s.words[n] = "secret" + strings.ToLower(rand.Text())
	}
	return s
}

// Word is what was drawn for a name.
func (s *Secrets) Word(name string) string {
	w := s.words[name]
	if w == "" {
		panic("telemetrytest: no secret is called " + name)
	}
	return w
}

// Search fails the test where a text holds a secret, as it is or encoded.
func (s *Secrets) Search(t testing.TB, where string, text []byte) {
	t.Helper()
	for _, name := range s.found(text) {
		t.Errorf("%s: tells the %s", where, name)
	}
}

func (s *Secrets) found(text []byte) (names []string) {
	low := bytes.ToLower(text)
	for name, w := range s.words {
		for _, form := range []string{w, hex.EncodeToString([]byte(w)), url.QueryEscape(w)} {
			if bytes.Contains(low, []byte(form)) {
				names = append(names, name)
				break
			}
		}
		if slices.ContainsFunc(base64Forms(w), func(f string) bool { return bytes.Contains(text, []byte(f)) }) {
			names = append(names, name+" (base64)")
		}
	}
	slices.Sort(names)
	return names
}

// base64Forms are what a word looks like in base64 behind any other text: three
// alignments, without the ends, which depend on what stands around it.
func base64Forms(w string) (forms []string) {
	for skip := range 3 {
		inner := w[skip:]
		inner = inner[:len(inner)/3*3]
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte(inner)))
	}
	return forms
}

// SearchSpans searches all that spans say.
func (s *Secrets) SearchSpans(t testing.TB, spans []*tracetree.Span) {
	t.Helper()
	for _, sp := range spans {
		texts := []string{sp.Name, sp.Status}
		for _, m := range []map[string]string{sp.Attrs, sp.Resource} {
			for k, v := range m {
				texts = append(texts, k, v)
			}
		}
		for _, e := range sp.Events {
			texts = append(texts, e.Name)
			for k, v := range e.Attrs {
				texts = append(texts, k, v)
			}
		}
		s.Search(t, "span "+sp.Name, []byte(strings.Join(texts, "\n")))
	}
}
