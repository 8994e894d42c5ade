package redisbus

import (
	"bufio"
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestReadAnswer(t *testing.T) {
	for text, want := range map[string]answer{
		"+OK\r\n":                           {text: "OK"},
		":42\r\n":                           {text: "42"},
		"$5\r\na\r\nbc\r\n":                 {text: "a\r\nbc"},
		"$0\r\n\r\n":                        {},
		"$-1\r\n":                           {err: redis.Nil},
		"*-1\r\n":                           {err: redis.Nil},
		"-NOSCRIPT No matching script.\r\n": {err: replyError("NOSCRIPT No matching script.")},
		"*3\r\n$1\r\nS\r\n-ERR x\r\n:7\r\n": {list: []answer{{text: "S"}, {err: replyError("ERR x")}, {text: "7"}}},
		"*0\r\n":                            {list: []answer{}},
		"-ERR " + strings.Repeat("x", 3000) + "\r\n": {err: replyError("ERR " + strings.Repeat("x", 3000))},
	} {
		r := bufio.NewReader(strings.NewReader(text + "+next\r\n"))
		got, err := readAnswer(r)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.40q: %+v, %v; want %+v", text, got, err, want)
			continue
		}
		if next, err := readAnswer(r); err != nil || next.text != "next" {
			t.Errorf("%.40q: then %+v, %v", text, next, err)
		}
	}
	for _, text := range []string{
		"hello\r\n", "\r\n", "\n", "+OK\n", "$3\r\nabcd\r\n", "$x\r\n", "$-2\r\n", "$9999999999\r\n", "*9999\r\n",
		"*1\r\n*1\r\n+deep\r\n", "%1\r\n+a\r\n+b\r\n", "$3\r\nab", "+OK", "*2\r\n+one\r\n", "+" + strings.Repeat("x", 5000) + "\r\n",
	} {
		if got, err := readAnswer(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%.40q was read as %+v", text, got)
		}
	}
}

// What is no answer is told as such, and never panics or takes much memory.
func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "$5\r\nhello\r\n", "*2\r\n$1\r\na\r\n:1\r\n", "-MOVED 3 127.0.0.1:1\r\n", "$-1\r\n", "*4194304\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readAnswer(bufio.NewReader(bytes.NewReader(data)))
		if err != nil && (a.text != "" || a.list != nil || a.err != nil) {
			t.Errorf("%q: %+v besides %v", data, a, err)
		}
		var reply redis.Error
		if a.err != nil && !errors.Is(a.err, redis.Nil) && !errors.As(a.err, &reply) {
			t.Errorf("%q: %T is no answer's error", data, a.err)
		}
	})
}
