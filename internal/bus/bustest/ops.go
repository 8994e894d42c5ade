package bustest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// op is one random operation. Its numbers are picks that are brought into range
// when it runs, so that any subset of a run is a run.
type op struct {
	kind         opKind
	node, room   int
	member       int
	pick, choice uint64
}

type opKind int

const (
	opSubscribe opKind = iota
	opUnsubscribe
	opEnter
	opLeave
	opPublish
	opHistory
	opMembers
	opRedact
	opSignal
	opSync
)

// weights says how often each kind comes.
var weights = [...]int{
	opSubscribe: 8, opUnsubscribe: 5, opEnter: 18, opLeave: 14, opPublish: 26,
	opHistory: 8, opMembers: 5, opRedact: 6, opSignal: 4, opSync: 6,
}

const randomMembers = 6

func generate(seed uint64, n, nodes, rooms int) []op {
	rng := rand.New(rand.NewPCG(seed, 1))
	var bag []opKind
	for kind, weight := range weights {
		for range weight {
			bag = append(bag, opKind(kind))
		}
	}
	ops := make([]op, n)
	for i := range ops {
		ops[i] = op{
			kind: bag[rng.IntN(len(bag))], node: rng.IntN(nodes), room: rng.IntN(rooms),
			member: rng.IntN(randomMembers), pick: rng.Uint64(), choice: rng.Uint64(),
		}
	}
	return ops
}

func (o op) name() string { return fmt.Sprint("m", o.member) }

// id makes a message id of the operation, the same in every run of it.
func (o op) id(n int) (id bus.MessageID) {
	binary.BigEndian.PutUint64(id[:8], o.choice)
	binary.BigEndian.PutUint64(id[8:], o.pick)
	id[2] = byte(n) // within what show prints
	return id
}

// messages are a burst of up to eight, some with a key out of few, so that keys
// come again, with the same message or another.
func (o op) messages(r *modelRoom) (list []*bus.Message, digests []byte) {
	rng := rand.New(rand.NewPCG(o.pick, o.choice))
	for n := range 1 + rng.IntN(8) {
		m := chat(r.name, o.name(), `"`+strings.Repeat("x", rng.IntN(60))+`"`, r.keep)
		m.Event.ID = o.id(n)
		m.Event.Time = 1_700_000_000_000 + int64(rng.IntN(1e6))
		digest := byte(0)
		if rng.IntN(3) == 0 {
			digest = byte(rng.IntN(4) / 3)
			m = keyed(m, fmt.Sprint("k", rng.IntN(10)), digest)
		} else if rng.IntN(6) == 0 {
			m.Event.Kind, m.Retention = bus.Shadow, plain
		}
		list, digests = append(list, m), append(digests, digest)
	}
	return list, digests
}

func (o op) entry(r *modelRoom) *bus.Entry {
	e := entry(r.name, o.name(), r.keep)
	switch mode := o.choice % 5; {
	case mode == 0, mode == 1 && !r.exists: // a room is created only once: mostly with a key
		e.Create = bus.MustCreate
		e.CreateKey = []string{"", "c", "c", "d"}[o.choice>>8%4]
		if r.exists && r.creator[1] != "" && o.choice>>16%2 == 0 {
			e = entry(r.name, r.creator[0], r.keep)
			e.Create, e.CreateKey = bus.MustCreate, r.creator[1]
		}
	case mode == 2:
		e.Create = bus.MustExist
	}
	e.Max, e.Announce = r.max, r.loud
	if r.keep.Kept() && o.pick%5 < 3 {
		from := bus.Position{Epoch: r.epoch}
		back := o.pick >> 8 % 14
		switch {
		case back == 13:
			from.Epoch = "another"
		case back == 12:
			from.Seq = r.seq() + 1
		case back <= r.seq():
			from.Seq = r.seq() - back
		}
		e.Resume, e.ResumeMax, e.ResumeBytes = &from, []int{3, 10, 100}[o.pick>>16%3], 1<<20
	}
	return e
}

func (o op) leaving(r *modelRoom) *bus.Leaving {
	l := &bus.Leaving{Room: r.name, Member: o.name()}
	switch o.choice % 4 {
	case 0:
		l.Grace = time.Hour // undone or left behind, never over
	case 1:
		l.Reason = "kicked"
	}
	return l
}

func (o op) query(r *modelRoom) bus.HistoryQuery {
	q := bus.HistoryQuery{Room: r.name, Limit: 1 + int(o.pick%20)}
	near := 1 + o.pick>>8%(r.seq()+3)
	switch o.choice % 3 {
	case 0:
		q.Before = near
	case 1:
		q.After = near
	}
	if o.choice>>8%2 == 0 {
		q.Bytes = 1 + int(o.pick>>16%300)
	}
	return q
}

// redaction names a message, mostly one that is there.
func (o op) redaction(r *modelRoom, exact bool) *bus.Redaction {
	q := &bus.Redaction{Room: r.name, Target: o.id(0), Seq: 1 + r.seq()/2, Reason: "rude", By: bus.Sender{Member: "mod", User: user("mod")}, Retention: r.keep}
	said := r.said
	for !exact && len(said) > 0 && said[0].seq < r.floor() {
		said = said[1:] // the bus may or may not have them
	}
	if len(said) > 0 && o.choice%6 > 0 {
		s := said[o.pick%uint64(len(said))]
		q.Target, q.Seq = s.id, s.seq
		if o.choice%6 == 1 {
			q.Seq++
		}
	}
	return q
}
