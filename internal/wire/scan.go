package wire

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// problem is what a scan may find wrong.
type problem uint8

const (
	fine problem = iota
	badSyntax
	badSurrogate
	tooDeep
)

// walker goes through the members of one JSON object, checking all it passes:
// next stands at a member's value, skip passes it.
type walker struct {
	b       []byte
	i       int
	depth   int  // objects around this one
	inside  bool // the opening brace has been read
	name    span // of the member, without its quotes
	escaped bool // the name holds escapes
	problem problem
}

// span is b[from:to]. The zero span is no value: none starts at 0.
type span struct{ from, to int }

// next moves to the value of the next member. It returns false after the last
// one, with i behind the closing brace, and at a problem, with i at its place.
func (w *walker) next() bool {
	if w.problem != fine {
		return false
	}
	b, i := w.b, skipSpace(w.b, w.i)
	switch {
	case i >= len(b):
		return w.stop(i, badSyntax)
	case w.inside && b[i] == ',':
		i = skipSpace(b, i+1)
	case w.inside && b[i] == '}':
		return w.stop(i+1, fine)
	case !w.inside && b[i] == '{':
		w.inside = true
		if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
			return w.stop(i+1, fine)
		}
	default:
		return w.stop(i, badSyntax)
	}
	end, escaped, p := scanName(b, i)
	if p != fine {
		return w.stop(end, p)
	}
	w.name, w.escaped = span{i + 1, end - 1}, escaped
	if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
		return w.stop(i, badSyntax)
	}
	w.i = skipSpace(b, i+1)
	return true
}

// skip passes the value that next stands at and returns where it is. A problem
// ends the walk, and its value is none.
func (w *walker) skip() span {
	from := w.i
	w.i, w.problem = scanValue(w.b, from, w.depth+1)
	if w.problem != fine {
		return span{}
	}
	return span{from, w.i}
}

func (w *walker) stop(i int, p problem) bool {
	w.i, w.problem = i, p
	return false
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// scanValue returns the end of the value that starts at i, inside of depth
// objects and arrays.
func scanValue(b []byte, i, depth int) (int, problem) {
	if i < len(b) && (b[i] == '{' || b[i] == '[') {
		return scanNested(b, i, depth)
	}
	return scanScalar(b, i)
}

// scanNested returns the end of the object or array at i. It keeps one bit per
// level instead of calling itself, so depth costs nothing but that bit.
func scanNested(b []byte, i, depth int) (int, problem) {
	var objects [MaxDepth / 64]uint64 // which of the open levels are objects
	outside := depth
	for {
		// A value starts at i.
		var p problem
		switch {
		case i >= len(b):
			return i, badSyntax
		case b[i] == '{' || b[i] == '[':
			if depth == MaxDepth {
				return i, tooDeep
			}
			word, bit := &objects[depth/64], uint64(1)<<(depth%64)
			depth++
			if b[i] == '{' {
				*word |= bit
				i = skipSpace(b, i+1)
				if i < len(b) && b[i] == '}' {
					break // closed below, as any other
				}
				if i, p = scanMember(b, i); p != fine {
					return i, p
				}
				continue
			}
			*word &^= bit
			i = skipSpace(b, i+1)
			if i < len(b) && b[i] == ']' {
				break
			}
			continue
		default:
			if i, p = scanScalar(b, i); p != fine {
				return i, p
			}
		}
		// A value has ended, or a container is empty: close what ends here.
		for {
			i = skipSpace(b, i)
			if i >= len(b) {
				return i, badSyntax
			}
			object := objects[(depth-1)/64]>>((depth-1)%64)&1 != 0
			if b[i] == ',' {
				i = skipSpace(b, i+1)
				if object {
					if i, p = scanMember(b, i); p != fine {
						return i, p
					}
				}
				break
			}
			if object && b[i] != '}' || !object && b[i] != ']' {
				return i, badSyntax
			}
			i++
			if depth--; depth == outside {
				return i, fine
			}
		}
	}
}

// scanMember passes a member's name and colon and returns where its value starts.
func scanMember(b []byte, i int) (int, problem) {
	i, _, p := scanName(b, i)
	if p != fine {
		return i, p
	}
	if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
		return i, badSyntax
	}
	return skipSpace(b, i+1), fine
}

func scanName(b []byte, i int) (end int, escaped bool, p problem) {
	if i >= len(b) || b[i] != '"' {
		return i, false, badSyntax
	}
	return scanString(b, i)
}

func scanScalar(b []byte, i int) (int, problem) {
	if i >= len(b) {
		return i, badSyntax
	}
	switch b[i] {
	case '"':
		end, _, p := scanString(b, i)
		return end, p
	case 't':
		return scanLiteral(b, i, "true")
	case 'f':
		return scanLiteral(b, i, "false")
	case 'n':
		return scanLiteral(b, i, "null")
	default:
		return scanNumber(b, i)
	}
}

func scanLiteral(b []byte, i int, want string) (int, problem) {
	if len(b)-i < len(want) || string(b[i:i+len(want)]) != want {
		return i, badSyntax
	}
	return i + len(want), fine
}

// scanNumber implements the number grammar of RFC 8259 section 6.
func scanNumber(b []byte, i int) (int, problem) {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if n := digits(b, i); n == i {
		return i, badSyntax
	} else {
		i = n
	}
	if i < len(b) && b[i] == '.' {
		n := digits(b, i+1)
		if n == i+1 {
			return n, badSyntax
		}
		i = n
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		n := digits(b, i)
		if n == i {
			return n, badSyntax
		}
		i = n
	}
	return i, fine
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// scanString returns the end of the string whose opening quote is at i. Eight
// bytes are looked at in one go until one of them needs a look of its own.
func scanString(b []byte, i int) (end int, escaped bool, p problem) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i++; ; {
		if len(b)-i >= 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^(ones*'"'), w^(ones*'\\')
			// The top bit of each byte that is a control, a quote or a
			// backslash; exact up to the lowest such byte, which is all we use.
			m := ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) / 8
		} else {
			for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
				i++
			}
		}
		switch {
		case i >= len(b) || b[i] < 0x20:
			return i, escaped, badSyntax
		case b[i] == '"':
			return i + 1, escaped, fine
		}
		escaped = true
		if i, p = scanEscape(b, i); p != fine {
			return i, escaped, p
		}
	}
}

// scanEscape returns the end of the escape at i; a surrogate pair is one escape.
func scanEscape(b []byte, i int) (int, problem) {
	if i+1 >= len(b) {
		return i, badSyntax
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, fine
	case 'u':
	default:
		return i, badSyntax
	}
	r, ok := hex4(b, i+2)
	if !ok {
		return i, badSyntax
	}
	if !utf16.IsSurrogate(r) {
		return i + 6, fine
	}
	if len(b)-i >= 12 && b[i+6] == '\\' && b[i+7] == 'u' {
		low, ok := hex4(b, i+8)
		if ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			return i + 12, fine
		}
	}
	return i, badSurrogate
}

func hex4(b []byte, i int) (r rune, ok bool) {
	if len(b)-i < 4 {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case c-'0' <= 9:
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape appends what a scanned string, without its quotes, stands for.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			i++
			continue
		}
		switch c := s[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(s, i+2)
			i += 4
			if utf16.IsSurrogate(r) {
				low, _ := hex4(s, i+4)
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default: // quote, backslash, slash
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}
