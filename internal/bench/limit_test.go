package bench_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bench"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// With this in its environment the test binary is the limit: the least that a Go
// server can do with the same load. It has no Redis, no authentication, no
// policy, no member events, and no bound on anything. Every room has a queue and
// a goroutine, which puts what waits together once and makes one write for each
// socket. What relay costs more is the price of what it promises.
const limitEnv = "RELAY_BENCH_LIMIT"

// With this besides, it sends every message through the Redis at that address,
// over one connection to publish and one to receive: the least that a relay can
// do. It is what the latency of relay is to be held against; costs are held
// against the limit without.
const limitRedisEnv = "RELAY_BENCH_LIMIT_REDIS"

// atATime is how many messages the limit puts into one write.
const atATime = 16

func serveLimit() int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l := limit{rooms: make(map[string]*limitRoom), conns: make(map[string]net.Conn)}
	if addr := os.Getenv(limitRedisEnv); addr != "" {
		if err := l.goThrough(addr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Fprintf(os.Stderr, `{"msg":"serving","listen":%q}`+"\n", ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go l.serve(c)
	}
}

type limit struct {
	mu    sync.Mutex
	rooms map[string]*limitRoom
	conns map[string]net.Conn // by address, where there is a Redis

	sending            sync.Mutex // guards publishing
	publish, subscribe net.Conn   // nil: no Redis
}

type limitRoom struct {
	mu         sync.Mutex // guards conns
	conns      []net.Conn
	queue      chan limitMessage
	subscribed chan struct{} // closed when it is
}

type limitMessage struct {
	frame []byte
	from  net.Conn
}

// room makes a room when it is first joined, for good: this server lives as long
// as a measurement.
func (l *limit) room(id []byte) *limitRoom {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rooms[string(id)]
	if r == nil {
		r = &limitRoom{queue: make(chan limitMessage, 256), subscribed: make(chan struct{})}
		l.rooms[string(id)] = r
		go r.run()
		if l.subscribe != nil {
			_, _ = fmt.Fprintf(l.subscribe, "SUBSCRIBE %s\r\n", id)
		}
	}
	return r
}

// goThrough connects to a Redis. This is a program of tests: when anything goes
// wrong, messages are missing.
func (l *limit) goThrough(addr string) (err error) {
	if l.publish, err = net.Dial("tcp", addr); err != nil {
		return err
	}
	if l.subscribe, err = net.Dial("tcp", addr); err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, l.publish) }() // how many received it
	go l.receive(bufio.NewReaderSize(l.subscribe, 32<<10))
	return nil
}

// send publishes a message with the address of its sender before it.
func (l *limit) send(room, frame []byte, from net.Conn) {
	who := from.RemoteAddr().String()
	b := fmt.Appendf(nil, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s %s\r\n", len(room), room, len(who)+1+len(frame), who, frame)
	l.sending.Lock()
	defer l.sending.Unlock()
	_, _ = l.publish.Write(b)
}

// receive takes what Redis says: lists of three, of which the last is a text, or a
// number where a subscription is confirmed.
func (l *limit) receive(in *bufio.Reader) {
	item := func() []byte {
		line, err := in.ReadBytes('\n')
		n := 0
		if err != nil || line[0] == ':' {
			return nil
		}
		_, _ = fmt.Sscanf(string(line), "$%d", &n)
		b := make([]byte, n+2)
		_, _ = io.ReadFull(in, b)
		return b[:n]
	}
	for {
		if _, err := in.ReadBytes('\n'); err != nil {
			return
		}
		kind, id, payload := item(), item(), item()
		l.mu.Lock()
		r := l.rooms[string(id)]
		l.mu.Unlock()
		if string(kind) == "subscribe" {
			close(r.subscribed)
			continue
		}
		who, frame, _ := bytes.Cut(payload, []byte{' '})
		l.mu.Lock()
		from := l.conns[string(who)]
		l.mu.Unlock()
		r.queue <- limitMessage{frame, from}
	}
}

// run sends what has come, to all but who sent it.
func (r *limitRoom) run() {
	var batch []limitMessage
	var all, own []byte
	for m := range r.queue {
		batch, all = append(batch[:0], m), append(all[:0], m.frame...)
		for more := true; more && len(batch) < atATime; {
			select {
			case m := <-r.queue:
				batch, all = append(batch, m), append(all, m.frame...)
			default:
				more = false
			}
		}
		r.mu.Lock()
		for _, c := range r.conns {
			own = own[:0]
			sent := false
			for _, m := range batch {
				sent = sent || m.from == c
			}
			if !sent {
				_, _ = c.Write(all) // who is gone is found by reading
				continue
			}
			for _, m := range batch {
				if m.from != c {
					own = append(own, m.frame...)
				}
			}
			if len(own) > 0 {
				_, _ = c.Write(own) // likewise
			}
		}
		r.mu.Unlock()
	}
}

// serve is one connection: a handshake, a join, and chats.
func (l *limit) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 1024)
	text := textproto.NewReader(in)
	if _, err := text.ReadLine(); err != nil {
		return
	}
	header, err := text.ReadMIMEHeader()
	if err != nil {
		return
	}
	sum := sha1.Sum([]byte(header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, section 1.3
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
		base64.StdEncoding.EncodeToString(sum[:])+"\r\nSec-WebSocket-Protocol: relay.v1\r\n\r\n")
	var room *limitRoom
	var name, buf []byte
	if l.publish != nil {
		l.mu.Lock()
		l.conns[c.RemoteAddr().String()] = c
		l.mu.Unlock()
	}
	for {
		if buf, err = readLimitFrame(in, buf); err != nil {
			return
		}
		switch string(limitField(buf, `"type":"`)) {
		case "join":
			id := limitField(buf, `"roomId":"`)
			room, name = l.room(id), bytes.Clone(id)
			if l.publish != nil {
				<-room.subscribed
			}
			room.mu.Lock()
			room.conns = append(room.conns, c)
			room.mu.Unlock()
			_, _ = c.Write(limitFrame(fmt.Appendf(nil, `{"type":"joined","roomId":%q}`, id)))
		case "chat":
			switch {
			case room == nil:
			case l.publish != nil:
				l.send(name, limitFrame(buf), c)
			default:
				room.queue <- limitMessage{limitFrame(buf), c}
			}
		}
	}
}

// readLimitFrame reads a frame of a client's into buf, without its header.
func readLimitFrame(in *bufio.Reader, buf []byte) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:2]); err != nil {
		return nil, err
	}
	n := int(head[1] & 0x7f)
	if n == 126 {
		if _, err := io.ReadFull(in, head[2:4]); err != nil {
			return nil, err
		}
		n = int(binary.BigEndian.Uint16(head[2:]))
	}
	if _, err := io.ReadFull(in, head[4:]); err != nil {
		return nil, err
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(in, buf); err != nil {
		return nil, err
	}
	for i := range buf {
		buf[i] ^= head[4+i&3]
	}
	if head[0]&0x0f != 1 {
		return nil, io.EOF // a client that says goodbye; others are not expected
	}
	return buf, nil
}

// limitFrame puts a server's header before a copy of a message.
func limitFrame(message []byte) []byte {
	b := make([]byte, 0, len(message)+4)
	if n := len(message); n < 126 {
		b = append(b, 0x81, byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 126), uint16(n))
	}
	return append(b, message...)
}

// limitField is what stands between key and the next quotation mark.
func limitField(b []byte, key string) []byte {
	_, b, ok := bytes.Cut(b, []byte(key))
	if !ok {
		return nil
	}
	b, _, _ = bytes.Cut(b, []byte{'"'})
	return b
}

// The limit carries the same load, or it would be no limit of it.
func TestTheLimitDeliversEverything(t *testing.T) {
	t.Run("alone", func(t *testing.T) { testTheLimit(t, startLimit(t)) })
	t.Run("redis", func(t *testing.T) { testTheLimit(t, startLimit(t, limitRedisEnv+"="+redistest.Start(t).Addr())) })
}

func testTheLimit(t *testing.T, s *server) {
	for _, load := range []bench.Options{{Rate: 500}, {InFlight: 4}} {
		load.URLs, load.Prefix, load.Rooms, load.Members, load.Senders, load.Size = []string{s.url}, "bench-", 5, 4, 2, 128
		load.Duration = 200 * time.Millisecond
		r, err := bench.Run(t.Context(), load)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Sound() || r.Delivered == 0 {
			t.Errorf("delivered %d, lost %d, out of order %d, repeated %d, closed %d %s", r.Delivered, r.Lost, r.OutOfOrder, r.Repeated, r.Closed, r.Why)
		}
	}
}
