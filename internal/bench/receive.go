package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// take is given everything that comes over the network.
func (l *load) take(id int, data []byte, err error) {
	s := l.socks[id]
	if s.state == gone {
		return
	}
	now := l.now()
	l.heard = now
	l.reads++
	l.bytes += int64(len(data))
	if err != nil {
		l.lose(s, err)
		return
	}
	if len(s.rest) > 0 {
		s.rest = append(s.rest, data...)
		data = s.rest
	}
	left, err := l.cut(s, data, now)
	switch {
	case err != nil:
		l.lose(s, err)
	case len(left) == 0:
		s.rest = nil // a quiet socket holds no buffer
	default:
		s.rest = append(s.rest[:0:0], left...)
	}
}

// lose notes the end of a connection that should have lasted.
func (l *load) lose(s *sock, err error) {
	if s.state == member {
		l.joined--
	}
	s.state, s.rest = gone, nil
	l.net.drop(s.id)
	l.res.Closed++
	if l.res.Why == "" {
		l.res.Why = err.Error()
	}
}

// cut handles all whole frames of b and returns what is left.
func (l *load) cut(s *sock, b []byte, now time.Duration) ([]byte, error) {
	for {
		op, payload, rest, ok, err := cutFrame(b)
		if err != nil || !ok {
			return b, err
		}
		b = rest
		l.frames++
		switch op {
		case opText:
			if err := l.text(s, payload, now); err != nil {
				return nil, err
			}
		case opPing:
			l.net.write(s.id, appendFrame(nil, opPong, payload))
		case opClose:
			return nil, closedBy(payload)
		}
	}
}

func closedBy(payload []byte) error {
	if len(payload) < 2 {
		return fmt.Errorf("the server closed a connection without a code")
	}
	return fmt.Errorf("the server closed a connection with %d %q", int(payload[0])<<8|int(payload[1]), payload[2:])
}

// text handles one message of the server. Only what it says rarely is decoded.
func (l *load) text(s *sock, payload []byte, now time.Duration) error {
	st, ok := findStamp(payload, l.mark)
	switch {
	case ok:
		l.message(s, st, now)
	case bytes.HasPrefix(payload, []byte(`{"type":"joined"`)):
		if s.state == joining {
			s.state = member
			l.joined++
		}
	case bytes.HasPrefix(payload, []byte(`{"type":"error"`)):
		return l.failed(s, payload)
	}
	return nil
}

// message counts a delivery.
func (l *load) message(s *sock, st stamp, now time.Duration) {
	if st.sender >= len(s.room.senders) || !s.listen {
		return
	}
	p := s.room.senders[st.sender]
	if p == s.sender || st.number > uint64(p.published) {
		return // an echo, which is not what we count
	}
	switch s.tracks[st.sender].arrive(st.number) {
	case repeated:
		l.res.Repeated++
		return
	case late:
		l.res.OutOfOrder++
	case inOrder:
	}
	l.delivered++
	p.delivered++
	p.progress = now
	l.wake(p)
	if due := time.Duration(st.due); due >= l.from && due < l.to {
		l.latency.add(now - due)
	}
}

// refusal is what an error of the server says.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// failed counts a message that was refused. Who is not let in at all ends the
// run.
func (l *load) failed(s *sock, payload []byte) error {
	var e refusal
	if err := json.Unmarshal(payload, &e); err != nil {
		return fmt.Errorf("an error of the server cannot be read: %w", err)
	}
	if s.state == joining {
		why := e.Code + ": " + e.Message
		if e.Hint != "" {
			why += " (" + e.Hint + ")"
		}
		return fmt.Errorf("joining room %s: %s", s.room.id, why)
	}
	l.res.Refused[e.Code]++
	if s.sender != nil {
		s.sender.refused++
	}
	return nil
}
