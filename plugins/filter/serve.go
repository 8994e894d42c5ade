package filter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// maxFrame is the largest frame a plugin takes: far above a batch, which relay
// keeps to about a megabyte unless a single message is larger.
const maxFrame = 64 << 20

// Serve makes the program a plugin that asks judge about every message. It
// returns when relay has no more use for the process, or is gone; main should
// then end. Started by hand, the program says what it is and ends with status 1.
func Serve(judge Judge) { Plugin{Judge: judge}.Serve() }

// Serve makes the program this plugin; see the function [Serve].
func (p Plugin) Serve() {
	logs := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	slog.SetDefault(logs) // of the plugin's own process, which has no other place to log to
	s := newServer(p, logs)
	stop := make(chan func(), 1)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when relay does
		(<-stop)()
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: Handshake(),
		Plugins:         plugin.PluginSet{DispenseName: &goPlugin{serve: s}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			g := grpc.NewServer(append(opts, grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(maxFrame), grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(1<<20))...)
			stop <- g.Stop
			return g
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr, JSONFormat: true}),
	})
	s.close()
}

// Handshake is what relay and plugins tell go-plugin.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: ProtocolVersion, MagicCookieKey: CookieKey, MagicCookieValue: CookieValue}
}

// goPlugin registers a server with go-plugin.
type goPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	serve *server
}

func (g *goPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterFilterServer(s, g.serve)
	return nil
}

func (g *goPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("the plugin's side has no client")
}

// server answers relay for a plugin.
type server struct {
	pb.UnimplementedFilterServer
	plugin Plugin
	log    *slog.Logger

	mu    sync.RWMutex
	judge Judge // of the configuration in force; guarded by mu

	working sync.WaitGroup // judges at work
}

func newServer(p Plugin, log *slog.Logger) *server { return &server{plugin: p, log: log} }

// close waits for the judges and lets the plugin tidy up.
func (s *server) close() {
	s.working.Wait()
	if s.plugin.Close != nil {
		s.plugin.Close()
	}
}

func (s *server) current() Judge {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.judge
}

// Describe implements pb.FilterServer.
func (s *server) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	d, err := s.plugin.Describe()
	if err != nil {
		return nil, err
	}
	return d.Proto(), nil
}

// Configure implements pb.FilterServer.
func (s *server) Configure(_ context.Context, r *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	judge, problems := s.plugin.Build(bytes.TrimSpace([]byte(r.GetConfigJson())))
	res := &pb.ConfigureResponse{}
	for _, p := range problems {
		res.Problems = append(res.Problems, &pb.Problem{Path: valid(p.Path), Message: valid(p.Message), Warning: p.Warning})
	}
	if judge != nil && !r.GetValidateOnly() {
		s.mu.Lock()
		s.judge = judge
		s.mu.Unlock()
	}
	return res, nil
}

// errNotConfigured is the answer to messages that come before a configuration.
var errNotConfigured = errors.New("the plugin is not configured yet")

// answer judges one message.
func (s *server) answer(ctx context.Context, p *pb.Message, later func(string, Verdict) error) *pb.Verdict {
	judge := s.current()
	if judge == nil {
		return new(Verdict).Proto(p.GetCall(), errNotConfigured)
	}
	m := MessageFromProto(p)
	if later != nil {
		m.OnLater(func(v Verdict) error { return later(m.ID, v) })
	}
	v, err := judge.Run(ctx, m)
	var panicked *PanicError
	if errors.As(err, &panicked) {
		s.log.Error("the judge panicked", "panic", panicked.Error(), "message", m.ID, "stack", panicked.Stack)
	}
	return v.Proto(p.GetCall(), err)
}

// CheckBatch implements pb.FilterServer.
func (s *server) CheckBatch(ctx context.Context, b *pb.Batch) (*pb.VerdictBatch, error) {
	out := make(chan *pb.VerdictBatch, 1)
	var all pb.VerdictBatch
	left := len(b.GetMessages())
	if left == 0 {
		return &all, nil
	}
	var mu sync.Mutex
	s.judgeBatch(ctx, b.GetMessages(), nil, func(v []*pb.Verdict) {
		mu.Lock()
		defer mu.Unlock()
		all.Verdicts = append(all.Verdicts, v...)
		if left -= len(v); left == 0 {
			out <- &all
		}
	})
	select {
	case res := <-out:
		return res, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
