package bustest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/wsrelay/relay/internal/bus"
)

func capacityContracts() []contract {
	return []contract{
		{"CapacityIsExactUnderConcurrentEnters", 2, capacityExact},
		{"APresentMemberIsNeverRefused", 2, presentNeverFull},
		{"AFreedPlaceCanBeTaken", 2, freedPlace},
		{"ConcurrentCreatesCreateOnce", 2, createOnce},
		{"CreateModes", 2, createModes},
		{"ACreateKeyMakesCreateRepeatable", 2, createKey},
		{"ARefusedEnterChangesNothing", 2, refusedEnter},
		{"AnEmptyRoomIsForgottenAfterIdle", 2, idleForgets},
		{"AnEmptyRoomOutlivesItsMembersUntilIdle", 2, idleKeeps},
	}
}

// storm enters n members at once, alternating over the instances, and counts
// the outcomes: nil, want, and anything else as a failure.
func (s *session) storm(n int, want error, wish func(i int) *bus.Entry) (in, refused int) {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			_, errs[i] = s.nodes[i%len(s.nodes)].Enter(s.ctx, wish(i))
		})
	}
	all.Wait()
	for i, err := range errs {
		switch {
		case err == nil:
			in++
		case errors.Is(err, want):
			refused++
		default:
			s.Errorf("entry %d: %v", i, err)
		}
	}
	return in, refused
}

func capacityExact(s *session) {
	s.subscribeAll("room", false)
	in, full := s.storm(100, bus.ErrRoomFull, func(i int) *bus.Entry {
		e := entry("room", fmt.Sprint("m", i), plain)
		e.Max = 10
		return e
	})
	page, err := s.nodes[0].Members(s.ctx, "room", "", 100)
	if in != 10 || full != 90 || err != nil || page.Count != 10 || len(page.Members) != 10 {
		s.Errorf("%d entered, %d refused, then %d of %d listed, %v", in, full, len(page.Members), page.Count, err)
	}
	for i, events := range s.fence("room", plain) {
		if n := len(of(events, bus.Joined)); n != 10 {
			s.Errorf("instance %d: %d joins announced", i, n)
		}
	}
}

func presentNeverFull(s *session) {
	e := entry("room", "m", kept)
	e.Max = 1
	s.enter(s.nodes[0], e)
	for _, n := range s.nodes {
		if again := s.enter(n, e); again.First || again.Count != 1 {
			s.Errorf("instance %d: entered %+v", n.index, again)
		}
	}
	e.Member = "other"
	for _, n := range s.nodes {
		if _, err := n.Enter(s.ctx, e); !errors.Is(err, bus.ErrRoomFull) {
			s.Errorf("instance %d: the second of one got %v", n.index, err)
		}
	}
}

func freedPlace(s *session) {
	one, two := entry("room", "one", kept), entry("room", "two", kept)
	one.Max, two.Max = 1, 1
	s.enter(s.nodes[0], one)
	s.leave(s.nodes[0], "room", "one", 0)
	if entered := s.enter(s.nodes[1], two); !entered.First || entered.Created || entered.Count != 1 {
		s.Errorf("entered %+v", entered)
	}
}

func createOnce(s *session) {
	in, refused := s.storm(50, bus.ErrRoomExists, func(i int) *bus.Entry {
		e := entry("room", fmt.Sprint("m", i), kept)
		e.Create = bus.MustCreate
		return e
	})
	page, err := s.nodes[1].Members(s.ctx, "room", "", 100)
	if in != 1 || refused != 49 || err != nil || page.Count != 1 {
		s.Errorf("%d created, %d refused, %d present, %v", in, refused, page.Count, err)
	}
}

func createModes(s *session) {
	try := func(n *node, room string, mode bus.CreateMode) (*bus.Entered, error) {
		e := entry(room, fmt.Sprint("m", mode, n.index), kept)
		e.Create = mode
		return n.Enter(s.ctx, e)
	}
	a, b := s.nodes[0], s.nodes[1]
	if _, err := try(a, "room", bus.MustExist); !errors.Is(err, bus.ErrRoomNotFound) {
		s.Errorf("joining what is not there: %v", err)
	}
	if entered, err := try(a, "room", bus.MustCreate); err != nil || !entered.Created || entered.Epoch == "" || entered.Seq != 0 {
		s.Errorf("creating: %+v, %v", entered, err)
	}
	if _, err := try(b, "room", bus.MustCreate); !errors.Is(err, bus.ErrRoomExists) {
		s.Errorf("creating what is there: %v", err)
	}
	if entered, err := try(b, "room", bus.MustExist); err != nil || entered.Created || !entered.First {
		s.Errorf("joining what is there: %+v, %v", entered, err)
	}
	if entered, err := try(b, "room", bus.MayCreate); err != nil || entered.Created {
		s.Errorf("entering what is there: %+v, %v", entered, err)
	}
	if entered, err := try(b, "another", bus.MayCreate); err != nil || !entered.Created {
		s.Errorf("entering what is not there: %+v, %v", entered, err)
	}
}

func createKey(s *session) {
	e := entry("room", "m", kept)
	e.Create, e.CreateKey = bus.MustCreate, "key"
	first := s.enter(s.nodes[0], e)
	again := s.enter(s.nodes[1], e)
	if !first.Created || !again.Created || !first.First || again.First || again.Position != first.Position {
		s.Errorf("created %+v, then %+v", first, again)
	}
	for _, other := range []struct{ member, key string }{{"m", "other"}, {"m", ""}, {"other", "key"}} {
		e := entry("room", other.member, kept)
		e.Create, e.CreateKey = bus.MustCreate, other.key
		if _, err := s.nodes[1].Enter(s.ctx, e); !errors.Is(err, bus.ErrRoomExists) {
			s.Errorf("created again by %q with key %q: %v", other.member, other.key, err)
		}
	}
}

func refusedEnter(s *session) {
	s.subscribeAll("room", true)
	one := entry("room", "one", kept)
	one.Max = 1
	in := s.enter(s.nodes[0], one)
	two := entry("room", "two", kept)
	two.Max = 1
	if _, err := s.nodes[1].Enter(s.ctx, two); !errors.Is(err, bus.ErrRoomFull) {
		s.Errorf("got %v", err)
	}
	two.Max, two.Create = 0, bus.MustCreate
	if _, err := s.nodes[1].Enter(s.ctx, two); !errors.Is(err, bus.ErrRoomExists) {
		s.Errorf("got %v", err)
	}
	missing := entry("missing", "two", kept)
	missing.Create = bus.MustExist
	for range 2 {
		if _, err := s.nodes[1].Enter(s.ctx, missing); !errors.Is(err, bus.ErrRoomNotFound) {
			s.Errorf("got %v", err)
		}
	}
	page, err := s.nodes[0].Members(s.ctx, "room", "", 10)
	if err != nil || page.Count != 1 || page.Version != in.Version {
		s.Errorf("members %+v, %v", page, err)
	}
	s.expectChanges("room", "two", kept)
}

// idleForgets asks for the room again and again, with pauses above idle, since
// each question that finds it makes it last a little longer.
func idleForgets(s *session) {
	for _, keep := range []bus.Retention{{Keep: 10, For: s.caps.Short}, plain} {
		room := fmt.Sprint("room-", keep.Keep)
		e := entry(room, "m", keep)
		e.Idle = s.caps.Short
		old := s.enter(s.nodes[0], e)
		s.say(s.nodes[0], room, 1, keep)
		s.leave(s.nodes[0], room, "m", 0)
		s.caps.Short *= 20 // eventually asks every tenth: twice idle
		s.eventually("the room to be forgotten", func() bool {
			e.Create = bus.MustExist
			_, err := s.nodes[1].Enter(s.ctx, e)
			if err == nil {
				s.leave(s.nodes[1], room, "m", 0)
			}
			return errors.Is(err, bus.ErrRoomNotFound)
		})
		s.caps.Short /= 20
		e.Create = bus.MustCreate
		anew := s.enter(s.nodes[1], e)
		if !anew.Created || anew.Seq != 0 || anew.OldestHistory != 0 || (keep.Kept() && anew.Epoch == old.Epoch) {
			s.Errorf("entered %+v, then %+v", old, anew)
		}
	}
}

func idleKeeps(s *session) {
	old := s.enter(s.nodes[0], entry("room", "m", kept))
	sent := s.say(s.nodes[0], "room", 3, kept)
	s.leave(s.nodes[0], "room", "m", 0)
	e := entry("room", "m", kept)
	e.Create = bus.MustExist
	e.Resume, e.ResumeMax, e.ResumeBytes = &old.Position, 100, 1<<20
	back := s.enter(s.nodes[1], e)
	if back.Created || !back.First || back.Position != sent[2].Position || !back.Recovered || len(back.Missed) != 3 || back.OldestHistory != 1 {
		s.Errorf("entered %+v", back)
	}
}
