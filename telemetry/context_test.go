package telemetry

import (
	"strings"
	"testing"
)

func TestTraceparentIsReadAsW3CWants(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, c := range []struct {
		in   string
		ok   bool
		flag byte
	}{
		{good, true, 1},
		{strings.TrimSuffix(good, "01") + "00", true, 0},
		{strings.TrimSuffix(good, "01") + "ff", true, 1}, // unknown flags are not ours to pass on
		{"cc" + good[2:], true, 1},
		{"cc" + good[2:] + "-what-the-future-brings", true, 1},
		{"cc" + good[2:] + ".what", false, 0},
		{good + "-more", false, 0},
		{good + " ", false, 0},
		{" " + good, false, 0},
		{"ff" + good[2:], false, 0},
		{strings.ToUpper(good), false, 0},
		{strings.Replace(good, "0af7651916cd43dd8448eb211c80319c", strings.Repeat("0", 32), 1), false, 0},
		{strings.Replace(good, "b7ad6b7169203331", strings.Repeat("0", 16), 1), false, 0},
		{strings.Replace(good, "-b7", "_b7", 1), false, 0},
		{strings.Replace(good, "0af", "0ag", 1), false, 0},
		{good[:54], false, 0},
		{"", false, 0},
	} {
		got, ok := ParseTraceparent(c.in)
		if ok != c.ok || got.Flags != c.flag {
			t.Errorf("%q: %v %v, want %v with flags %d", c.in, got, ok, c.ok, c.flag)
		}
		if !ok && !got.IsZero() {
			t.Errorf("%q: refused, and yet %v", c.in, got)
		}
		if same, also := ParseTraceparent([]byte(c.in)); same != got || also != ok {
			t.Errorf("%q: differs as bytes", c.in)
		}
	}
	c, _ := ParseTraceparent(good)
	if c.Traceparent() != good {
		t.Errorf("written as %q", c.Traceparent())
	}
	c.Flags |= FlagDebug
	if c.Traceparent() != good {
		t.Errorf("our own flag got out: %q", c.Traceparent())
	}
}

// What is accepted can be written, and reads the same again.
func FuzzTraceparent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseTraceparent(s)
		if !ok {
			return
		}
		text := c.Traceparent()
		if text[2:53] != s[2:53] {
			t.Fatalf("%q became %q", s, text)
		}
		if again, ok := ParseTraceparent(text); !ok || again != c {
			t.Fatalf("%q does not read back", text)
		}
	})
}
