package bustest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/wsrelay/relay/internal/bus"
)

// run is a random run under way: instances, model, and what is owed to each.
type run struct {
	*session
	model     *model
	receivers [][]*receiver // by node and room
	signals   map[bus.MessageID]*bus.Event
	trace     []string
}

func newRun(s *session) *run {
	r := &run{session: s, model: newModel(), signals: make(map[bus.MessageID]*bus.Event)}
	for _, n := range s.nodes {
		var row []*receiver
		for _, room := range r.model.rooms {
			row = append(row, &receiver{node: n, room: room, signals: r.signals, signalled: make(map[bus.MessageID]bool)})
		}
		r.receivers = append(r.receivers, row)
	}
	return r
}

// note adds a line to the trace: what is done now.
func (r *run) note(o op, format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf("  %3d  instance %d, %s: %s", len(r.trace)+1, o.node, r.model.rooms[o.room].name, fmt.Sprintf(format, args...)))
}

// do runs one operation on both sides and compares.
func (r *run) do(o op) error {
	n, room := r.nodes[o.node], r.model.rooms[o.room]
	defer func() {
		for _, row := range r.receivers {
			row[o.room].owe()
		}
	}()
	switch o.kind {
	case opSubscribe:
		return r.subscribe(o, n, room)
	case opUnsubscribe:
		if rc := r.receivers[o.node][o.room]; rc.subscribed > 0 {
			r.note(o, "unsubscribe")
			rc.subscribed--
			n.Unsubscribe(room.name)
		}
		return nil
	case opEnter:
		return r.enter(o, n, room)
	case opLeave:
		l := o.leaving(room)
		r.note(o, "leave as %s, grace %v, reason %q", l.Member, l.Grace, l.Reason)
		room.leave(o.node, l.Member, l.Grace > 0, l.Reason)
		return n.Leave(r.ctx, l)
	case opPublish:
		if !room.exists {
			return nil
		}
		return r.publish(o, n, room)
	case opHistory:
		if !room.exists {
			return nil
		}
		return r.history(o, n, room)
	case opMembers:
		return r.members(o, n, room)
	case opRedact:
		if !room.exists || !room.keep.Kept() {
			return nil
		}
		return r.redact(o, n, room)
	case opSignal:
		e := signal(room.name, o.name(), `"typing"`)
		e.ID = o.id(0)
		r.note(o, "signal as %s", o.name())
		was := clone(e)
		r.signals[e.ID] = &was
		return n.Signal(e)
	case opSync:
		return r.sync()
	}
	panic("unknown operation")
}

// sync waits until everything owed was delivered.
func (r *run) sync() error {
	for _, row := range r.receivers {
		for _, rc := range row {
			if err := rc.sync(r.caps.Timeout); err != nil {
				return fmt.Errorf("instance %d, %s: %w", rc.node.index, rc.room.name, err)
			}
		}
	}
	return nil
}

// finish ends every room with a message, so that a delivery too many is seen.
func (r *run) finish() error {
	for i, room := range r.model.rooms {
		if !room.exists {
			continue
		}
		o := op{kind: opPublish, room: i, member: randomMembers, pick: uint64(i), choice: 1 << 40}
		if err := r.do(o); err != nil {
			return fmt.Errorf("last message: %w", err)
		}
	}
	return r.sync()
}

func (r *run) subscribe(o op, n *node, room *modelRoom) error {
	r.note(o, "subscribe")
	at, err := n.Subscribe(r.ctx, room.name, room.keep.Kept())
	if err != nil {
		return err
	}
	r.receivers[o.node][o.room].subscribed++
	if want := room.position(); at != want && !(want.Epoch == "" && at.Seq == 0) {
		return fmt.Errorf("subscribed at %+v, want %+v", at, want)
	}
	return nil
}

func (r *run) enter(o op, n *node, room *modelRoom) error {
	e := o.entry(room)
	resume := ""
	if e.Resume != nil {
		resume = fmt.Sprintf(", resuming at most %d after %d of %.6s", e.ResumeMax, e.Resume.Seq, e.Resume.Epoch)
	}
	r.note(o, "enter as %s, mode %d, creation key %q, max %d%s", e.Member, e.Create, e.CreateKey, e.Max, resume)
	want, wantErr := room.enter(o.node, e)
	got, err := n.Enter(r.ctx, e)
	if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
		return fmt.Errorf("got error %v, want %v", err, wantErr)
	}
	if err != nil {
		return nil
	}
	if room.epoch == "" && room.keep.Kept() {
		if room.epoch = got.Epoch; got.Epoch == "" {
			return errors.New("entered a room with history and got no epoch")
		}
		want.Epoch = got.Epoch
	}
	if got.Created != want.Created || got.First != want.First || got.Position != want.Position || got.Count != want.Count || got.ForkedAt != 0 {
		return fmt.Errorf("entered %+v, want %+v", got, want)
	}
	if a, b := sorted(got.Members), sorted(want.Members); !slices.Equal(a, b) {
		return fmt.Errorf("members are %v, want %v", a, b)
	}
	if want.First && room.loud {
		room.log[len(room.log)-1].Version = got.Version
	}
	if err := room.sawVersion(got.Version); err != nil {
		return err
	}
	return r.resumed(e, room, got)
}

// resumed compares what Enter read from the stream.
func (r *run) resumed(e *bus.Entry, room *modelRoom, got *bus.Entered) error {
	floor := room.floor()
	if !r.caps.ExactKeep && got.OldestHistory != 0 {
		floor = min(floor, got.OldestHistory)
	}
	var oldest uint64
	if held := room.held(floor); len(held) > 0 {
		oldest = held[0].Seq
	}
	if got.OldestHistory != oldest {
		return fmt.Errorf("the oldest in history is %d, want %d", got.OldestHistory, oldest)
	}
	if e.Resume == nil {
		if got.Recovered || got.Missed != nil {
			return errors.New("recovered what was not asked for")
		}
		return nil
	}
	if !r.caps.ExactKeep && got.Recovered { // the oldest does not tell whether what was redacted before it is still known
		for room.gone[floor-1] {
			floor--
		}
	}
	missed, recovered := room.resume(e, floor)
	if got.Recovered != recovered {
		return fmt.Errorf("recovered is %v, want %v", got.Recovered, recovered)
	}
	return matchAll(missed, got.Missed)
}

func (r *run) publish(o op, n *node, room *modelRoom) error {
	list, digests := o.messages(room)
	var sent []*receipt
	for i, m := range list {
		r.note(o, "publish %s, key %q %d", show(&m.Event), m.Key, digests[i])
		rc, err := n.send(m)
		if err != nil {
			return err
		}
		sent = append(sent, rc)
	}
	for i, m := range list {
		want := room.publish(m, digests[i])
		got, err := sent[i].wait(r.caps.Timeout)
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, len(list), err)
		}
		if want.Err != nil {
			if !errors.Is(got.Err, want.Err) {
				return fmt.Errorf("message %d of %d: receipt %+v, want error %v", i+1, len(list), got, want.Err)
			}
			continue
		}
		if got != want {
			return fmt.Errorf("message %d of %d: receipt %+v, want %+v", i+1, len(list), got, want)
		}
	}
	return nil
}

func (r *run) history(o op, n *node, room *modelRoom) error {
	q := o.query(room)
	r.note(o, "history before %d, after %d, limit %d, bytes %d", q.Before, q.After, q.Limit, q.Bytes)
	got, err := n.History(r.ctx, q)
	if !room.keep.Kept() {
		if !errors.Is(err, bus.ErrNoHistory) {
			return fmt.Errorf("history of a plain room: %+v, %w", got, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if got.Position != room.position() {
		return fmt.Errorf("history at %+v, want %+v", got.Position, room.position())
	}
	floor := room.floor()
	if !r.caps.ExactKeep && len(got.Events) > 0 {
		floor = min(floor, got.Events[0].Seq)
	}
	return matchAll(room.history(q, floor), got.Events)
}

func (r *run) members(o op, n *node, room *modelRoom) error {
	limit := 1 + int(o.pick%4)
	r.note(o, "members by %d", limit)
	var got [][]byte
	for cursor, pages := "", 0; ; pages++ {
		page, err := n.Members(r.ctx, room.name, cursor, limit)
		if err != nil {
			return err
		}
		if page.Count != len(room.members) || len(page.Members) > limit || pages > 2*randomMembers {
			return fmt.Errorf("page %d: %d members, count %d, want count %d", pages, len(page.Members), page.Count, len(room.members))
		}
		if room.exists {
			if err := room.sawVersion(page.Version); err != nil {
				return err
			}
		}
		got = append(got, page.Members...)
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	var want [][]byte
	for member := range room.members {
		want = append(want, user(member))
	}
	if a, b := sorted(got), sorted(want); !slices.Equal(a, b) {
		return fmt.Errorf("members are %v, want %v", a, b)
	}
	return nil
}

func (r *run) redact(o op, n *node, room *modelRoom) error {
	q := o.redaction(room, r.caps.ExactKeep)
	r.note(o, "redact %.6s at %d", q.Target, q.Seq)
	want, wantErr := room.redact(q)
	got, err := n.Redact(r.ctx, q)
	if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) || got != want {
		return fmt.Errorf("redacted at %+v, %v, want %+v, %w", got, err, want, wantErr)
	}
	return nil
}
