package socket

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

var suite = []struct {
	name string
	test func(*testing.T, kind)
}{
	{"MessagesAndFramesGoBothWaysInOrder", testMessagesAndFramesGoBothWaysInOrder},
	{"SendFromManyGoroutinesKeepsEachOnesOrder", testSendFromManyGoroutinesKeepsEachOnesOrder},
	{"TheClientClosesInOrder", testTheClientClosesInOrder},
	{"TheServerClosesAfterWhatIsQueued", testTheServerClosesAfterWhatIsQueued},
	{"ALostNetworkIsToldAsSuch", testALostNetworkIsToldAsSuch},
	{"HalfCloseEndsTheConnection", testHalfCloseEndsTheConnection},
	{"BadFrames", testBadFrames},
	{"FragmentsOfOneByteArriveWhole", testFragmentsOfOneByteArriveWhole},
	{"ACompressionBombIsCutAtItsInflatedSize", testACompressionBombIsCutAtItsInflatedSize},
	{"CompressionBothWays", testCompressionBothWays},
	{"PingsAreAnswered", testPingsAreAnswered},
	{"PauseHoldsMessagesBackAndCloseEndsIt", testPauseHoldsMessagesBackAndCloseEndsIt},
	{"StopEndsEverything", testStopEndsEverything},
	{"ClosesAreCountedByCode", testClosesAreCountedByCode},
	{"AGoodbyeFromAStuckReaderIsNotWaitedForForEver", testAGoodbyeFromAStuckReaderIsNotWaitedForForEver},
	{"SilenceAfterAPingIs4408", testSilenceAfterAPingIs4408},
	{"WhoAnswersPingsStays", testWhoAnswersPingsStays},
	{"AMessageThatNeverEndsIsCut", testAMessageThatNeverEndsIsCut},
	{"AStuckReaderIsCutWithoutProgress", testAStuckReaderIsCutWithoutProgress},
	{"AReaderThatWakesUpStillSeesWhy", testAReaderThatWakesUpStillSeesWhy},
	{"MemoryUnderAThousandStuckReadersIsBounded", testMemoryUnderAThousandStuckReadersIsBounded},
	{"WhatIsPipelinedComesInOrderThroughPauses", testWhatIsPipelinedComesInOrderThroughPauses},
	{"MuchAtOnce", testMuchAtOnce},
	{"ALengthBeyond63BitsIs1009", testALengthBeyond63BitsIs1009},
	{"BrokenCompressionIs1007", testBrokenCompressionIs1007},
	{"AFullQueueDisconnects", testAFullQueueDisconnects},
	{"SheddingKeepsWhatMatters", testSheddingKeepsWhatMatters},
	{"SheddingCutsWhereSequencedFramesAloneAreTooMuch", testSheddingCutsWhereSequencedFramesAloneAreTooMuch},
	{"AMessageOf70KBArrives", testAMessageOf70KBArrives},
	{"ALengthOf64BitsMayBeSmall", testALengthOf64BitsMayBeSmall},
	{"APingAmongFragmentsIsAnsweredAtOnce", testAPingAmongFragmentsIsAnsweredAtOnce},
}

func text(s string) *wire.Frame { return wire.Pong{ID: []byte(`"` + s + `"`)}.Frame() }

func frame(fin bool, op byte, payload []byte) []byte {
	b := []byte{op}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, 0, 0, 0, 0) // a mask of zeros leaves the payload as it is
	return append(b, payload...)
}

func closeCode(t *testing.T, ws *websocket.Conn) int {
	t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(2 * time.Minute))
	for {
		_, _, err := ws.ReadMessage()
		var ce *websocket.CloseError
		if errors.As(err, &ce) {
			return ce.Code
		}
		if err != nil {
			t.Fatalf("no close frame: %v", err)
		}
	}
}

func testMessagesAndFramesGoBothWaysInOrder(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	if ws.Subprotocol() != "relay.v1" {
		t.Errorf("subprotocol %q", ws.Subprotocol())
	}
	for i := range 100 {
		if err := ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "m%d", i)); err != nil {
			t.Fatal(err)
		}
		p.Send(text(fmt.Sprint(i)))
	}
	for i := range 100 {
		if got := wait(t, p.got); got != fmt.Sprintf("m%d", i) {
			t.Fatalf("message %d is %q", i, got)
		}
		_, b, err := ws.ReadMessage()
		if want := fmt.Sprintf(`{"type":"pong","id":"%d"}`, i); err != nil || string(b) != want {
			t.Fatalf("frame %d is %q, %v", i, b, err)
		}
	}
}

func testSendFromManyGoroutinesKeepsEachOnesOrder(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			for i := range 50 {
				p.Send(text(fmt.Sprintf("%d.%d", g, i)))
			}
		})
	}
	next := make([]int, 20)
	for range 20 * 50 {
		_, b, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		var g, i int
		if _, err := fmt.Sscanf(string(b), `{"type":"pong","id":"%d.%d"}`, &g, &i); err != nil || next[g] != i {
			t.Fatalf("%s after %d of its own: %v", b, next[g], err)
		}
		next[g]++
	}
	wg.Wait()
}

func testTheClientClosesInOrder(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "bye"), time.Time{})
	if c := closeCode(t, ws); c != 1000 {
		t.Errorf("echoed %d", c)
	}
	if k := wait(t, p.closed); !k.Normal() || k.Reason != "bye" {
		t.Errorf("cause %+v", k)
	}
}

func testTheServerClosesAfterWhatIsQueued(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	p.Send(text("last"))
	p.Close(wire.CloseForbidden, strings.Repeat("ü", 100))
	p.Close(wire.CloseNormal, "second call")
	p.Send(text("too late"))
	_, b, err := ws.ReadMessage()
	if err != nil || !strings.Contains(string(b), "last") {
		t.Fatalf("%q %v", b, err)
	}
	_, _, err = ws.ReadMessage()
	var ce *websocket.CloseError
	if !errors.As(err, &ce) || ce.Code != 4403 || !strings.HasPrefix(ce.Text, "üü") {
		t.Errorf("%v", err)
	}
	if k := wait(t, p.closed); k.By != Server || k.Code != wire.CloseForbidden {
		t.Errorf("cause %+v", k)
	}
}

func testALostNetworkIsToldAsSuch(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	_ = tcp(ws.NetConn()).SetLinger(0) // a reset, not a goodbye
	_ = tcp(ws.NetConn()).Close()
	if k := wait(t, p.closed); k.By != Network || k.Err == nil || k.Normal() {
		t.Errorf("cause %+v", k)
	}
}

func testHalfCloseEndsTheConnection(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	nc, p := s.raw(t)
	if err := tcp(nc).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if k := wait(t, p.closed); k.By != Network {
		t.Errorf("cause %+v", k)
	}
}

func testBadFrames(t *testing.T, k kind) {
	big := bytes.Repeat([]byte("x"), 5000)
	endless := frame(false, 1, nil)
	for range 3000 {
		endless = append(endless, frame(false, 0, []byte("yy"))...)
	}
	for name, c := range map[string]struct {
		send []byte
		code int
	}{
		"binary":                       {frame(true, 2, []byte("x")), 1003},
		"oversize":                     {frame(true, 1, big), 1009},
		"oversize in fragments":        {append(frame(false, 1, big[:900]), frame(true, 0, big[:900])...), 1009},
		"endless continuation":         {endless, 1009},
		"length of 2^62":               {[]byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1009},
		"continuation without a start": {frame(true, 0, []byte("x")), 1002},
		"reserved opcode":              {frame(true, 3, []byte("x")), 1002},
		"reserved bit":                 {append([]byte{0xc1}, frame(true, 1, []byte("x"))[1:]...), 1002},
		"unmasked":                     {[]byte{0x81, 1, 'x'}, 1002},
		"fragmented ping":              {frame(false, 9, []byte("x")), 1002},
		"ping of 126 bytes":            {frame(true, 9, big[:126]), 1002},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, k, Options{MaxMessage: 1000})
			ws, p := s.dial(t, nil)
			if _, err := ws.NetConn().Write(c.send); err != nil {
				t.Fatal(err)
			}
			if got := closeCode(t, ws); got != c.code {
				t.Errorf("close code %d, want %d", got, c.code)
			}
			_ = ws.Close()
			if k := wait(t, p.closed); int(k.Code) != c.code || k.By != Server {
				t.Errorf("cause %+v", k)
			}
			select {
			case m := <-p.got:
				t.Errorf("%d bytes reached the handler", len(m))
			default:
			}
		})
	}
}

func testFragmentsOfOneByteArriveWhole(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	nc, p := s.raw(t)
	want := "größer"
	for i := range len(want) {
		op := byte(0)
		if i == 0 {
			op = 1
		}
		for _, b := range frame(i == len(want)-1, op, []byte{want[i]}) {
			if _, err := nc.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := wait(t, p.got); got != want {
		t.Errorf("got %q", got)
	}
}

func testACompressionBombIsCutAtItsInflatedSize(t *testing.T, k kind) {
	s := serve(t, k, Options{MaxMessage: 100_000, Compression: true})
	ws, p := s.dial(t, &websocket.Dialer{EnableCompression: true})
	var bomb bytes.Buffer
	w, _ := flate.NewWriter(&bomb, flate.BestCompression)
	_, _ = w.Write(make([]byte, 16<<20))
	_ = w.Flush()
	b := frame(true, 1, bytes.TrimSuffix(bomb.Bytes(), []byte{0, 0, 0xff, 0xff}))
	b[0] |= 0x40
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := ws.NetConn().Write(b); err != nil {
		t.Fatal(err)
	}
	if got := closeCode(t, ws); got != 1009 {
		t.Errorf("close code %d", got)
	}
	_ = ws.Close()
	wait(t, p.closed)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes were allocated for a bomb of %d", grown, len(b))
	}
}

func testCompressionBothWays(t *testing.T, k kind) {
	s := serve(t, k, Options{Compression: true})
	ws, p := s.dial(t, &websocket.Dialer{EnableCompression: true})
	long := strings.Repeat("relay ", 1000)
	if err := ws.WriteMessage(websocket.TextMessage, []byte(long)); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, p.got); got != long {
		t.Errorf("got %d bytes", len(got))
	}
	f := text(long)
	p.Send(f)
	p.Send(text("short"))
	for _, want := range []string{string(f.Payload()), `{"type":"pong","id":"short"}`} {
		_, b, err := ws.ReadMessage()
		if err != nil || string(b) != want {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
	if out := s.group.stats.BytesOut.Load(); out > 1000 {
		t.Errorf("%d bytes went out for %d", out, len(long))
	}
}

func testPingsAreAnswered(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, _ := s.dial(t, nil)
	got := make(chan string, 1)
	ws.SetPongHandler(func(d string) error { got <- d; return nil })
	_ = ws.WriteControl(websocket.PingMessage, []byte("hi"), time.Time{})
	go func() { _, _, _ = ws.ReadMessage() }()
	if d := wait(t, got); d != "hi" {
		t.Errorf("pong %q", d)
	}
}

func testPauseHoldsMessagesBackAndCloseEndsIt(t *testing.T, k kind) {
	s := serve(t, k, Options{}, func(p *peer, b []byte) {
		if string(b) == "pause" {
			p.Pause()
			p.Pause()
		}
	})
	ws, p := s.dial(t, nil)
	send := func(m string) {
		t.Helper()
		if err := ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	send("pause")
	send("held")
	wait(t, p.got)
	p.Resume()
	select {
	case m := <-p.got:
		t.Fatalf("%q came during the second pause", m)
	default:
	}
	p.Resume()
	if got := wait(t, p.got); got != "held" {
		t.Errorf("got %q", got)
	}
	send("pause")
	send("never")
	wait(t, p.got)
	p.Close(wire.CloseRestart, "")
	if c := closeCode(t, ws); c != 1012 {
		t.Errorf("close code %d", c)
	}
	wait(t, p.closed)
	if len(p.got) != 0 {
		t.Error("a message came after Close")
	}
}

func testStopEndsEverything(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	go func() { s.group.Stop(t.Context()) }()
	if c := closeCode(t, ws); c != 1012 {
		t.Errorf("close code %d", c)
	}
	_ = ws.Close()
	wait(t, p.closed)
	s.group.own.Wait()
	_, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
	if err == nil {
		t.Error("a connection was taken after Stop")
	}
	if res != nil {
		_ = res.Body.Close()
	}
}

func testClosesAreCountedByCode(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	for _, code := range []int{1000, 1000, 4999} {
		ws, p := s.dial(t, nil)
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Time{})
		wait(t, p.closed)
	}
	got := map[wire.CloseCode]int64{}
	s.group.stats.Closed(func(c wire.CloseCode, n int64) { got[c] = n })
	if got[1000] != 2 || got[1] != 1 {
		t.Errorf("%v", got)
	}
}
