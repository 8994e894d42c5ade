package redisbus

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// This is the part of the Redis protocol (RESP2) that our own connections speak
// (link.go); inbox.go has what is said on one of pub/sub. The library waits for
// the answer of what it sends, on the goroutine that sends: a publisher is to send
// on one and hear on another.

// appendCommand begins a command of n arguments, its name among them; appendArg
// adds them.
func appendCommand(b []byte, n int) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, "\r\n"...)
}

func appendArg[T string | []byte](b []byte, arg T) []byte {
	b = append(b, '$')
	b = strconv.AppendInt(b, int64(len(arg)), 10)
	b = append(b, "\r\n"...)
	b = append(b, arg...)
	return append(b, "\r\n"...)
}

func appendInt(b []byte, n int64) []byte {
	var digits [20]byte
	return appendArg(b, strconv.AppendInt(digits[:0], n, 10))
}

// answer is what Redis says to one command.
type answer struct {
	text string   // of everything but lists
	list []answer // of a list
	err  error    // a replyError, or redis.Nil
}

// replyError is an answer that says no. It is one of the library's errors for
// those who ask what it means (fateOf).
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError implements redis.Error.
func (replyError) RedisError() {}

const (
	answerMax = 4 << 20      // bytes; more makes no sense
	listMax   = batchMax + 8 // likewise, items
)

var errProtocol = errors.New("the answer is not one of Redis")

// readAnswer reads one answer. An error of its own says that the connection is
// of no use any more.
func readAnswer(r *bufio.Reader) (answer, error) { return readPart(r, true) }

func readPart(r *bufio.Reader, lists bool) (answer, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return answer{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return answer{}, fmt.Errorf("%w: %.40q", errProtocol, line)
	}
	kind, text := line[0], line[1:len(line)-2]
	switch kind {
	case '+', ':':
		return answer{text: string(text)}, nil
	case '-':
		return answer{err: replyError(text)}, nil
	case '$':
		return readBulk(r, text)
	case '*':
		if lists {
			return readList(r, text)
		}
	}
	return answer{}, fmt.Errorf("%w: %.40q", errProtocol, line)
}

func readBulk(r *bufio.Reader, length []byte) (answer, error) {
	n, err := strconv.Atoi(string(length))
	switch {
	case err != nil || n > answerMax || n < -1:
		return answer{}, fmt.Errorf("%w: a string of %.20q bytes", errProtocol, length)
	case n == -1:
		return answer{err: redis.Nil}, nil
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return answer{}, err
	}
	if b[n] != '\r' || b[n+1] != '\n' {
		return answer{}, fmt.Errorf("%w: a string without its end", errProtocol)
	}
	return answer{text: string(b[:n])}, nil
}

func readList(r *bufio.Reader, length []byte) (answer, error) {
	n, err := strconv.Atoi(string(length))
	switch {
	case err != nil || n > listMax || n < -1:
		return answer{}, fmt.Errorf("%w: a list of %.20q", errProtocol, length)
	case n == -1:
		return answer{err: redis.Nil}, nil
	}
	a := answer{list: make([]answer, n)}
	for i := range a.list {
		if a.list[i], err = readPart(r, false); err != nil {
			return answer{}, err
		}
	}
	return a, nil
}
