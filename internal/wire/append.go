package wire

import (
	"encoding/hex"
	"strconv"
	"unicode/utf8"
)

// UserJSON makes the object by which others see a user. data is valid JSON or
// empty; nothing but the id is written unless there is something to write.
func UserJSON(id, name string, data []byte, guest bool) []byte {
	size := len(`{"id":""}`) + len(id) // it is kept as long as the user is here
	if name != "" {
		size += len(`,"name":""`) + len(name)
	}
	if len(data) > 0 {
		size += len(`,"data":`) + len(data)
	}
	if guest {
		size += len(`,"guest":true`)
	}
	dst := make([]byte, 0, size)
	dst = appendText(dst, `{"id":`, id)
	dst = appendOptional(dst, `,"name":`, name)
	dst = appendRaw(dst, `,"data":`, data)
	if guest {
		dst = append(dst, `,"guest":true`...)
	}
	return append(dst, '}')
}

// start begins a server message. Its name needs no escaping.
func start(dst []byte, name string, id []byte) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, name...)
	dst = append(dst, '"')
	return appendRaw(dst, `,"id":`, id)
}

// The rest append one member: its prefix, which is the comma, name and colon,
// and a value.

func appendText(dst []byte, prefix, s string) []byte {
	return appendQuoted(append(dst, prefix...), s)
}

func appendOptional(dst []byte, prefix, s string) []byte {
	if s == "" {
		return dst
	}
	return appendText(dst, prefix, s)
}

// appendRaw appends JSON as it is, and nothing where there is none.
func appendRaw(dst []byte, prefix string, raw []byte) []byte {
	if len(raw) == 0 {
		return dst
	}
	return append(append(dst, prefix...), raw...)
}

func appendInt(dst []byte, prefix string, n int64) []byte {
	return strconv.AppendInt(append(dst, prefix...), n, 10)
}

func appendUint(dst []byte, prefix string, n uint64) []byte {
	return strconv.AppendUint(append(dst, prefix...), n, 10)
}

func appendBool(dst []byte, prefix string, b bool) []byte {
	return strconv.AppendBool(append(dst, prefix...), b)
}

func appendID(dst []byte, prefix string, id [16]byte) []byte {
	dst = append(append(dst, prefix...), '"')
	dst = hex.AppendEncode(dst, id[:])
	return append(dst, '"')
}

// appendList appends an array of raw values; no values make an empty one.
func appendList(dst []byte, prefix string, values [][]byte) []byte {
	dst = append(append(dst, prefix...), '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, v...)
	}
	return append(dst, ']')
}

// appendQuoted appends s as a JSON string. What is not UTF-8 becomes U+FFFD, as
// in encoding/json: a server message is valid JSON whatever it was made from.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[done:i]...)
		dst = appendEscape(dst, c)
		i += size
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if c >= utf8.RuneSelf {
		return append(dst, "\uFFFD"...)
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}

func appendFloat(dst []byte, prefix string, f float64) []byte {
	return strconv.AppendFloat(append(dst, prefix...), f, 'f', -1, 64)
}
