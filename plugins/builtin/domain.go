package builtin

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxHost is the longest name that DNS knows, in bytes (RFC 1035, 2.3.4).
const maxHost = 253

// appendLabel appends a label of a host name in the form that names are compared
// in: as browsers take it (UTS 46), in lower case, without invisible characters,
// and in letters where it came in punycode.
func appendLabel(out []byte, label string) []byte {
	plain := true
	for i := 0; i < len(label) && plain; i++ {
		plain = label[i] < utf8.RuneSelf
	}
	from := len(out)
	if plain {
		for i := 0; i < len(label); i++ {
			c := label[i]
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			out = append(out, c)
		}
	} else {
		shown := strings.Map(func(r rune) rune {
			if unicode.In(r, unicode.Cf, unicode.Variation_Selector) {
				return -1
			}
			return unicode.ToLower(r)
		}, norm.NFKC.String(label))
		out = append(out, norm.NFKC.String(shown)...)
	}
	if code, ok := strings.CutPrefix(string(out[from:]), "xn--"); ok { // does not allocate
		if decoded, err := punycode(code); err == nil {
			out = append(out[:from], decoded...)
		}
	}
	return out
}

// errPunycode says that a label is no punycode.
var errPunycode = errors.New("not punycode")

// punycode decodes what follows xn-- in a label (RFC 3492, 6.2).
func punycode(s string) (string, error) {
	const base, tMin, tMax, skew, damp = 36, 1, 26, 38, 700
	var out []rune
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		out, s = []rune(s[:i]), s[i+1:]
	}
	n, i, bias := rune(128), 0, 72
	for s != "" {
		old, w := i, 1
		for k := base; ; k += base {
			if s == "" {
				return "", errPunycode
			}
			d := digitOf(s[0])
			s = s[1:]
			if d < 0 || i > (1<<31-1-d*w) {
				return "", errPunycode
			}
			i += d * w
			t := min(max(k-bias, tMin), tMax)
			if d < t {
				break
			}
			w *= base - t
			if w > 1<<26 { // beyond what any label of 63 bytes needs
				return "", errPunycode
			}
		}
		size := len(out) + 1
		delta := i - old
		if old == 0 {
			delta /= damp
		} else {
			delta /= 2
		}
		delta += delta / size
		k := 0
		for delta > (base-tMin)*tMax/2 {
			delta /= base - tMin
			k += base
		}
		bias = k + (base-tMin+1)*delta/(delta+skew)
		n += rune(i / size)
		i %= size
		if n > unicode.MaxRune || !utf8.ValidRune(n) || len(out) > maxHost {
			return "", errPunycode
		}
		out = append(out[:i], append([]rune{n}, out[i:]...)...)
		i++
	}
	return string(out), nil
}

// digitOf is the value of a digit of punycode, -1 of what is none.
func digitOf(c byte) int {
	switch {
	case c >= 'a' && c <= 'z':
		return int(c - 'a')
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= '0' && c <= '9':
		return int(c-'0') + 26
	}
	return -1
}

// hostOf is a whole name as names are compared.
func hostOf(name string) string {
	var out []byte
	for i, label := range strings.FieldsFunc(name, isDot) {
		if i > 0 {
			out = append(out, '.')
		}
		out = appendLabel(out, label)
	}
	return string(out)
}

// isDot reports whether browsers take r for a dot in a name (UTS 46, 4), or
// compatibility makes one of it.
func isDot(r rune) bool {
	return r == '.' || r == '。' || r == '．' || r == '｡' || r == '․'
}

// isHost reports whether r may stand in a label: also invisible characters and
// what compatibility makes letters of, which browsers look through.
func isHost(r rune) bool {
	if r < utf8.RuneSelf {
		return isASCIILetter(byte(r)) || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	if r == utf8.RuneError || isDot(r) {
		return false
	}
	k := glyphOf(r).kind
	return k == letter || k == solid || k == several || k == digit || k == hidden
}

// script tells texts in Chinese and the like from the addresses in them, which
// they do not put spaces around.
type script uint8

// goesOn reports whether r is of the same script as the letters before it.
func (s *script) goesOn(r rune) bool {
	is := script(letter)
	if r < utf8.RuneSelf {
		if !isASCIILetter(byte(r)) {
			return true
		}
	} else if k := glyphOf(r).kind; k == solid {
		is = script(solid)
	} else if k == hidden || k == digit {
		return true
	}
	fits := *s == 0 || *s == is
	*s = is
	return fits
}
