package plugins

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/wsrelay/relay/plugins/filter"
	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// rawServer is a plugin in some other language, which knows CheckBatch alone.
type rawServer struct{ pb.UnimplementedFilterServer }

func (rawServer) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return &pb.DescribeResponse{Name: "raw", Version: "0", Actions: []pb.Action{pb.Action_ACTION_REJECT}}, nil
}

func (rawServer) Configure(context.Context, *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	return &pb.ConfigureResponse{}, nil
}

func (rawServer) CheckBatch(_ context.Context, b *pb.Batch) (*pb.VerdictBatch, error) {
	res := &pb.VerdictBatch{}
	for _, m := range b.GetMessages() {
		v := &pb.Verdict{Call: m.GetCall()}
		switch text := m.GetTexts()[0].GetText(); {
		case text == "forget":
			continue
		case text == "die":
			os.Exit(1)
		case strings.Contains(text, "spam"):
			v.Action, v.Code = pb.Action_ACTION_REJECT, "Spam! "+strings.Repeat("x", 100)
		}
		res.Verdicts = append(res.Verdicts, v)
	}
	return res, nil
}

// garbage is a plugin that answers what nobody asked.
type garbage struct{ rawServer }

func (garbage) Session(s pb.Filter_SessionServer) error {
	for {
		f, err := s.Recv()
		if err != nil {
			return nil //nolint:nilerr // the end
		}
		var answers []*pb.Verdict
		for _, m := range f.GetBatch().GetMessages() {
			n := m.GetCall()
			answers = append(answers, &pb.Verdict{Call: n + 1}, &pb.Verdict{Call: 0}, &pb.Verdict{Call: 1 << 63}, &pb.Verdict{Call: n ^ 1},
				&pb.Verdict{Call: n, Action: 99}, &pb.Verdict{Call: n, Action: pb.Action_ACTION_ALLOW})
		}
		for _, out := range []*pb.FilterFrame{
			{},
			{Frame: &pb.FilterFrame_Pong{Pong: &pb.Pong{N: 12345}}},
			{Frame: &pb.FilterFrame_Late{Late: &pb.Late{Id: "not an id", Redact: true}}},
			{Frame: &pb.FilterFrame_Verdicts{Verdicts: &pb.VerdictBatch{Verdicts: answers}}},
		}[pick(len(answers) == 0):] {
			if err := s.Send(out); err != nil {
				return err
			}
		}
	}
}

// pick leaves out the frame without anything while a first ping is to be answered.
func pick(ping bool) int {
	if ping {
		return 1
	}
	return 0
}

type rawPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	srv pb.FilterServer
}

func (r rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterFilterServer(s, r.srv)
	return nil
}

func (r rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func serveRaw(srv pb.FilterServer) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: filter.Handshake(), Plugins: plugin.PluginSet{filter.DispenseName: rawPlugin{srv: srv}},
		GRPCServer: plugin.DefaultGRPCServer,
	})
}

func TestAPluginThatReturnsGarbageJudgesNothing(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "garbage", "role-garbage", nil), always("after", filter.Allow()))
	for range 10 {
		r := judge(t, c, chat(`"x"`))
		if !r.Unavailable || r.Steps[0].Failure != Failed {
			t.Errorf("%+v", r)
		}
	}
	if st := h.Status()[1]; st.Unknown != 50 || st.TooLate < 10 || st.Generation != 1 {
		t.Errorf("%+v", st)
	}
}

// noGRPC listens where it should and speaks nothing that anybody knows.
func noGRPC() {
	path := filepath.Join(os.Getenv(filter.SocketDirKey), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	fmt.Printf("1|1|unix|%s|grpc\n", path)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("HTTP/1.1 418 I'm a teapot\r\n\r\n"))
		_ = c.Close()
	}
}

func TestAProgramThatSpeaksSomethingElseIsRefused(t *testing.T) {
	for _, mtls := range []bool{false, true} {
		h := newHost(t)
		h.times.start, h.times.configure = 2*time.Second, 2*time.Second
		o := process(t, "teapot", "role-no-grpc", nil)
		o.MTLS = mtls
		set, err := h.Prepare(t.Context(), []Options{o})
		if err == nil {
			set.Discard()
			t.Fatal("accepted")
		}
		wantIn(t, err, "filter teapot: ")
	}
}

// A plugin without Session is asked one batch at a time.
func TestAPluginThatKnowsOnlyCheckBatch(t *testing.T) {
	h := newHost(t)
	o := process(t, "unary", "role-unary", nil)
	o.MTLS = false
	c := commit(t, h, o)
	if r := judge(t, c, chat(`"spam"`)); r.Action != filter.ActionReject || r.Code != "spam__"+strings.Repeat("x", 58) {
		t.Errorf("%+v", r)
	}
	if r := judge(t, c, chat(`"forget"`)); r.Steps[0].Failure != Failed {
		t.Errorf("without a verdict: %+v", r)
	}
	load := startLoad(t, c, 16)
	load.more(&load.judged, 200)
	load.stop()
	if st := status1(t, h); !st.Unary || st.InFlight != 0 || st.Mended == 0 || load.failed.Load() > 0 {
		t.Errorf("%+v", st)
	}
	pid := signalPlugin(t, h, syscall.SIGKILL)
	replaced(t, h, c, pid)
}
