package bustest

import (
	"context"

	"github.com/wsrelay/relay/internal/bus"
)

// teller tells of sanctions something other than what came.
type teller struct {
	bus.Handler
	told func(s *bus.Sanction, lifted bool, to bus.Handler)
}

func (t teller) Sanctioned(s *bus.Sanction) { t.told(s, false, t.Handler) }
func (t teller) Lifted(s *bus.Sanction)     { t.told(s, true, t.Handler) }

// judiciary changes what a bus says of sanctions. Nil: nothing.
type judiciary struct {
	bus.Bus
	given   func(*bus.Sanction)
	got     func(*bus.Sanction)
	inForce func(b bus.Bus, member, ip, room string) []*bus.Sanction
	lift    func(b bus.Bus, ctx context.Context, id string) (*bus.Sanction, error)
	page    func(*bus.SanctionPage)
}

func (j judiciary) Sanction(ctx context.Context, s *bus.Sanction) (*bus.Sanction, error) {
	c := *s
	if j.given != nil {
		j.given(&c)
	}
	got, err := j.Bus.Sanction(ctx, &c)
	if err == nil && j.got != nil {
		c := *got
		j.got(&c)
		got = &c
	}
	return got, err
}

func (j judiciary) InForce(member, ip, room string) []*bus.Sanction {
	if j.inForce != nil {
		return j.inForce(j.Bus, member, ip, room)
	}
	return j.Bus.InForce(member, ip, room)
}

func (j judiciary) Lift(ctx context.Context, id string) (*bus.Sanction, error) {
	if j.lift != nil {
		return j.lift(j.Bus, ctx, id)
	}
	return j.Bus.Lift(ctx, id)
}

func (j judiciary) Sanctions(ctx context.Context, cursor string, limit int) (bus.SanctionPage, error) {
	page, err := j.Bus.Sanctions(ctx, cursor, limit)
	if err == nil && j.page != nil {
		j.page(&page)
	}
	return page, err
}

func wrongly(j judiciary) func(bus.Bus) bus.Bus {
	return func(b bus.Bus) bus.Bus { j.Bus = b; return j }
}

func asking(f func(b bus.Bus, member, ip, room string) []*bus.Sanction) func(bus.Bus) bus.Bus {
	return wrongly(judiciary{inForce: f})
}

func sanctionMutants() []mutant {
	telling := func(name string, f func(s *bus.Sanction, lifted bool, to bus.Handler)) mutant {
		return mutant{name: name, told: f}
	}
	plainly := func(s *bus.Sanction, lifted bool, to bus.Handler) {
		if lifted {
			to.Lifted(s)
		} else {
			to.Sanctioned(s)
		}
	}
	return []mutant{
		telling("tells of no sanctions", func(*bus.Sanction, bool, bus.Handler) {}),
		telling("tells twice", func(s *bus.Sanction, lifted bool, to bus.Handler) { plainly(s, lifted, to); plainly(s, lifted, to) }),
		telling("tells of no lifting", func(s *bus.Sanction, lifted bool, to bus.Handler) {
			if !lifted {
				to.Sanctioned(s)
			}
		}),
		telling("tells of no kicks", func(s *bus.Sanction, lifted bool, to bus.Handler) {
			if s.Kind != bus.Kick {
				plainly(s, lifted, to)
			}
		}),
		{name: "nothing is in force", wrap: asking(func(bus.Bus, string, string, string) []*bus.Sanction { return nil })},
		{name: "forgets addresses", wrap: asking(func(b bus.Bus, member, _, room string) []*bus.Sanction { return b.InForce(member, "", room) })},
		{name: "everywhere in one room alone", wrap: asking(func(b bus.Bus, member, ip, room string) (list []*bus.Sanction) {
			for _, s := range b.InForce(member, ip, room) {
				if s.Room == room {
					list = append(list, s)
				}
			}
			return list
		})},
		{name: "one at most", wrap: asking(func(b bus.Bus, member, ip, room string) []*bus.Sanction {
			list := b.InForce(member, ip, room)
			return list[:min(1, len(list))]
		})},
		{name: "binds everywhere", wrap: wrongly(judiciary{given: func(s *bus.Sanction) { s.Room = "" }})},
		{name: "never ends", wrap: wrongly(judiciary{given: func(s *bus.Sanction) { s.Until = 0 }})},
		{name: "stores what is over", wrap: wrongly(judiciary{given: func(s *bus.Sanction) {
			if s.Kind == bus.Kick {
				s.Kind = bus.Ban
			}
		}})},
		{name: "an id of its own", wrap: wrongly(judiciary{given: func(s *bus.Sanction) { s.ID = "" }})},
		{name: "another id in the answer", wrap: wrongly(judiciary{got: func(s *bus.Sanction) { s.ID += "x" }})},
		{name: "loses the reason of a sanction", wrap: wrongly(judiciary{given: func(s *bus.Sanction) { s.Reason = "" }})},
		{name: "does not lift", wrap: wrongly(judiciary{lift: func(_ bus.Bus, _ context.Context, id string) (*bus.Sanction, error) {
			return &bus.Sanction{ID: id}, nil
		}})},
		{name: "lifts what is not there", wrap: wrongly(judiciary{lift: func(b bus.Bus, ctx context.Context, id string) (*bus.Sanction, error) {
			s, err := b.Lift(ctx, id)
			if err != nil {
				return &bus.Sanction{ID: id}, nil
			}
			return s, nil
		}})},
		{name: "lists one sanction less", wrap: wrongly(judiciary{page: func(p *bus.SanctionPage) { p.Sanctions = p.Sanctions[min(1, len(p.Sanctions)):] }})},
		{name: "lists one page", wrap: wrongly(judiciary{page: func(p *bus.SanctionPage) { p.Cursor = "" }})},
		{name: "counts a page", wrap: wrongly(judiciary{page: func(p *bus.SanctionPage) { p.Count = len(p.Sanctions) }})},
		{name: "stores shadows", wrap: messageMutant(func(m *bus.Message) {
			if m.Event.Kind == bus.Shadow {
				m.Event.Kind, m.Retention = bus.Chat, kept
			}
		})},
		{name: "shadows as chats", deliver: altering(kind(bus.Shadow), func(e *bus.Event) { e.Kind = bus.Chat })},
		{name: "no shadows", deliver: func(_ int, e *bus.Event, to bus.Handler) {
			if e.Kind != bus.Shadow {
				to.Deliver(e)
			}
		}},
	}
}
