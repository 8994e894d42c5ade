package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

var errFragment = errors.New("the server sends fragmented or compressed messages, which were not asked for")

// cutFrame takes the first whole frame off b. ok is false when b holds none yet.
// What a server sends is not masked.
func cutFrame(b []byte) (op byte, payload, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return 0, nil, b, false, nil
	}
	if b[0]&0xf0 != 0x80 || b[0]&0x0f == opContinuation {
		return 0, nil, b, false, errFragment
	}
	head, n := 2, uint64(b[1]&0x7f)
	switch n {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	if len(b) < head {
		return 0, nil, b, false, nil
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		n = binary.BigEndian.Uint64(b[2:])
	}
	if n > uint64(len(b)-head) {
		return 0, nil, b, false, nil
	}
	end := head + int(n)
	return b[0] & 0x0f, b[head:end], b[end:], true, nil
}

// appendFrame appends a frame as a client sends it. The key of its mask is zero:
// it is there to protect proxies from pages in browsers (RFC 6455, section
// 10.3), and a generator that masks nothing has the messages as they are.
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	return append(append(dst, 0, 0, 0, 0), payload...)
}

// A message begins with its stamp: a tilde, the run, and in decimal digits the
// sender's place in its room, the message's number, from 1, and when it was due,
// in nanoseconds since the run began.
const (
	runSize    = 8
	senderSize = 6
	numberSize = 12
	dueSize    = 15 // eleven days
	stampSize  = 1 + runSize + senderSize + numberSize + dueSize
)

type stamp struct {
	sender int
	number uint64
	due    int64
}

// putStamp writes a stamp over b.
func putStamp(b []byte, run string, s stamp) {
	b[0] = '~'
	b = b[1+copy(b[1:], run):]
	putDigits(b[:senderSize], uint64(s.sender))
	putDigits(b[senderSize:senderSize+numberSize], s.number)
	putDigits(b[senderSize+numberSize:][:dueSize], uint64(s.due))
}

// findStamp reads the stamp in a frame's payload; mark is the tilde and the run.
func findStamp(payload, mark []byte) (s stamp, ok bool) {
	i := bytes.Index(payload, mark)
	if i < 0 || len(payload)-i < stampSize {
		return s, false
	}
	b := payload[i+1+runSize:]
	sender, ok1 := digits(b[:senderSize])
	number, ok2 := digits(b[senderSize : senderSize+numberSize])
	due, ok3 := digits(b[senderSize+numberSize:][:dueSize])
	return stamp{int(sender), number, int64(due)}, ok1 && ok2 && ok3
}

func putDigits(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

func digits(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}
