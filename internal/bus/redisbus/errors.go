package redisbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

// fate is what an error says about the command it answers.
type fate int

const (
	done      fate = iota // no error
	unknown               // no answer: it may have happened
	unsent                // it never left
	noScript              // not executed: the server does not know the script
	elsewhere             // not executed: not (yet, any more) the primary for it
	refused               // not executed for good
)

// refusals are the first words of replies that say so for all commands alike.
var elsewhereReplies = []string{
	"MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ", "READONLY ", "LOADING ", "MASTERDOWN ", "BUSY ", "EXECABORT ", "UNBLOCKED ",
}

// errDoubt is of a command that was sent several times and may have happened once.
var errDoubt = errors.New("no answer at first")

func fateOf(err error) fate {
	if err == nil || errors.Is(err, redis.Nil) {
		return done
	}
	if errors.Is(err, errDoubt) {
		return unknown
	}
	var reply redis.Error
	if errors.As(err, &reply) {
		text := reply.Error()
		if strings.HasPrefix(text, "NOSCRIPT") {
			return noScript
		}
		for _, p := range elsewhereReplies {
			if strings.HasPrefix(text, p) {
				return elsewhere
			}
		}
		return refused
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolExhausted) || errors.Is(err, errNotSent) || errors.Is(err, bus.ErrClosed) {
		return unsent
	}
	return unknown
}

// unavailable wraps what kept a command from happening.
func unavailable(err error) error { return fmt.Errorf("%w: %w", bus.ErrUnavailable, err) }

// failure puts an error of a command that changes something into the bus's
// words.
func failure(err error) error {
	switch fateOf(err) {
	case done:
		return nil
	case unknown:
		return fmt.Errorf("%w: %w", bus.ErrUnknownOutcome, err)
	}
	return unavailable(err)
}

// transient tells errors of the way from those of the caller's context.
func transient(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && fateOf(err) != refused
}
