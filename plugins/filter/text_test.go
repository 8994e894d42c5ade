package filter

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTextsAreFoundWhereThePointersLead(t *testing.T) {
	for _, c := range []struct {
		body     string
		pointers []string
		want     string
	}{
		{`"hi"`, []string{""}, `[{ hi}]`},
		{` "a\u0062c\n" `, []string{""}, "[{ abc\n}]"},
		{`{"text":"hi"}`, []string{"", "/text"}, `[{/text hi}]`},
		{`{"id":{"text":"no"},"n":[1,-2.5e3,true,null],"text" : "hi" , "x":"y"}`, []string{"/text"}, `[{/text hi}]`},
		{`{"te\u0078t":"hi"}`, []string{"/text"}, `[{/text hi}]`},
		{`{"text":"bad","text":"good"}`, []string{"/text"}, `[{/text bad} {/text good}]`},
		{`{"a":[{"b":"x"},{"b":"y"}]}`, []string{"/a/1/b", "/a/0/b"}, `[{/a/1/b y} {/a/0/b x}]`},
		{`{"a/b":"1","c~d":"2","":"3"}`, []string{"/a~1b", "/c~0d", "/"}, `[{/a~1b 1} {/c~0d 2} {/ 3}]`},
		{`{"a":[],"b":{},"c":"x"}`, []string{"/c", "/a/0", "/b/c", "/a/01"}, `[{/c x}]`},
		{`{"text":{"deep":"x"}}`, []string{"/text", "text"}, `[]`},
		{`["\"","\\","]"]`, []string{"/0", "/1", "/2", "/-"}, `[{/0 "} {/1 \} {/2 ]}]`},
		{`"\ud800"`, []string{""}, "[{ \uFFFD}]"},
		{``, []string{"", "/a"}, `[]`},
	} {
		if got := fmt.Sprint(TextsAt([]byte(c.body), c.pointers)); got != c.want {
			t.Errorf("TextsAt(%s, %q) = %s, want %s", c.body, c.pointers, got, c.want)
		}
	}
}

func TestApply(t *testing.T) {
	for name, c := range map[string]struct {
		body     string
		pointers []string
		verdict  func(m *Message) Verdict
		want     string // the body after, or "error: …"
	}{
		"allow":            {`"a"`, []string{""}, func(*Message) Verdict { return Allow() }, `"a"`},
		"text":             {`"a"`, []string{""}, func(m *Message) Verdict { return Modify(m.WithText("<b>\"\n")) }, `"<b>\"\n"`},
		"inside an object": {`{"x":1, "text":"a" }`, []string{"", "/text"}, func(m *Message) Verdict { return Modify(m.WithText("é")) }, `{"x":1, "text":"é" }`},
		"the first of two": {`["a","b"]`, []string{"/1", "/0"}, func(m *Message) Verdict { return Modify(m.WithText("x")) }, `["","x"]`},
		"each of two":      {`{"t":"a","t":"b"}`, []string{"/t"}, func(m *Message) Verdict { return Modify(m.MapText(strings.ToUpper)) }, `{"t":"A","t":"B"}`},
		"a body":           {`"a"`, []string{""}, func(*Message) Verdict { return Modify(JSON([]byte(`"c"`))) }, `"c"`},
		"no JSON":          {`"a"`, []string{""}, func(*Message) Verdict { return Modify(JSON([]byte(`"c`))) }, "error: modify with a body that is not JSON"},
		"no UTF-8":         {`"a"`, []string{""}, func(*Message) Verdict { return Modify(JSON([]byte("\"\xff\""))) }, "error: modify with a body that is not JSON"},
		"nothing":          {`"a"`, []string{""}, func(*Message) Verdict { return Verdict{Action: ActionModify} }, "error: modify with neither a body nor texts"},
		"both": {`"a"`, []string{""}, func(*Message) Verdict {
			return Verdict{Action: ActionModify, Body: []byte(`1`), Texts: []string{"a"}}
		}, "error: modify with both a body and texts"},
		"where no text is": {`1`, []string{""}, func(m *Message) Verdict { return Modify(m.WithText("x")) }, "error: modify with 1 texts for a message that has 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Message{Body: []byte(c.body), Texts: TextsAt([]byte(c.body), c.pointers)}
			err := m.Apply(c.verdict(m))
			got := string(m.Body)
			if err != nil {
				if got != c.body {
					t.Errorf("an error left the body changed: %s", got)
				}
				got = "error: " + err.Error()
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if want := TextsAt(m.Body, c.pointers); !reflect.DeepEqual(m.Texts, want) {
				t.Errorf("texts %q, the body has %q", m.Texts, want)
			}
		})
	}
}

// What TextsAt finds is what encoding/json finds, and putting the same texts
// back changes no meaning.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{`"a"`, `{"text":"x","y":[{}]}`, `{"text":"\ud83d\ude00"}`, `{"text":{"text":"a"}}`, `[1,"x"]`, `{"a" :"\\" , "text":"b"}`} {
		f.Add(s, "new")
	}
	f.Fuzz(func(t *testing.T, body, text string) {
		pointers := []string{"", "/text", "/text/text", "/0"}
		m := &Message{Body: []byte(body), Texts: TextsAt([]byte(body), pointers)} // must not panic on anything
		var v any
		if !utf8.ValidString(body) || json.Unmarshal([]byte(body), &v) != nil {
			return
		}
		if obj, ok := v.(map[string]any); ok {
			if s, ok := obj["text"].(string); ok {
				last := ""
				for _, x := range m.Texts {
					if x.Pointer == "/text" {
						last = x.Text
					}
				}
				if last != s {
					t.Fatalf("%s: found %q, encoding/json %q", body, last, s)
				}
			}
		}
		if len(m.Texts) == 0 {
			return
		}
		if err := m.Apply(Modify(m.MapText(func(s string) string { return s }))); err != nil {
			t.Fatal(err)
		}
		var again any
		if err := json.Unmarshal(m.Body, &again); err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%s became %s (%v)", body, m.Body, err)
		}
		if err := m.Apply(Modify(m.MapText(func(string) string { return text }))); err != nil {
			t.Fatal(err)
		}
		for _, x := range TextsAt(m.Body, pointers) {
			if x.Text != strings.ToValidUTF8(text, "\uFFFD") {
				t.Fatalf("%s reads %q after %q was put in", m.Body, x.Text, text)
			}
		}
	})
}
