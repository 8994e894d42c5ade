package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// How long keys are kept and how often they are asked for. What the issuer says in
// Cache-Control holds between minFresh and maxFresh: less would let it be asked by
// every handshake, more would trust a withdrawn key for too long.
const (
	defaultFresh = 10 * time.Minute // where the issuer says nothing
	minFresh     = time.Minute
	maxFresh     = time.Hour

	// maxStale is how long cached keys are used after the issuer was last heard of.
	// An issuer that is down signs nothing new; the tokens it signed before are good.
	maxStale = 24 * time.Hour

	// unknownEvery bounds how often tokens that no cached key fits make us ask for
	// new ones, as anyone can send such tokens.
	unknownEvery = 30 * time.Second

	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// keySet is an issuer's published keys, cached. Nothing runs in the background: a
// token that needs keys which are missing, out of date or unknown starts a fetch,
// and all that come meanwhile wait for the same one.
type keySet struct {
	fetch func(context.Context) (keys []verifyKey, skipped []error, maxAge time.Duration, err error)
	now   func() time.Time
	log   *slog.Logger

	life context.Context // of fetches; ends with close
	end  context.CancelFunc
	wg   sync.WaitGroup // the fetch under way

	mu         sync.Mutex    // guards all below
	keys       []verifyKey   // replaced as a whole, never changed
	version    int           // counts successful fetches
	skipped    error         // why published keys were left out
	loadedAt   time.Time     // of keys
	freshUntil time.Time     // of keys
	unknownAt  time.Time     // of the last fetch for an unknown key
	failures   int           // in a row
	failure    error         // the last of them; nil after a success
	retryAt    time.Time     // not before, after a failure
	flight     chan struct{} // closed when the fetch under way is done; nil: none
}

func newKeySet(r *remote, now func() time.Time, log *slog.Logger) *keySet {
	s := &keySet{fetch: r.keys, now: now, log: log}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// current returns the keys to check a token with, and their version. Keys past
// their time are fetched anew before they are used, so that a withdrawn one does
// not live on where tokens are rare; while the issuer cannot be reached, the old
// ones serve without waiting.
func (s *keySet) current(ctx context.Context) ([]verifyKey, int, error) {
	for {
		s.mu.Lock()
		now := s.now()
		usable := s.version > 0 && now.Before(s.loadedAt.Add(maxStale))
		if usable && now.Before(s.freshUntil) {
			defer s.mu.Unlock()
			return s.keys, s.version, nil
		}
		flight := s.flight
		if flight == nil && !now.Before(s.retryAt) {
			flight = s.start()
		}
		if usable && s.failure != nil {
			defer s.mu.Unlock()
			return s.keys, s.version, nil
		}
		if flight == nil {
			defer s.mu.Unlock()
			return nil, 0, fmt.Errorf("%w: %w", ErrUnavailable, s.failure)
		}
		s.mu.Unlock()
		if err := wait(ctx, flight); err != nil {
			return nil, 0, err
		}
	}
}

// newer returns the keys that came after those of version seen, which no key of
// fitted a token. It fetches them if none did and it is time, and returns nil when
// there is nothing newer to be had. ErrUnavailable means that it cannot be known.
func (s *keySet) newer(ctx context.Context, seen int) ([]verifyKey, error) {
	for {
		s.mu.Lock()
		if s.version != seen {
			defer s.mu.Unlock()
			return s.keys, nil
		}
		flight := s.flight
		if flight == nil && s.mayAskForUnknown() {
			s.unknownAt = s.now()
			flight = s.start()
		}
		if flight == nil {
			defer s.mu.Unlock()
			if s.failure != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, s.failure)
			}
			return nil, nil
		}
		s.mu.Unlock()
		if err := wait(ctx, flight); err != nil {
			return nil, err
		}
	}
}

// mayAskForUnknown reports whether it is time for a fetch on behalf of an unknown
// key; s.mu is held.
func (s *keySet) mayAskForUnknown() bool {
	now := s.now()
	return !now.Before(s.retryAt) && (s.unknownAt.IsZero() || !now.Before(s.unknownAt.Add(unknownEvery)))
}

// start begins a fetch; s.mu is held and none is under way. It returns nil when
// the set is closed.
func (s *keySet) start() chan struct{} {
	if s.life.Err() != nil {
		s.failure = errors.New("the authenticator is closed")
		return nil
	}
	flight := make(chan struct{})
	s.flight = flight
	s.wg.Go(func() {
		keys, skipped, maxAge, err := s.fetch(s.life)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.failed(err)
		} else {
			s.loaded(keys, skipped, maxAge)
		}
		s.flight = nil
		close(flight)
	})
	return flight
}

// failed notes a fetch that came to nothing; s.mu is held.
func (s *keySet) failed(err error) {
	s.failure = err
	backoff := min(minBackoff<<min(s.failures, 10), maxBackoff)
	s.failures++
	s.retryAt = s.now().Add(backoff)
	if s.life.Err() == nil {
		s.log.Warn("keys of tokens cannot be fetched", "error", err, "failures", s.failures, "retry_in", backoff, "cached", len(s.keys))
	}
}

// loaded takes over what was fetched; s.mu is held. An empty set counts: it is how
// an issuer withdraws all of its keys.
func (s *keySet) loaded(keys []verifyKey, skipped []error, maxAge time.Duration) {
	if maxAge == 0 {
		maxAge = defaultFresh
	}
	now := s.now()
	s.keys, s.skipped = keys, errors.Join(skipped...)
	s.version++
	s.loadedAt, s.freshUntil = now, now.Add(min(max(maxAge, minFresh), maxFresh))
	if s.failures > 0 {
		s.log.Info("keys of tokens can be fetched again", "failures", s.failures, "keys", len(keys))
	}
	s.failures, s.failure, s.retryAt = 0, nil, time.Time{}
	switch {
	case len(keys) == 0:
		s.log.Warn("the issuer publishes no key that tokens can be checked with", "left_out", s.skipped)
	case s.skipped != nil:
		s.log.Debug("some published keys are left out", "left_out", s.skipped)
	}
}

// check fetches the keys if there are none and says what is wrong with them.
func (s *keySet) check(ctx context.Context) error {
	keys, _, err := s.current(ctx)
	if err != nil || len(keys) > 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.skipped == nil {
		return errors.New("the issuer publishes no keys")
	}
	return fmt.Errorf("the issuer publishes no key that tokens can be checked with: %w", s.skipped)
}

// close ends the fetch under way, if any, and returns when it is over.
func (s *keySet) close() {
	s.mu.Lock() // so that no fetch starts between the two
	s.end()
	s.mu.Unlock()
	s.wg.Wait()
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ended(ctx.Err())
	}
}
