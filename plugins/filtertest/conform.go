package filtertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/filter"
)

// Check is one promise of the contract, and whether the filter keeps it.
type Check struct {
	Name string
	Err  error // nil: it does
}

// Checks holds a filter against what docs/plugins.md asks of every plugin,
// whatever it judges. It starts it several times.
func Checks(ctx context.Context, s Spec) []Check {
	c := &conformance{spec: s}
	c.check(ctx, "starts, describes itself and takes its configuration", func(ctx context.Context) error {
		return c.with(ctx, func(*Subject) error { return nil })
	})
	if c.list[0].Err != nil {
		return c.list // nothing else can be told
	}
	for _, p := range []struct {
		name string
		run  func(context.Context, *Subject) error
	}{
		{"answers a message in time", c.answers},
		{"answers 64 messages at once, each with its own verdict", c.batch},
		{"answers while it is slow: a budget that is over is no harm to the next message", c.deadline},
		{"takes a body of 1 MiB", c.large},
		{"takes text that is no UTF-8, escapes, and empty text", c.odd},
		{"takes bodies of any JSON", c.shapes},
		{"says nothing that its description does not allow", c.word},
	} {
		c.check(ctx, p.name, func(ctx context.Context) error {
			return c.with(ctx, func(s *Subject) error { return p.run(ctx, s) })
		})
	}
	c.check(ctx, "refuses a configuration with an unknown key, and says where", c.refuses)
	if len(s.Command) > 0 {
		c.check(ctx, "answers what it has when it is told to end", c.drain)
		c.check(ctx, "ends by itself when relay has no more use for it", c.ends)
	}
	return c.list
}

type conformance struct {
	spec Spec
	list []Check
}

func (c *conformance) check(ctx context.Context, name string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c.list = append(c.list, Check{name, f(ctx)})
}

// with opens a fresh filter for f.
func (c *conformance) with(ctx context.Context, f func(*Subject) error) error {
	s, err := Open(ctx, c.spec)
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close(ctx))
}

// event is one that the filter judges.
func event(s *Subject) filter.Event { return s.Events[0] }

// ask judges one message. Any verdict will do; none is an error.
func ask(ctx context.Context, s *Subject, m Message) error {
	m.Event = event(s)
	a, err := s.Judge(ctx, m)
	switch {
	case err != nil:
		return err
	case a.Failure != "" && a.Err != nil:
		return fmt.Errorf("%s: %w", a.Failure, a.Err)
	case a.Failure != "":
		return errors.New(a.Failure)
	}
	return nil
}

func (c *conformance) answers(ctx context.Context, s *Subject) error {
	return ask(ctx, s, Message{Text: "hello"})
}

func (c *conformance) batch(ctx context.Context, s *Subject) error {
	errs := make([]error, 3*filter.MaxBatch)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			m := Message{Text: fmt.Sprintf("message %d", i), User: filter.User{ID: fmt.Sprintf("user-%d", i)}}
			if err := ask(ctx, s, m); err != nil {
				errs[i] = fmt.Errorf("message %d: %w", i, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (c *conformance) deadline(ctx context.Context, s *Subject) error {
	hurry := c.spec
	hurry.Timeout = time.Microsecond
	return errors.Join(func() error {
		h, err := Open(ctx, hurry)
		if err != nil {
			return err
		}
		for range 10 {
			if _, err := h.Judge(ctx, Message{Text: "hurry", Event: event(s)}); err != nil {
				return errors.Join(err, h.Close(ctx))
			}
		}
		return h.Close(ctx)
	}(), ask(ctx, s, Message{Text: "no hurry"}))
}

func (c *conformance) large(ctx context.Context, s *Subject) error {
	return ask(ctx, s, Message{Text: strings.Repeat("large ", 1<<20/6)})
}

func (c *conformance) odd(ctx context.Context, s *Subject) error {
	var errs []error
	for _, body := range []string{
		"\"\xff\xfe broken\"", `""`, `"\u0000\u001f\u202e\ud83d\ude00"`, `"` + strings.Repeat(`\u0301`, 200) + `"`,
	} {
		if err := ask(ctx, s, Message{Body: json.RawMessage(strings.ToValidUTF8(body, "\uFFFD"))}); err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", body, err))
		}
	}
	if err := ask(ctx, s, Message{Text: "hi", User: filter.User{ID: "a\xff", Name: "\xfe"}, Room: "r\xff"}); err != nil {
		errs = append(errs, fmt.Errorf("a user whose id is no UTF-8: %w", err))
	}
	return errors.Join(errs...)
}

func (c *conformance) shapes(ctx context.Context, s *Subject) error {
	var errs []error
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, body := range []string{`null`, `true`, `-1e308`, `12345678901234567890`, `[]`, `{}`, `{"text":{"text":[1]}}`, `{"text":"a","text":"b"}`, deep} {
		if err := ask(ctx, s, Message{Body: json.RawMessage(body)}); err != nil {
			errs = append(errs, fmt.Errorf("%.40s: %w", body, err))
		}
	}
	return errors.Join(errs...)
}

// word looks for verdicts that the filter's own description rules out, over
// messages that filters tend to have an opinion on.
func (c *conformance) word(ctx context.Context, s *Subject) error {
	var errs []error
	for _, text := range []string{"hello", "SHOUTING AT YOU", "https://example.com", "buy now!!!", "aaaaaaaaaaaaaaaaaaaaaaaa", "1234 5678"} {
		if err := ask(ctx, s, Message{Text: text}); err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", text, err))
		}
	}
	return errors.Join(errs...)
}

func (c *conformance) refuses(ctx context.Context) error {
	bad := c.spec
	bad.Config = json.RawMessage(`{"no-filter-has-such-a-key": 1}`)
	s, err := Open(ctx, bad)
	if err == nil {
		return errors.Join(errors.New("it takes the key no-filter-has-such-a-key, and a typing error would go unnoticed"), s.Close(ctx))
	}
	var where *plugins.Error
	if !errors.As(err, &where) || !where.InConfig {
		return fmt.Errorf("it should answer Configure with a problem, and instead: %w", err)
	}
	return nil
}

// drain asks many and ends the filter while it is at work.
func (c *conformance) drain(ctx context.Context) error {
	s, err := Open(ctx, c.spec)
	if err != nil {
		return err
	}
	const n = 64
	errs := make([]error, n)
	var all, asked sync.WaitGroup
	asked.Add(n)
	for i := range n {
		all.Go(func() {
			asked.Done()
			errs[i] = ask(ctx, s, Message{Text: "last words"})
		})
	}
	asked.Wait()
	err = s.Close(ctx)
	all.Wait()
	for _, e := range errs { // those that came after the end are crash, by contract
		if e != nil && !strings.HasPrefix(e.Error(), plugins.Crash) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// ends gives the filter as long as relay does, and then it must be gone without
// having been killed.
func (c *conformance) ends(ctx context.Context) error {
	return c.with(ctx, func(s *Subject) error { return ask(ctx, s, Message{Text: "hello"}) })
}
