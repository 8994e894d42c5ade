package filter

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect serves p and returns a client of it.
func connect(t *testing.T, p Plugin) pb.FilterClient {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	s := newServer(p, slog.New(slog.DiscardHandler))
	pb.RegisterFilterServer(g, s)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); g.Stop(); <-served; s.close() })
	return pb.NewFilterClient(conn)
}

func configured(t *testing.T, p Plugin) pb.FilterClient {
	t.Helper()
	c := connect(t, p)
	res, err := c.Configure(t.Context(), &pb.ConfigureRequest{})
	if err != nil || len(res.GetProblems()) > 0 {
		t.Fatalf("%v %v", err, res)
	}
	return c
}

func session(t *testing.T, c pb.FilterClient) pb.Filter_SessionClient {
	t.Helper()
	st, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func sendBatch(t *testing.T, st pb.Filter_SessionClient, texts ...string) {
	t.Helper()
	b := &pb.Batch{}
	for i, s := range texts {
		b.Messages = append(b.Messages, &pb.Message{Call: uint64(i + 1), Id: s, Texts: []*pb.Text{{Text: s}}, BudgetUs: 60e6})
	}
	if err := st.Send(&pb.HostFrame{Frame: &pb.HostFrame_Batch{Batch: b}}); err != nil {
		t.Fatal(err)
	}
}

// collect reads n verdicts, by call.
func collect(t *testing.T, st pb.Filter_SessionClient, n int) map[uint64]*pb.Verdict {
	t.Helper()
	got := map[uint64]*pb.Verdict{}
	for len(got) < n {
		f, err := st.Recv()
		if err != nil {
			t.Fatalf("after %d of %d verdicts: %v", len(got), n, err)
		}
		for _, v := range f.GetVerdicts().GetVerdicts() {
			if got[v.GetCall()] != nil {
				t.Fatalf("call %d answered twice", v.GetCall())
			}
			got[v.GetCall()] = v
		}
	}
	return got
}

func TestAPanicCostsOneMessage(t *testing.T) {
	st := session(t, configured(t, Plugin{Judge: func(_ context.Context, m *Message) (Verdict, error) {
		switch m.Text() {
		case "panic":
			panic("ouch")
		case "error":
			return Verdict{}, errors.New("no model")
		}
		return Reject("c", m.Text()), nil
	}}))
	sendBatch(t, st, "a", "panic", "error", "b")
	got := collect(t, st, 4)
	if got[1].GetReason() != "a" || got[4].GetReason() != "b" || got[1].GetError() != "" {
		t.Errorf("the others: %v", got)
	}
	if got[2].GetError() != "panic: ouch" || got[3].GetError() != "no model" {
		t.Errorf("%v", got)
	}
}

// One judge that does not return must hold up neither its batch nor later ones
// nor pings.
func TestASlowMessageHoldsUpNoOther(t *testing.T) {
	release := make(chan struct{})
	st := session(t, configured(t, Plugin{Judge: func(_ context.Context, m *Message) (Verdict, error) {
		if m.Text() == "slow" {
			<-release
		}
		return Allow(), nil
	}}))
	sendBatch(t, st, "a", "slow", "b", "slow", "c")
	got := collect(t, st, 3)
	if got[2] != nil || got[4] != nil {
		t.Errorf("slow ones answered: %v", got)
	}
	if err := st.Send(&pb.HostFrame{Frame: &pb.HostFrame_Ping{Ping: &pb.Ping{N: 7}}}); err != nil {
		t.Fatal(err)
	}
	if f, err := st.Recv(); err != nil || f.GetPong().GetN() != 7 {
		t.Fatalf("%v %v", f, err)
	}
	close(release)
	collect(t, st, 2)
}

func TestDrainAnswersWhatIsInFlight(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	st := session(t, configured(t, Plugin{Judge: func(context.Context, *Message) (Verdict, error) {
		entered <- struct{}{}
		<-release
		return Drop("x"), nil
	}}))
	sendBatch(t, st, "a", "b")
	<-entered
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	close(release)
	collect(t, st, 2)
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the session ended with %v", err)
	}
}

func TestTheBudgetEndsTheContext(t *testing.T) {
	st := session(t, configured(t, Plugin{Judge: func(ctx context.Context, _ *Message) (Verdict, error) {
		if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil {
			return Verdict{}, errors.New("no deadline")
		}
		<-ctx.Done()
		return Verdict{}, ctx.Err()
	}}))
	b := &pb.Batch{Messages: []*pb.Message{{Call: 1, BudgetUs: 1000}}}
	if err := st.Send(&pb.HostFrame{Frame: &pb.HostFrame_Batch{Batch: b}}); err != nil {
		t.Fatal(err)
	}
	if v := collect(t, st, 1)[1]; v.GetError() != context.DeadlineExceeded.Error() || v.GetElapsedUs() < 900 {
		t.Errorf("%v", v)
	}
}

func TestALaterVerdictTravels(t *testing.T) {
	keep := make(chan *Message, 1)
	st := session(t, configured(t, Plugin{Judge: func(_ context.Context, m *Message) (Verdict, error) {
		keep <- m
		return Allow(), nil
	}}))
	sendBatch(t, st, "id")
	collect(t, st, 1)
	m := <-keep
	if err := m.Later(Reject("nsfw", "no").Ban(time.Hour, "x")); err != nil {
		t.Fatal(err)
	}
	f, err := st.Recv()
	if err != nil || !f.GetLate().GetRedact() || f.GetLate().GetId() != "id" || len(f.GetLate().GetSanctions()) != 1 {
		t.Fatalf("%v %v", f, err)
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := m.Later(Reject("x", "")); !errors.Is(err, errSessionOver) {
		t.Errorf("after the session: %v", err)
	}
}

func TestCheckBatchAnswersAll(t *testing.T) {
	c := configured(t, Plugin{Judge: func(_ context.Context, m *Message) (Verdict, error) { return Reject("", m.Text()), nil }})
	b := &pb.Batch{}
	for i := range uint64(64) {
		b.Messages = append(b.Messages, &pb.Message{Call: i, Texts: []*pb.Text{{Text: string(rune('a' + i))}}, BudgetUs: 60e6})
	}
	res, err := c.CheckBatch(t.Context(), b)
	if err != nil || len(res.GetVerdicts()) != 64 {
		t.Fatalf("%v %v", err, res)
	}
	for _, v := range res.GetVerdicts() {
		if v.GetReason() != string(rune('a'+v.GetCall())) {
			t.Errorf("%v", v)
		}
	}
	if res, err := c.CheckBatch(t.Context(), &pb.Batch{}); err != nil || len(res.GetVerdicts()) != 0 {
		t.Errorf("empty: %v %v", res, err)
	}
}

type testConfig struct {
	Words []string `json:"words" jsonschema:"description=What is not to be said"`
	Mask  string   `json:"mask" jsonschema:"description=What stands in its place"`
}

func testPlugin() Plugin {
	return Plugin{Name: "t", Config: Configured(testConfig{Mask: "*"}, func(c testConfig) (Judge, error) {
		if len(c.Mask) != 1 {
			return nil, errors.Join(At("/mask", "one character"), errors.New("and another thing"))
		}
		return func(context.Context, *Message) (Verdict, error) {
			return Drop(c.Mask + strings.Join(c.Words, ",")), nil
		}, nil
	})}
}

func TestAConfigurationIsCheckedAndReplaced(t *testing.T) {
	c := connect(t, testPlugin())
	st := session(t, c)
	code := func() string {
		sendBatch(t, st, "x")
		v := collect(t, st, 1)[1]
		return v.GetCode() + v.GetError()
	}
	if got := code(); got != errNotConfigured.Error() {
		t.Errorf("before a configuration: %q", got)
	}
	for _, s := range []struct {
		json     string
		validate bool
		problems string
		code     string
	}{
		{``, false, ``, `*`},
		{`{"words":["a","b"]}`, false, ``, `*a,b`},
		{`{"mask":"#"}`, true, ``, `*a,b`},
		{`{"mask":"##"}`, false, `/mask: one character; and another thing`, `*a,b`},
		{`{"mas":"#"}`, false, `/mas: unknown key`, `*a,b`},
		{`{"words":"a"}`, false, `/words: wants []string, got string`, `*a,b`},
		{`{"mask":"#"} 1`, false, `more than one JSON value`, `*a,b`},
		{`{"mask":"#"}`, false, ``, `#`},
	} {
		res, err := c.Configure(t.Context(), &pb.ConfigureRequest{ConfigJson: s.json, ValidateOnly: s.validate})
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, p := range res.GetProblems() {
			list = append(list, Problem{Path: p.GetPath(), Message: p.GetMessage()}.Error())
		}
		if got := strings.Join(list, "; "); got != s.problems {
			t.Errorf("%s: problems %q, want %q", s.json, got, s.problems)
		}
		if got := code(); got != s.code {
			t.Errorf("after %s: %q, want %q", s.json, got, s.code)
		}
	}
}

func TestDescribe(t *testing.T) {
	res, err := connect(t, testPlugin()).Describe(t.Context(), &pb.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	d := DescriptionFromProto(res)
	if d.Name != "t" || d.Version == "" || len(d.Actions) != 4 || len(d.Events) != 1 || d.MaxBatch != 64 || d.MaxInFlight != 1024 {
		t.Errorf("%+v", d)
	}
	for _, want := range []string{`"additionalProperties":false`, `"description":"What is not to be said"`, `"default":"*"`} {
		if !strings.Contains(string(d.Schema), want) {
			t.Errorf("the schema lacks %s: %s", want, d.Schema)
		}
	}
	if _, err := connect(t, Plugin{}).Describe(t.Context(), &pb.DescribeRequest{}); err == nil {
		t.Error("a plugin without a judge described itself")
	}
}
