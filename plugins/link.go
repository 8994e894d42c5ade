package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wsrelay/relay/plugins/filter"
	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

const (
	killGrace = 5 * time.Second // to be gone after SIGKILL, which is up to the kernel
	maxFrame  = 64 << 20        // bytes; as the SDK has it
)

// spec is what makes a plugin's process what it is. A filter whose spec stays the
// same is not started anew by a reload.
type spec struct {
	opts   Options
	prints string // of the files that it runs
}

func (s *spec) same(t *spec) bool {
	a, b := &s.opts, &t.opts
	return s.prints == t.prints && a.Name == b.Name && fmt.Sprint(a.Command, a.Env, a.Memory, a.MTLS) == fmt.Sprint(b.Command, b.Env, b.Memory, b.MTLS) &&
		string(a.Config) == string(b.Config)
}

// link is a process that was started and configured, and the way to it.
type link struct {
	spec   *spec
	desc   filter.Description
	client *plugin.Client
	child  *child
	dir    string
	api    pb.FilterClient
	conn   *grpc.ClientConn
	stream grpc.ClientStream  // nil: the plugin has no Session
	cancel context.CancelFunc // of stream and calls
	ctx    context.Context
	since  time.Time // when it was ready
}

// launch starts a plugin and makes it ready for messages. The problems are what is
// wrong with its configuration; when there are more than warnings, there is no
// link. What was started is gone when there is none.
func (h *Host) launch(ctx context.Context, sp *spec, log *slog.Logger) (*link, []filter.Problem, error) {
	if !sp.opts.Unpinned || len(sp.opts.SHA256) > 0 {
		if err := verify(sp.opts.SHA256); err != nil {
			return nil, nil, err
		}
	}
	if _, err := exec.LookPath(sp.opts.Command[0]); err != nil {
		return nil, nil, fmt.Errorf("finding its program: %w", err)
	}
	dir, err := h.processDir()
	if err != nil {
		return nil, nil, err
	}
	l := &link{spec: sp, dir: dir, child: newChild(h, log, sp.opts.Command)}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	problems, err := l.start(ctx, h, log)
	if err != nil || refused(problems) {
		if err != nil {
			err = l.child.explain(err)
		}
		l.end(h.hard, log, 0)
		return nil, problems, err
	}
	l.since = time.Now()
	return l, problems, nil
}

func refused(problems []filter.Problem) bool {
	for _, p := range problems {
		if !p.Warning {
			return true
		}
	}
	return false
}

// start goes through all that has to happen before the first message.
func (l *link) start(ctx context.Context, h *Host, log *slog.Logger) ([]filter.Problem, error) {
	if err := l.connect(ctx, h, log); err != nil {
		return nil, err
	}
	l.api = pb.NewFilterClient(l.conn)
	ctx, cancel := context.WithTimeout(ctx, h.times.configure)
	defer cancel()
	said, err := l.api.Describe(ctx, &pb.DescribeRequest{HostVersion: h.opts.Version})
	if err != nil {
		return nil, fmt.Errorf("asking what it is (Describe): %w", plain(err))
	}
	l.desc = filter.DescriptionFromProto(said)
	config := string(l.spec.opts.Config)
	if config == "" {
		config = "{}"
	}
	res, err := l.api.Configure(ctx, &pb.ConfigureRequest{ConfigJson: config, Filter: l.spec.opts.Name, Instance: h.opts.Instance})
	if err != nil {
		return nil, fmt.Errorf("configuring it (Configure): %w", plain(err))
	}
	problems := make([]filter.Problem, 0, len(res.GetProblems()))
	for _, p := range res.GetProblems() {
		problems = append(problems, filter.Problem{Path: p.GetPath(), Message: p.GetMessage(), Warning: p.GetWarning()})
	}
	if refused(problems) {
		return problems, nil
	}
	more, err := checkSchema(l.desc.Schema, []byte(config))
	if err != nil || len(more) > 0 {
		return append(problems, more...), err
	}
	return problems, l.greet(ctx)
}

// connect starts the process, and connects to it.
func (l *link) connect(ctx context.Context, h *Host, log *slog.Logger) error {
	o := &l.spec.opts
	l.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  filter.Handshake(),
		Plugins:          plugin.PluginSet{filter.DispenseName: &clientSide{conn: &l.conn}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         o.MTLS,
		SkipHostEnv:      true,
		StartTimeout:     h.times.start,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: l.dir},
		Logger:           hclog.NewNullLogger(), // what there is to say, we say
		SyncStdout:       l.child.out,
		SyncStderr:       l.child.errs,
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			l.child.env, l.child.dir = environ(o.Env, cmd.Env), dir
			return l.child, nil
		},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFrame), grpc.MaxCallSendMsgSize(maxFrame)),
			grpc.WithInitialWindowSize(1 << 20), grpc.WithInitialConnWindowSize(1 << 20), grpc.WithDisableRetry(),
		},
	})
	type result struct {
		proto plugin.ClientProtocol
		err   error
	}
	up := make(chan result, 1)
	go func() {
		if _, err := l.client.Start(); err != nil {
			up <- result{err: err}
			return
		}
		p, err := l.client.Client()
		up <- result{p, err}
	}()
	// go-plugin's start knows no context, and its connecting no deadline either.
	// The process's death ends both.
	late, cancel := context.WithTimeout(ctx, h.times.start+time.Second)
	defer cancel()
	var r result
	select {
	case r = <-up:
	case <-late.Done():
		r = result{err: late.Err()}
		_ = l.child.Kill(ctx)
		<-up
	}
	if r.err == nil {
		_, r.err = r.proto.Dispense(filter.DispenseName)
	}
	switch {
	case r.err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("starting it: %w", ctx.Err())
	case strings.HasPrefix(r.err.Error(), "timeout while waiting"):
		return fmt.Errorf("it did not say within %v where it listens (the handshake on standard output)", h.times.start)
	default:
		return fmt.Errorf("starting it: %w", r.err)
	}
}

// greet opens the session and waits until a first ping came back, so that what
// takes over can. A plugin without Session is asked in another way.
func (l *link) greet(ctx context.Context) error {
	stream, err := l.conn.NewStream(l.ctx, &pb.Filter_ServiceDesc.Streams[0], pb.Filter_Session_FullMethodName, grpc.ForceCodecV2(wire{}))
	if err != nil {
		return fmt.Errorf("opening a session: %w", plain(err))
	}
	answer := make(chan error, 1)
	go func() {
		var f replyFrame
		_ = stream.SendMsg(&pb.HostFrame{Frame: &pb.HostFrame_Ping{Ping: &pb.Ping{}}}) // RecvMsg tells what is wrong
		err := stream.RecvMsg(&f)
		if err == nil && f.other.GetPong() == nil {
			err = errors.New("a first ping was answered with something else")
		}
		answer <- err
	}()
	select {
	case err = <-answer:
	case <-ctx.Done():
		l.cancel()
		<-answer
		return errors.New("it did not answer a ping in the session")
	}
	switch {
	case err == nil:
		l.stream = stream
	case status.Code(err) != codes.Unimplemented:
		return fmt.Errorf("opening a session: %w", plain(err))
	}
	return nil
}

// end ends the process: its standard input ends; a while later it gets a SIGTERM;
// and after grace, or when hard is done, it is killed. It returns when nothing of
// it is left.
//
// go-plugin's own way, the Shutdown call, comes after the process's end and finds
// nobody: it has no deadline, cuts what is in flight, and a server that waits for
// its handlers waits for that call, too.
func (l *link) end(hard context.Context, log *slog.Logger, grace time.Duration) {
	defer func() { _ = os.RemoveAll(l.dir) }()
	defer l.cancel()
	if grace > 0 {
		l.child.hangUp()
		l.child.await(hard, grace/4)
		l.child.ask()
		l.child.await(hard, grace-grace/4)
	}
	_ = l.child.Kill(hard)
	over := make(chan struct{})
	go func() { defer close(over); l.client.Kill() }()
	t := time.NewTimer(killGrace)
	defer t.Stop()
	select {
	case <-over:
	case <-t.C:
		log.Error("a killed process does not go away", "pid", l.child.pid())
	}
}

// clientSide takes the connection out of go-plugin's hands.
type clientSide struct {
	plugin.NetRPCUnsupportedPlugin
	conn **grpc.ClientConn
}

func (c *clientSide) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the host's side has no server")
}

func (c *clientSide) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	*c.conn = conn
	return conn, nil
}

// plain takes gRPC's wrapping off an error, which says nothing to an operator.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return fmt.Errorf("%s (%s)", s.Message(), s.Code())
	}
	return err
}

// processDir makes the folder for one process's socket.
func (h *Host) processDir() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.spawn == nil {
		dir, err := newSocketDir(h.opts.Dir)
		if err != nil {
			return "", err
		}
		undumpable()
		h.sockets, h.spawn = dir, newSpawner()
	}
	h.processes++
	path := filepath.Join(h.sockets.path, strconv.Itoa(h.processes))
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("making a folder for its socket: %w", err)
	}
	return path, nil
}

// start is cmd.Start on the spawner's thread.
func (h *Host) start(cmd *exec.Cmd) error {
	h.mu.Lock()
	s := h.spawn
	h.mu.Unlock()
	return s.start(cmd)
}
