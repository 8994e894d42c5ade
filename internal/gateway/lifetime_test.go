package gateway

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wsrelay/relay/internal/wire"
)

// warned is a connection on which something happens while it is told of the end
// of its credential.
type warned struct {
	lineless
	meanwhile func()
	closed    atomic.Int32
}

func (c *warned) Send(*wire.Frame)                    { c.meanwhile() }
func (c *warned) Close(code wire.CloseCode, _ string) { c.closed.Store(int32(code)) }

// The clock is that of the credential in force, though a fresh one comes in the
// very moment in which the client is told that the old one ends.
func TestAFreshTokenOutlivesTheWarningOfTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s, fresh := new(session), began.Add(time.Hour)
		c := &warned{}
		c.meanwhile = func() {
			c.meanwhile = func() {}
			s.armExpiry(fresh)
		}
		s.conn = c
		s.armExpiry(began.Add(10 * time.Minute))
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if code := c.closed.Load(); code != 0 {
			t.Errorf("closed with %d, %v before its time", code, time.Until(fresh))
		}
		time.Sleep(30*time.Minute + time.Second)
		synctest.Wait()
		if code := c.closed.Load(); code != int32(wire.CloseUnauthenticated) {
			t.Errorf("closed with %d after its time", code)
		}
	})
}

// A timer that has gone off when a fresh credential comes finds nothing to do.
func TestATimerOfAnOldTokenDoesNothing(t *testing.T) {
	c := &warned{meanwhile: func() { t.Error("told") }}
	s := &session{conn: c}
	s.armExpiry(time.Now().Add(time.Hour))
	old := s.term
	s.armExpiry(time.Time{})
	s.expire(old, time.Now())
	if code := c.closed.Load(); code != 0 {
		t.Errorf("closed with %d", code)
	}
}
