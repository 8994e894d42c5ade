package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// TextsAt finds the strings in body that the JSON pointers (RFC 6901) point at,
// pointer by pointer. What is no string has no text. A member that an object
// names twice yields two texts, since readers differ in which one they show.
// Body must be valid JSON.
func TextsAt(body []byte, pointers []string) []Text {
	var texts []Text
	for _, p := range pointers {
		for _, at := range locate(body, p) {
			texts = append(texts, Text{p, unquote(body[at.from:at.to])})
		}
	}
	return texts
}

// Apply changes m as a Modify verdict says: the body, and the texts in it. The
// slices of m are replaced, not written to. An error says what is wrong with
// the verdict, and leaves m as it was.
func (m *Message) Apply(v Verdict) error {
	switch {
	case v.Action != ActionModify:
		return nil
	case len(v.Body) > 0 && len(v.Texts) > 0:
		return errors.New("modify with both a body and texts")
	case len(v.Body) > 0:
		return m.applyBody(v.Body)
	case len(v.Texts) == 0:
		return errors.New("modify with neither a body nor texts")
	case len(v.Texts) != len(m.Texts):
		return fmt.Errorf("modify with %d texts for a message that has %d", len(v.Texts), len(m.Texts))
	}
	return m.applyTexts(v.Texts)
}

func (m *Message) applyBody(body []byte) error {
	if !utf8.Valid(body) || !json.Valid(body) {
		return errors.New("modify with a body that is not JSON")
	}
	m.Body, m.Texts = body, TextsAt(body, m.pointers())
	return nil
}

// pointers are those of m's texts, each once, in their order.
func (m *Message) pointers() []string {
	list := make([]string, 0, len(m.Texts))
	for i, t := range m.Texts {
		if i == 0 || m.Texts[i-1].Pointer != t.Pointer {
			list = append(list, t.Pointer)
		}
	}
	return list
}

// applyTexts puts new strings where the old ones are. Two pointers never lead to
// one string, so the places do not overlap; but they need not come in order.
func (m *Message) applyTexts(texts []string) error {
	body, next := m.Body, 0
	fresh := make([]Text, 0, len(texts))
	for _, p := range m.pointers() {
		places := locate(body, p)
		if next+len(places) > len(texts) {
			return errors.New("the texts of the message are not those of its body")
		}
		var out []byte
		done := 0
		for _, at := range places {
			s := valid(texts[next])
			out = append(out, body[done:at.from]...)
			out = appendString(out, s)
			done, next = at.to, next+1
			fresh = append(fresh, Text{p, s})
		}
		if len(places) > 0 {
			body = append(out, body[done:]...)
		}
	}
	if next != len(texts) {
		return errors.New("the texts of the message are not those of its body")
	}
	m.Body, m.Texts = body, fresh
	return nil
}

// appendString writes s as JSON, leaving <, > and & as they are.
func appendString(out []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < utf8.RuneSelf && s[i] != '"' && s[i] != '\\' && s[i] != 0x7f
	}
	if plain {
		return append(append(append(out, '"'), s...), '"')
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return append(out, strings.TrimSuffix(b.String(), "\n")...)
}

// unquote reads a JSON string token.
func unquote(token []byte) string {
	inner := token[1 : len(token)-1]
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			var s string
			_ = json.Unmarshal(token, &s) // valid by contract; mends lone surrogates
			return s
		}
	}
	return string(inner)
}
