package plugins

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins/filter"
)

// lateQuery is a chat, and where late rulings on it come.
func lateQuery(body string) (*room.Query, chan *room.Ruling) {
	q := chat(body)
	late := make(chan *room.Ruling, 16)
	q.Late = func(r *room.Ruling) { late <- r }
	return q, late
}

// receive waits for one late ruling.
func receive(t *testing.T, late chan *room.Ruling) *room.Ruling {
	t.Helper()
	select {
	case r := <-late:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no late ruling")
		return nil
	}
}

func TestAnObserverChangesAndDelaysNothing(t *testing.T) {
	h := newHost(t)
	o := process(t, "words", "role-words", wordsConfig{Words: []string{"spam"}, Tag: "seen"})
	o.Mode, o.Timeout = Observe, 300*time.Millisecond
	c := commit(t, h, o, always("next", filter.Allow().Flag("b", 1)))
	start := time.Now()
	q, late := lateQuery(`"sleep"`) // not sampled: how long a filter takes is of interest all the same
	r := judge(t, c, q)
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("an observer that sleeps delayed the message by %v", took)
	}
	if r.Action != filter.ActionAllow || len(r.Steps) != 1 || r.Steps[0].Filter != "next" || len(r.Flags) != 1 {
		t.Errorf("%+v", r)
	}
	l := receive(t, late)
	if l.Action != filter.ActionAllow || len(l.Steps) != 1 || l.Steps[0].Filter != "words" || l.Steps[0].Failure != Timeout || l.Steps[0].Mode != "observe" || len(l.Flags) > 0 {
		t.Errorf("late: %+v", l)
	}
	q, _ = lateQuery(`"spam"`)
	if r := judge(t, c, q); r.Action != filter.ActionAllow {
		t.Errorf("an observer refused: %+v", r)
	}
	eventually(t, "both are counted", func() bool { return len(h.Status()[1].Results) == 2 })
	for _, res := range h.Status()[1].Results {
		if res.Mode != Observe || res.Count != 1 || res.Result != "reject" && res.Result != "timeout" {
			t.Errorf("%+v", res)
		}
	}
}

func TestAnAsyncFilterTakesBack(t *testing.T) {
	h := newHost(t)
	o := process(t, "words", "role-words", wordsConfig{Words: []string{"spam"}})
	o.Mode, o.Redact = Async, true
	c := commit(t, h, o, always("next", filter.Allow()))
	q, late := lateQuery(`"spam"`)
	if r := judge(t, c, q); r.Action != filter.ActionAllow {
		t.Errorf("%+v", r)
	}
	if l := receive(t, late); l.Action != filter.ActionReject || l.Filter != "words" || l.Code != "word" || l.Reason != "Not that word." {
		t.Errorf("%+v", l)
	}
	q, late = lateQuery(`"later"`) // a first verdict that lets it pass, and a second one
	judge(t, c, q)
	for {
		if l := receive(t, late); l.Action == filter.ActionReject {
			if l.Code != "nsfw" || l.Reason != "Taken back." || l.Filter != "words" {
				t.Errorf("%+v", l)
			}
			break
		}
	}
	eventually(t, "it is counted", func() bool { return h.Status()[1].Late == 1 })
}

// Without the action redact there is nothing an async filter can do to a message,
// early or late.
func TestTakingBackHasToBeAllowed(t *testing.T) {
	h := newHost(t)
	o := process(t, "words", "role-words", wordsConfig{Words: []string{"spam"}})
	o.Mode = Async
	c := commit(t, h, o)
	for _, body := range []string{`"spam"`, `"later"`} {
		q, late := lateQuery(body)
		judge(t, c, q)
		eventually(t, "it is refused and counted", func() bool {
			st := status1(t, h)
			return body == `"spam"` && len(st.Results) == 1 && st.Results[0].Result == Failed || st.Forbidden == 1
		})
		select {
		case l := <-late:
			if l.Action != filter.ActionAllow {
				t.Errorf("%s: %+v", body, l)
			}
		default:
		}
	}
}

// An async built-in speaks before the room has its ruling; it is told in order. Of
// a message that was refused anyway there is nothing to take back.
func TestAnEarlyAsyncVerdictWaitsForTheRuling(t *testing.T) {
	h := newHost(t)
	async := always("async", filter.Reject("x", "").Flag("f", 1))
	async.Mode, async.Redact = Async, true
	for _, last := range []filter.Verdict{filter.Allow(), filter.Drop("d")} {
		c := commit(t, h, async, always("last", last))
		q, late := lateQuery(`"x"`)
		c.Judge(q, func(r *room.Ruling) {
			if len(late) > 0 {
				t.Error("the late ruling came first")
			}
			if len(r.Flags) > 0 {
				t.Errorf("%+v", r)
			}
		})
		l := receive(t, late)
		if want := last.Action == filter.ActionAllow; (l.Action == filter.ActionReject) != want || len(l.Flags) != 1 {
			t.Errorf("after %v: %+v", last.Action, l)
		}
	}
}

func TestEnforceSplitsUsersAlwaysTheSameWay(t *testing.T) {
	h := newHost(t)
	o := always("half", filter.Reject("x", ""))
	o.Enforce = 30
	c := commit(t, h, o)
	refused := 0
	for i := range 2000 {
		ask := func() bool {
			q := chat(`"x"`)
			q.Actor = &room.Actor{Identity: &auth.Identity{ID: fmt.Sprintf("user-%d", i)}}
			return judge(t, c, q).Action == filter.ActionReject
		}
		first := ask()
		if first {
			refused++
		}
		if ask() != first {
			t.Fatalf("user-%d is treated in two ways", i)
		}
	}
	if refused < 520 || refused > 680 {
		t.Errorf("30%% of 2000 users are %d", refused)
	}
	for _, percent := range []float64{0, 100} {
		o.Enforce = percent
		if r := judge(t, commit(t, h, o), chat(`"x"`)); (r.Action == filter.ActionReject) != (percent == 100) {
			t.Errorf("enforce %v%%: %+v", percent, r)
		}
	}
}

func TestWhoIsExemptIsNotLookedAt(t *testing.T) {
	h := newHost(t)
	o := always("x", filter.Reject("x", ""))
	o.Exempt = func(in *policy.Input) bool { return in.RoomID == "lobby" }
	o2 := o
	o2.Name = "y"
	c := commit(t, h, o, o2)
	q, made := chat(`"x"`), 0
	q.Input = func() *policy.Input { made++; return &policy.Input{RoomID: q.Room} }
	if r := judge(t, c, q); r.Action != filter.ActionAllow || len(r.Steps) != 0 || made != 1 {
		t.Errorf("%+v, the input was made %d times", r, made)
	}
	if st := h.Status()[0]; st.Exempt != 1 || len(st.Results) != 0 {
		t.Errorf("%+v", st)
	}
	q.Room = "other"
	if r := judge(t, c, q); r.Action != filter.ActionReject {
		t.Errorf("%+v", r)
	}
}

func TestAFilterSeesItsEventsAlone(t *testing.T) {
	h := newHost(t)
	chats, joins := always("chats", filter.Reject("chat", "")), always("joins", filter.Reject("join", ""))
	joins.Events = []filter.Event{filter.Join}
	c := commit(t, h, chats, joins)
	if !c.Wants(filter.Chat) || !c.Wants(filter.Join) || c.Wants(filter.Signal) || c.Wants(77) {
		t.Error("Wants")
	}
	q := chat(``)
	q.Event, q.ID, q.Body = filter.Join, bus.MessageID{}, nil
	if r := judge(t, c, q); r.Code != "join" || len(r.Steps) != 1 {
		t.Errorf("%+v", r)
	}
	if r := judge(t, c, chat(`"x"`)); r.Code != "chat" {
		t.Errorf("%+v", r)
	}
	never := process(t, "words", "role-words", nil)
	never.Events = []filter.Event{filter.Signal}
	_, err := h.Prepare(t.Context(), []Options{never})
	if err == nil {
		t.Fatal("accepted")
	}
	wantIn(t, err, "filter words: events: it cannot judge signal, only chat")
}

func TestOnErrorDecidesByKind(t *testing.T) {
	h := newHost(t)
	broken := judgeFunc("broken", func(m *filter.Message) (filter.Verdict, error) {
		if m.Text() == "panic" {
			panic("ouch")
		}
		return filter.Verdict{}, errors.New("no model")
	})
	c := commit(t, h, broken, always("next", filter.Allow().Flag("f", 1)))
	for _, body := range []string{`"panic"`, `"x"`} {
		r := judge(t, c, chat(body))
		if r.Action != filter.ActionReject || !r.Unavailable || r.Filter != "broken" || r.Code != "" || len(r.Steps) != 1 || r.Steps[0].Failure != Failed {
			t.Errorf("%s: %+v", body, r)
		}
	}
	broken.OnError.Error = Pass
	if r := judge(t, commit(t, h, broken, always("next", filter.Allow().Flag("f", 1))), chat(`"x"`)); r.Action != filter.ActionAllow || len(r.Flags) != 1 || len(r.Steps) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestAFinalVerdictSkipsTheRest(t *testing.T) {
	c := commit(t, newHost(t), judgeFunc("a", func(m *filter.Message) (filter.Verdict, error) {
		return filter.Modify(filter.JSON([]byte(`1`))).Stop(), nil
	}), always("b", filter.Reject("x", "")))
	if r := judge(t, c, chat(`"x"`)); r.Action != filter.ActionModify || string(r.Body) != "1" || len(r.Steps) != 1 {
		t.Errorf("%+v", r)
	}
}

// What a filter may not do is an error of that message.
func TestAVerdictBeyondItsRightsIsNone(t *testing.T) {
	h := newHost(t)
	for name, v := range map[string]filter.Verdict{
		"an action it may not do":    filter.Drop("x"),
		"a sanction it may not use":  filter.Allow().Ban(time.Hour, ""),
		"a mute for a negative time": filter.Allow().Mute(-time.Hour, ""),
		"an action there is not":     {Action: 9},
		"a sanction there is not":    {Sanctions: []filter.Sanction{{Kind: 99}}},
		"a body that is no JSON":     filter.Modify(filter.JSON([]byte(`{`))),
		"a modification to nothing":  {Action: filter.ActionModify},
		"too large a body":           filter.Modify(filter.JSON([]byte(`"` + strings.Repeat("x", 1<<10) + `"`))),
		"one text too many":          {Action: filter.ActionModify, Texts: []string{"a", "b"}},
	} {
		o := always("x", v)
		o.Actions, o.Sanctions = []filter.Action{filter.ActionModify}, []filter.SanctionKind{filter.Mute}
		if r := judge(t, commit(t, h, o), chat(`"x"`)); !r.Unavailable || r.Steps[0].Failure != Failed || len(r.Sanctions) > 0 || r.Body != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	o := always("x", filter.Shadow("x"))
	o.Builtin.Actions = []filter.Action{filter.ActionReject} // less than the operator allows
	if r := judge(t, commit(t, h, o), chat(`"x"`)); !r.Unavailable {
		t.Errorf("an action that it said it does not have: %+v", r)
	}
	o = always("x", filter.Drop("x"))
	o.Events = []filter.Event{filter.Join}
	q := chat("")
	q.Event = filter.Join
	if r := judge(t, commit(t, h, o), q); !r.Unavailable {
		t.Errorf("drop of a join: %+v", r)
	}
}

// What is too long is cut: the decision holds.
func TestAVerdictBeyondTheBoundsIsMended(t *testing.T) {
	h := newHost(t)
	v := filter.Reject("Bad Word! "+strings.Repeat("x", 100), strings.Repeat("é", 300)+"\xff").
		Flag(strings.Repeat("l", 100), 7).Flag("nan", float32(math.NaN())).Warn(strings.Repeat("w", 600))
	for i := range 40 {
		v = v.Flag("f", 0.5).Label(fmt.Sprintf("name%d", i), strings.Repeat("v", 300)).Warn("w")
	}
	v = v.Label(strings.Repeat("n", 65), "x").Label("", "x")
	r := judge(t, commit(t, h, always("x", v)), chat(`"x"`))
	if r.Action != filter.ActionReject || r.Unavailable || len(r.Code) != maxCode || !strings.HasPrefix(r.Code, "bad_word__xxx") || len(r.Reason) != maxReason {
		t.Errorf("%+v", r)
	}
	if len(r.Flags) != maxFlags || len(r.Flags[0].Label) != maxFlagLabel || r.Flags[0].Score != 1 || r.Flags[1].Score != 0 || r.Flags[2].Score != 0.5 {
		t.Errorf("flags %+v", r.Flags)
	}
	if len(r.Sanctions) != maxSanctions || len(r.Sanctions[0].Reason) != maxReason {
		t.Errorf("%d sanctions", len(r.Sanctions))
	}
	if st := status1(t, h); st.Mended != 5 {
		t.Errorf("%d mended", st.Mended)
	}
	if len(v.Flags) != 42 || len(v.Labels) != 42 {
		t.Error("the judge's own verdict was changed")
	}
	if n := tidy(&filter.Verdict{Code: "a-z_0.9", Reason: "Schön", Flags: []filter.Flag{{Label: "x", Score: 1}}, Labels: map[string]string{"a": "b"}}); n != 0 {
		t.Errorf("a good verdict was mended in %d places", n)
	}
}

// Labels of all filters together stay within a bound, too.
func TestLabelsAddUpToABound(t *testing.T) {
	var list []Options
	for f := range 6 {
		v := filter.Allow()
		for i := range maxLabels {
			v = v.Label(fmt.Sprintf("%d-%d", f, i), "x").Label("common", fmt.Sprint(f))
		}
		list = append(list, always(fmt.Sprintf("f%d", f), v))
	}
	var got map[string]string
	list = append(list, judgeFunc("last", func(m *filter.Message) (filter.Verdict, error) { got = m.Labels; return filter.Allow(), nil }))
	judge(t, commit(t, newHost(t), list...), chat(`"x"`))
	if len(got) == 0 || len(got) > maxAllLabels {
		t.Errorf("%d labels", len(got))
	}
}

// A filter gets what it said it needs, and no more of a user.
func TestAFilterGetsWhatItNeeds(t *testing.T) {
	var got *filter.Message
	h := newHost(t)
	o := judgeFunc("x", func(m *filter.Message) (filter.Verdict, error) { got = m; return filter.Allow(), nil })
	q := chat(`{"text":"hi"}`)
	for i := range 5 {
		q.Recent = append(q.Recent, &bus.Event{ID: bus.NewMessageID(), Time: int64(i), Body: []byte(fmt.Sprint(i)), Sender: bus.Sender{Member: "bob"}})
	}
	judge(t, commit(t, h, o), q)
	if got.ID != q.ID.String() || got.Room != "lobby" || got.Endpoint != "/ws" || got.Text() != "hi" || got.User.ID != "ann" || !got.User.HasRole("staff") {
		t.Errorf("%+v", got)
	}
	if got.User.IP != "" || got.User.Claims != nil || got.Recent != nil || got.Traceparent != "" || got.DryRun || got.Budget != time.Second {
		t.Errorf("%+v", got)
	}
	o.Builtin.Version = "2" // or the one in force would be kept
	o.Builtin.Needs = filter.Needs{Claims: []string{"team", "absent"}, Recent: 2, IP: true}
	o.Mode = Observe
	c := commit(t, h, o)
	if c.Recent() != 2 {
		t.Errorf("Recent %d", c.Recent())
	}
	q.Sampled, q.TraceID = true, q.ID
	r := judge(t, c, q)
	if got.User.IP != "192.0.2.1" || len(got.User.Claims) != 1 || string(got.User.Claims["team"]) != `"x"` || !got.DryRun {
		t.Errorf("%+v", got.User)
	}
	if len(got.Recent) != 2 || string(got.Recent[1].Body) != "4" || got.Recent[1].UserID != "bob" {
		t.Errorf("%+v", got.Recent)
	}
	span := hex.EncodeToString(r.Steps[0].SpanID[:])
	if want := "00-" + q.ID.String() + "-" + span + "-01"; got.Traceparent != want || r.Steps[0].SpanID == [8]byte{} {
		t.Errorf("traceparent %s, want %s", got.Traceparent, want)
	}
}

// A built-in that a reload does not touch remembers what it has seen.
func TestAnUntouchedBuiltinIsKept(t *testing.T) {
	h := newHost(t)
	var closed atomic.Int32
	options := func(config string) Options {
		o := Options{Name: "counter", Enforce: 100, Config: []byte(config), Actions: []filter.Action{filter.ActionReject}}
		o.Builtin = &filter.Plugin{Name: "counter", Version: "1", Close: func() { closed.Add(1) }, Config: filter.Configured(wordsConfig{}, func(wordsConfig) (filter.Judge, error) {
			n := 0
			return judgeFunc("", func(*filter.Message) (filter.Verdict, error) {
				n++
				return filter.Allow().Flag(fmt.Sprint(n), 1), nil
			}).Builtin.Judge, nil
		})}
		return o
	}
	for i, want := range []string{"1", "2", "1"} {
		config := `{}`
		if i == 2 {
			config = `{"tag":"other"}`
		}
		if r := judge(t, commit(t, h, options(config)), chat(`"x"`)); r.Flags[0].Label != want {
			t.Errorf("%d: %+v", i, r.Flags)
		}
	}
	_, err := h.Prepare(t.Context(), []Options{options(`{"words":3}`)})
	if err == nil {
		t.Fatal("accepted")
	}
	wantIn(t, err, "filter counter: config/words: wants")
	if err := h.Close(t.Context()); err != nil || closed.Load() != 2 {
		t.Errorf("%v, closed %d times", err, closed.Load())
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	ok := always("x", filter.Allow())
	for name, change := range map[string]func(*Options){
		"both a built-in and a command": func(o *Options) { o.Command = []string{"x"} },
		"no name":                       func(o *Options) { o.Name = "" },
		"enforce: 101 is no percentage": func(o *Options) { o.Enforce = 101 },
		"timeout: -1s is negative":      func(o *Options) { o.Timeout = -time.Second },
		"mode 9 does not exist":         func(o *Options) { o.Mode = 9 },
		"actions: action(9) does":       func(o *Options) { o.Actions = []filter.Action{9} },
		"actions: sanction(0) does":     func(o *Options) { o.Sanctions = []filter.SanctionKind{0} },
	} {
		o := ok
		change(&o)
		err := prepareError(t, time.Second, o)
		if !strings.HasPrefix(name, "both") {
			wantIn(t, err, name)
		}
	}
	wantIn(t, prepareError(t, time.Second, ok, ok), "two filters of this name")
	if _, err := commit(t, newHost(t), ok).set.Chain([]string{"y"}, 0); err == nil {
		t.Error("a chain of a filter that there is not")
	}
}

// Try tells what every filter said, observers too, and who was not asked.
func TestTryTellsAll(t *testing.T) {
	h := newHost(t)
	seen, exempt, other := process(t, "seen", "role-words", wordsConfig{Tag: "t"}), always("exempt", filter.Allow()), always("other", filter.Allow())
	seen.Mode = Observe
	exempt.Exempt = func(*policy.Input) bool { return true }
	other.Events = []filter.Event{filter.Join}
	c := commit(t, h, seen, exempt, other, judgeFunc("mod", func(m *filter.Message) (filter.Verdict, error) {
		return filter.Modify(m.WithText("nicer")), nil
	}), judgeFunc("bad", func(*filter.Message) (filter.Verdict, error) { return filter.Verdict{}, errors.New("no model") }), always("never", filter.Allow()))
	r, list, err := c.Try(t.Context(), chat(`"x"`))
	if err != nil || !r.Unavailable || r.Filter != "bad" {
		t.Fatalf("%+v %v", r, err)
	}
	var got []string
	for _, x := range list {
		got = append(got, fmt.Sprintf("%s %v %q %v %q %v", x.Filter, x.Mode, x.Skipped, x.Verdict.Action, x.Failure, x.Err))
	}
	want := []string{`seen observe "" allow "" <nil>`, `exempt enforce "exempt" allow "" <nil>`, `other enforce "event" allow "" <nil>`, `mod enforce "" modify "" <nil>`, `bad enforce "" allow "error" no model`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if list[0].Verdict.Flags[0].Label != "t" || list[0].Took == 0 || string(list[3].Message.Body) != `"nicer"` {
		t.Errorf("%+v", list)
	}
}
