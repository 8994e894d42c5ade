package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written like 30s, 5m or 24h.
type Duration time.Duration

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes what UnmarshalText reads.
func (d Duration) String() string {
	s := time.Duration(d).String()
	for _, zero := range []string{"m0s", "h0m"} { // 24h0m0s is 24h
		if strings.HasSuffix(s, zero) {
			s = strings.TrimSuffix(s, zero[1:])
		}
	}
	return s
}

// UnmarshalText reads a duration that is not negative.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return errors.New("must be a duration such as 30s, 5m or 24h")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes, written like 512B, 64KiB, 1MiB or 2GiB.
type Size int64

// Bytes is the size as a number.
func (s Size) Bytes() int64 { return int64(s) }

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String writes what UnmarshalText reads.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if int64(s)%u.bytes == 0 && (s != 0 || u.bytes == 1) {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(string(b), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return errors.New("must be a size such as 512B, 64KiB or 1MiB")
}

// MarshalText writes what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Rate is how often something may happen, written like 20/s, 500/m or 1000/h.
// The zero Rate is no bound.
type Rate struct {
	N   int
	Per time.Duration
}

// PerSecond is the rate as a number; 0 for no bound.
func (r Rate) PerSecond() float64 {
	if r.Per == 0 {
		return 0
	}
	return float64(r.N) / r.Per.Seconds()
}

var rateUnits = []struct {
	name string
	per  time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}}

// String writes what UnmarshalText reads, and nothing for no bound.
func (r Rate) String() string {
	for _, u := range rateUnits {
		if u.per == r.Per {
			return strconv.Itoa(r.N) + "/" + u.name
		}
	}
	return ""
}

// UnmarshalText reads a rate above 0.
func (r *Rate) UnmarshalText(b []byte) error {
	n, unit, _ := strings.Cut(string(b), "/")
	for _, u := range rateUnits {
		if u.name != unit {
			continue
		}
		v, err := strconv.Atoi(n)
		if err != nil || v < 1 {
			break
		}
		*r = Rate{v, u.per}
		return nil
	}
	return errors.New("must be a rate such as 20/s, 500/m or 1000/h")
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// StringList is one text or a list of texts.
type StringList []string

// redacted is what stands wherever a secret would.
const redacted = "***"

// Secret is a text that does not print, whatever it is printed with. Reveal
// gives it to who needs it. It is a pointer inside, because fmt goes around a
// value's methods where a verb does not fit, and prints what it finds.
type Secret struct{ text *string }

// NewSecret wraps a text.
func NewSecret(s string) Secret { return Secret{&s} }

// Reveal is the text.
func (s Secret) Reveal() string { return reveal(s.text) }

// IsZero reports whether there is none.
func (s Secret) IsZero() bool { return reveal(s.text) == "" }

func reveal(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// Format implements fmt.Formatter, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// String never tells the text.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText never tells the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes any text.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = NewSecret(string(b))
	return nil
}

// URL is an address that may hold a password, which does not print.
type URL struct{ text *string }

// NewURL wraps an address.
func NewURL(s string) URL { return URL{&s} }

// Reveal is the address, password and all.
func (u URL) Reveal() string { return reveal(u.text) }

// IsZero reports whether there is none.
func (u URL) IsZero() bool { return u.Reveal() == "" }

// String is the address without what is secret in it.
func (u URL) String() string {
	if u.IsZero() {
		return ""
	}
	p, err := url.Parse(u.Reveal())
	if err != nil {
		return redacted
	}
	p.RawQuery = ""
	return p.Redacted()
}

// Format implements fmt.Formatter, for every verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// LogValue implements slog.LogValuer.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText leaves the password out.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText takes any text; Validate looks at it.
func (u *URL) UnmarshalText(b []byte) error {
	*u = NewURL(string(b))
	return nil
}
