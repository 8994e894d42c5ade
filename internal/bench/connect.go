package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// dialing is how many connections are being made at a time.
const dialing = 64

// quietFor is how long nothing comes before the load begins: everybody has been
// told of everybody by then.
const quietFor = 200 * time.Millisecond

type dialed struct {
	sock  *sock
	conn  net.Conn
	first []byte
	took  time.Duration
	err   error
}

// connect makes all connections, joins all rooms, and waits until it is quiet.
func (l *load) connect(ctx context.Context, d *dialer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.opt.Connect, fmt.Errorf("not all of %d sockets joined within %v", len(l.socks), l.opt.Connect))
	defer cancel()
	l.begin(Connecting)
	todo, made := make(chan *sock), make(chan dialed, dialing)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel() // before waiting
	for range min(dialing, len(l.socks)) {
		work.Go(func() {
			for s := range todo {
				began := time.Now()
				c, first, err := d.dial(ctx, l.server(s))
				made <- dialed{s, c, first, time.Since(began), err}
			}
		})
	}
	work.Go(func() {
		defer close(todo)
		for _, s := range l.socks {
			select {
			case todo <- s:
			case <-ctx.Done():
				return
			}
		}
	})
	err := l.enter(ctx, made)
	if err != nil {
		cancel()
		go func() { work.Wait(); close(made) }()
		for k := range made {
			if k.conn != nil {
				_ = k.conn.Close()
			}
		}
		return err
	}
	l.res.connected(l.now()-l.phaseAt, len(l.socks))
	return l.settle(ctx)
}

// enter takes connections as they are made, until everybody has joined.
func (l *load) enter(ctx context.Context, made <-chan dialed) error {
	for l.joined < len(l.socks) {
		for more := true; more; {
			select {
			case k := <-made:
				if err := l.join(ctx, k); err != nil {
					return err
				}
			default:
				more = false
			}
		}
		l.net.wait(time.Millisecond, l.take)
		if l.res.Closed > 0 {
			return errors.New(l.res.Why)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.report()
	}
	return nil
}

func (l *load) join(ctx context.Context, k dialed) error {
	if k.err != nil {
		if ctx.Err() != nil {
			k.err = fmt.Errorf("%w; at last: %w", context.Cause(ctx), k.err)
		}
		return k.err
	}
	s := k.sock
	l.res.dials.add(k.took)
	if err := l.net.add(s.id, k.conn); err != nil {
		return err
	}
	s.state = joining
	l.net.write(s.id, appendFrame(nil, opText, l.joinRequest(s)))
	if len(k.first) > 0 {
		l.take(s.id, k.first, nil)
	}
	return nil
}

func (l *load) joinRequest(s *sock) []byte {
	user := ""
	if l.opt.Token == "" {
		user = fmt.Sprintf(`,"user":{"id":"bench-%s-%d"}`, l.name, s.id)
	}
	return []byte(`{"type":"join","roomId":` + quoted(s.room.id) + user + `}`)
}

// settle waits until nothing comes any more.
func (l *load) settle(ctx context.Context) error {
	l.heard = l.now()
	for l.now()-l.heard < quietFor {
		l.net.wait(20*time.Millisecond, l.take)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.report()
	}
	if l.res.Closed > 0 {
		return errors.New(l.res.Why)
	}
	return nil
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}
