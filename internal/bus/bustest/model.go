package bustest

import (
	"fmt"
	"slices"

	"github.com/wsrelay/relay/internal/bus"
)

// model is the contract without time, faults and concurrency: what each
// operation answers and which events it causes, one operation after the other.
// It learns from the bus what the bus is free to choose (epochs, versions,
// cursors), once, and holds it to that.
type model struct {
	rooms []*modelRoom
}

type modelRoom struct {
	name string
	keep bus.Retention
	max  int
	loud bool // members are announced

	exists  bool
	creator [2]string // member and creation key
	epoch   string    // learned
	stream  []*bus.Event
	gone    map[uint64]bool // seqs that were redacted
	keys    map[[2]string]firstSent
	members map[string]*modelMember
	version uint64 // the last one seen
	moved   bool   // members changed since

	log  []*bus.Event // all that whoever subscribes is to be given, in order
	said []sent       // chats, for redactions
}

type firstSent struct {
	digest byte
	result bus.Result
}

type sent struct {
	id  bus.MessageID
	seq uint64
}

// modelMember is present on instances, or in a grace that the test never ends.
type modelMember struct {
	on    map[int]bool
	grace map[int]bool
}

func newModel() *model {
	m := &model{}
	for i, r := range []modelRoom{
		{keep: bus.Retention{Keep: 5, For: kept.For}, loud: true},
		{keep: bus.Retention{Keep: 50, For: kept.For}, loud: true, max: 3},
		{keep: kept},
		{keep: plain, loud: true, max: 2},
		{keep: plain},
	} {
		r.name = fmt.Sprint("room-", i)
		r.gone, r.keys, r.members = make(map[uint64]bool), make(map[[2]string]firstSent), make(map[string]*modelMember)
		m.rooms = append(m.rooms, &r)
	}
	return m
}

func (r *modelRoom) seq() uint64 { return uint64(len(r.stream)) }

func (r *modelRoom) position() bus.Position {
	if !r.keep.Kept() || !r.exists {
		return bus.Position{}
	}
	return bus.Position{Epoch: r.epoch, Seq: r.seq()}
}

// floor is the lowest seq that Keep covers.
func (r *modelRoom) floor() uint64 {
	if over := int(r.seq()) - r.keep.Keep; over > 0 {
		return uint64(over) + 1
	}
	return 1
}

// held lists the events from seq on that are not redacted.
func (r *modelRoom) held(from uint64) []*bus.Event {
	var list []*bus.Event
	for seq := max(from, 1); seq <= r.seq(); seq++ {
		if !r.gone[seq] {
			list = append(list, r.stream[seq-1])
		}
	}
	return list
}

// enter answers all but versions and what is read from the stream.
func (r *modelRoom) enter(on int, e *bus.Entry) (*bus.Entered, error) {
	m := r.members[e.Member]
	own := [2]string{e.Member, e.CreateKey}
	repeat := e.CreateKey != "" && r.creator == own && e.Create == bus.MustCreate
	switch {
	case e.Create == bus.MustCreate && r.exists && !repeat:
		return nil, bus.ErrRoomExists
	case e.Create == bus.MustExist && !r.exists:
		return nil, bus.ErrRoomNotFound
	case m == nil && e.Max > 0 && len(r.members) >= e.Max:
		return nil, bus.ErrRoomFull
	}
	want := &bus.Entered{Created: !r.exists || repeat, First: m == nil}
	if !r.exists && e.Create == bus.MustCreate {
		r.creator = own
	}
	r.exists = true
	if m == nil {
		m = &modelMember{}
		r.members[e.Member] = m
		r.change(bus.Joined, e.Member, "")
	}
	if m.on == nil {
		m.on = make(map[int]bool)
	}
	m.on[on], m.grace = true, nil
	want.Position, want.Count = r.position(), len(r.members)
	for member := range r.members {
		want.Members = append(want.Members, user(member))
	}
	return want, nil
}

// leave ends a presence or begins its grace.
func (r *modelRoom) leave(on int, member string, grace bool, reason string) {
	m := r.members[member]
	if m == nil || !(m.on[on] || m.grace[on]) {
		return
	}
	delete(m.on, on)
	if grace {
		if m.grace == nil {
			m.grace = make(map[int]bool)
		}
		m.grace[on] = true
		return
	}
	delete(m.grace, on)
	if len(m.on)+len(m.grace) == 0 {
		delete(r.members, member)
		r.change(bus.Left, member, reason)
	}
}

// change logs a coming or going; its version is learned.
func (r *modelRoom) change(kind bus.Kind, member, reason string) {
	r.moved = true
	if r.loud {
		r.log = append(r.log, &bus.Event{
			Kind: kind, Room: r.name, Sender: bus.Sender{Member: member, User: user(member)},
			Count: len(r.members), Reason: reason,
		})
	}
}

// sawVersion holds the member list's version to what it must be: as before
// where nothing changed, higher where something did.
func (r *modelRoom) sawVersion(v uint64) error {
	if (r.moved && v <= r.version) || (!r.moved && v != r.version) {
		return fmt.Errorf("version %d after %d, members changed: %v", v, r.version, r.moved)
	}
	r.version, r.moved = v, false
	return nil
}

func (r *modelRoom) publish(m *bus.Message, digest byte) bus.Result {
	id := [2]string{m.Event.Sender.Member, m.Key}
	if first, known := r.keys[id]; known && m.Key != "" && r.keep.Kept() {
		if first.digest != digest {
			return bus.Result{Err: bus.ErrKeyReused}
		}
		again := first.result
		again.Duplicate = true
		return again
	}
	e := clone(&m.Event)
	e.Key = m.Key
	result := bus.Result{ID: e.ID, Time: e.Time}
	if r.keep.Kept() && e.Kind == bus.Chat {
		r.store(&e)
		result.Position = e.Position
		r.said = append(r.said, sent{e.ID, e.Seq})
		if m.Key != "" {
			r.keys[id] = firstSent{digest, result}
		}
	}
	r.log = append(r.log, &e)
	return result
}

func (r *modelRoom) store(e *bus.Event) {
	e.Position = bus.Position{Epoch: r.epoch, Seq: r.seq() + 1}
	r.stream = append(r.stream, e)
}

// redact answers for a message that Keep covers or that never was.
func (r *modelRoom) redact(q *bus.Redaction) (bus.Position, error) {
	i := slices.Index(r.said, sent{q.Target, q.Seq})
	if i < 0 || r.gone[q.Seq] || q.Seq < r.floor() {
		return bus.Position{}, bus.ErrNotFound
	}
	r.gone[q.Seq] = true
	e := &bus.Event{
		Kind: bus.Redacted, Room: r.name, Sender: q.By, Reason: q.Reason, Target: q.Target, TargetSeq: q.Seq,
	}
	r.store(e)
	r.log = append(r.log, e)
	return e.Position, nil
}

// history answers from what is held when floor is the lowest seq.
func (r *modelRoom) history(q bus.HistoryQuery, floor uint64) []*bus.Event {
	chats := of(r.held(floor), bus.Chat)
	chats = slices.DeleteFunc(chats, func(e *bus.Event) bool {
		return q.Before != 0 && e.Seq >= q.Before || q.After != 0 && e.Seq <= q.After
	})
	if q.After == 0 {
		slices.Reverse(chats)
	}
	n, bytes := 0, 0
	for ; n < len(chats) && n < q.Limit; n++ {
		if bytes += len(chats[n].Body); q.Bytes > 0 && bytes > q.Bytes && n > 0 {
			break
		}
	}
	chats = chats[:n]
	if q.After == 0 {
		slices.Reverse(chats)
	}
	return chats
}

// resume answers whether everything after from can be read back, and all of it,
// when floor is the lowest seq held.
func (r *modelRoom) resume(e *bus.Entry, floor uint64) ([]*bus.Event, bool) {
	from := e.Resume
	if from.Epoch != r.epoch || from.Seq > r.seq() || from.Seq+1 < floor {
		return nil, false
	}
	missed := r.held(from.Seq + 1)
	bytes := 0
	for _, m := range missed {
		bytes += len(m.Body)
	}
	if len(missed) > e.ResumeMax || bytes > e.ResumeBytes {
		return nil, false
	}
	return missed, true
}
