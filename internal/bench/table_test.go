package bench_test

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/internal/bench"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
	"github.com/wsrelay/relay/internal/tlstest"
)

var (
	tableRuns  = flag.Int("table", 0, "measure each scenario so many times and print the medians; 0: do not")
	tableOnly  = flag.String("table.scenarios", "latency,mid,big,many,cross,crosslat,idle,start", "which, with commas; also: manytls, bigtls, idletls, rooms10, rooms1000, rooms9500, sockets1000, sockets10000, sockets19000")
	tableRooms = flag.String("table.rooms", "limit,plain", "of what, with commas: limit, the least that a Go server can do; limitredis, the same through a Redis; or relay with rooms of a kind: "+strings.Join(slices.Sorted(maps.Keys(rooms)), ", "))
	tableRelay = flag.String("table.relay", "", "relay to measure; default: the one of this tree")
	profileDir = flag.String("profile", "", "write profiles of a relay under the load of -profile.scenario into this folder; empty: do not")
	profileOf  = flag.String("profile.scenario", "many", "which load to profile")
)

// scenarios are the loads. Those that have two servers send to one and listen
// at the other.
var scenarios = map[string]struct {
	bench.Options
	two, tls, memory bool
	against          string // scenario of the limit to compare with; empty: the same
}{
	"latency":  {Options: bench.Options{Rooms: 100, Members: 10, Rate: 1000}},
	"mid":      {Options: bench.Options{Rooms: 10, Members: 100, Rate: 500}},
	"big":      {Options: bench.Options{Rooms: 1, Members: 1000, InFlight: 8}},
	"many":     {Options: bench.Options{Rooms: 100, Members: 10, InFlight: 4}},
	"cross":    {Options: bench.Options{Rooms: 100, Members: 10, InFlight: 4}, two: true, against: "many"},
	"crosslat": {Options: bench.Options{Rooms: 100, Members: 10, Rate: 1000}, two: true, against: "latency"},
	"idle":     {Options: bench.Options{Rooms: 1000, Members: 10}, memory: true},
	"bigtls":   {Options: bench.Options{Rooms: 1, Members: 1000, InFlight: 8}, tls: true, against: "big"},
	"manytls":  {Options: bench.Options{Rooms: 100, Members: 10, InFlight: 4}, tls: true, against: "many"},
	"idletls":  {Options: bench.Options{Rooms: 1000, Members: 10}, memory: true, tls: true, against: "idle"},

	// Always as many deliveries, over more and more rooms and sockets.
	"rooms10":      {Options: bench.Options{Rooms: 10, Members: 2, Rate: 5000}},
	"rooms1000":    {Options: bench.Options{Rooms: 1000, Members: 2, Rate: 5000}},
	"rooms9500":    {Options: bench.Options{Rooms: 9500, Members: 2, Rate: 5000}},
	"sockets1000":  {Options: bench.Options{Rooms: 100, Members: 10, Rate: 1000}},
	"sockets10000": {Options: bench.Options{Rooms: 1000, Members: 10, Rate: 1000}},
	"sockets19000": {Options: bench.Options{Rooms: 1900, Members: 10, Rate: 1000}},
}

// collector is where spans go.
type collector func(t *testing.T) (url string)

// rooms are the configurations under which a load is measured.
var rooms = map[string]struct {
	history, metrics bool
	sample           string // share of the messages that are traced
	collector
}{
	"plain":  {},
	"full":   {history: true, metrics: true, sample: "1%", collector: answers(0)},
	"traced": {sample: "100%", collector: answers(0)},
	"slow":   {sample: "100%", collector: answers(2 * time.Second)},
	"away":   {sample: "100%", collector: func(*testing.T) string { return "http://127.0.0.1:9" }}, // discard: nobody listens there
	"stuck":  {sample: "100%", collector: answers(time.Hour)},
}

// answers makes a collector that throws away what it gets, and takes its time to
// say so.
func answers(after time.Duration) collector {
	return func(t *testing.T) string {
		over := make(chan struct{})
		sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // what was sent counts, not what comes of it
			select {
			case <-time.After(after):
			case <-over:
			}
		}))
		t.Cleanup(sink.Close)
		t.Cleanup(func() { close(over) })
		return sink.URL
	}
}

// row is one measurement.
type row struct {
	*bench.Result
	server, redis time.Duration // processor time while it was measured
	connect       time.Duration // while sockets connected and joined
	writes        int64         // system calls, of whatever is written, while it was measured
	memory        int64         // bytes, of all sockets
	start         time.Duration // to the first ack
}

// subject is what is measured: a load, in rooms of a kind, or limited.
type subject struct{ scenario, rooms string }

// The kinds of rooms that the limit has: without a Redis, and through one.
const (
	limited      = "limit"
	limitedRedis = "limitredis"
)

// limit is what a subject is compared with.
func (s subject) limit() subject {
	if other := scenarios[s.scenario].against; other != "" {
		s.scenario = other
	}
	return subject{s.scenario, limited}
}

func (s subject) String() string {
	if s.rooms == "plain" {
		return s.scenario
	}
	return s.scenario + ", " + s.rooms
}

// TestTable is `make bench`. It takes a minute for each of -table.
func TestTable(t *testing.T) {
	if *tableRuns == 0 {
		t.Skip("measures for minutes: ask for it with -table 5")
	}
	program := *tableRelay
	if program == "" {
		program = build(t)
	}
	var of []subject
	for _, s := range strings.Split(*tableOnly, ",") {
		for _, r := range strings.Split(*tableRooms, ",") {
			sc := scenarios[s]
			if r == limited && sc.against != "" || strings.HasPrefix(r, limited) && (sc.tls || s == "start") {
				continue // the limit has no such thing
			}
			of = append(of, subject{s, r})
		}
	}
	rows := make(map[subject][]row)
	for range *tableRuns { // in turn, so that a bad minute hits all alike
		for _, s := range of {
			t.Run(s.String(), func(t *testing.T) {
				r := measure(t, program, s)
				if r.Result != nil && !r.Sound() {
					t.Errorf("lost %d, out of order %d, repeated %d, closed %d %s", r.Lost, r.OutOfOrder, r.Repeated, r.Closed, r.Why)
				}
				rows[s] = append(rows[s], r)
			})
		}
	}
	printTable(of, rows)
}

func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "relay")
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, "github.com/wsrelay/relay")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building relay: %v\n%s", err, out)
	}
	return program
}

// measure runs one scenario once, with processes of its own.
func measure(t *testing.T, program string, s subject) (r row) {
	t.Helper()
	if s.scenario == "start" {
		return row{start: firstAck(t, program)}
	}
	sc, ok := scenarios[s.scenario]
	if !ok {
		t.Fatalf("no scenario %q", s.scenario)
	}
	opt := sc.Options
	var servers []*server
	redisPID := 0
	switch s.rooms {
	case limited:
		servers = append(servers, startLimit(t))
	case limitedRedis:
		redis := redistest.Start(t)
		redisPID = pidOf(t, redis)
		for range map[bool]int{false: 1, true: 2}[sc.two] {
			servers = append(servers, startLimit(t, limitRedisEnv+"="+redis.Addr()))
		}
	default:
		redis := redistest.Start(t)
		redisPID = pidOf(t, redis)
		for range map[bool]int{false: 1, true: 2}[sc.two] {
			servers = append(servers, startServer(t, program, configuration(t, redis.URL(), s.rooms, sc.tls)))
		}
	}
	for _, s := range servers {
		opt.URLs = append(opt.URLs, s.url)
	}
	opt.Prefix, opt.Senders, opt.Size = "bench-", 1, 128
	opt.Warm, opt.Duration = 1500*time.Millisecond, 4*time.Second
	if sc.memory {
		opt.Warm = 0
		opt.Duration = 8 * time.Second // the collector and the operating system take their time
	}
	opt.TLS = &tls.Config{InsecureSkipVerify: true} // a certificate of a minute ago, on loopback
	var at [bench.Draining + 1]struct {
		server, redis  time.Duration
		memory, writes int64
	}
	opt.Phase = func(p bench.Phase) {
		for _, s := range servers {
			u := usageOf(t, s.cmd.Process.Pid)
			at[p].server += u.spent
			at[p].memory += u.resident
			at[p].writes += u.writes
		}
		if redisPID != 0 {
			at[p].redis = usageOf(t, redisPID).spent
		}
	}
	res, err := bench.Run(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return row{
		Result: res, server: at[bench.Draining].server - at[bench.Measuring].server, redis: at[bench.Draining].redis - at[bench.Measuring].redis, writes: at[bench.Draining].writes - at[bench.Measuring].writes,
		connect: at[bench.Warming].server - at[bench.Connecting].server, memory: at[bench.Draining].memory - at[bench.Connecting].memory,
	}
}

func pidOf(t *testing.T, s *redistest.Server) int {
	t.Helper()
	_, rest, _ := strings.Cut(s.Do("INFO", "server"), "process_id:")
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	if err != nil {
		t.Fatalf("Redis does not tell its process id: %v", err)
	}
	return pid
}

// configuration is a relay that limits nothing of what is measured, but has the
// limiter, the policy and the sender's rate to look at all the same.
func configuration(t *testing.T, redisURL, kind string, encrypted bool) string {
	t.Helper()
	b := `listen: "127.0.0.1:0"
admin: {listen: ""}
redis: {url: "` + redisURL + `"}
endpoints: [{path: /ws, auth: [guests], limits: {connections: 100000, connects: 100000/s, requests: 1000000/s}}]
auth: {guests: {type: anonymous}}
drain: {over: 0s}
`
	room := `match: "bench-*", create: anyone, join: anyone, members: {grace: 0s}, messages: {rate: 100000/s, burst: 100000}`
	more := "log: {level: info, format: json}"
	r, ok := rooms[kind]
	if !ok {
		t.Fatalf("no rooms %q", kind)
	}
	if r.history {
		room += ", history: {keep: 200, for: 1h}"
	}
	if r.collector != nil {
		more += fmt.Sprintf(", traces: {otlp: %q, protocol: http, sample: %s}", r.collector(t), r.sample)
	}
	if r.metrics {
		more += ", metrics: {path: /metrics}"
		b = strings.Replace(b, `admin: {listen: ""}`, `admin: {listen: "127.0.0.1:0"}`, 1)
	}
	if encrypted {
		pair, err := tlstest.New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		b += pair.YAML()
	}
	return b + "rooms: [{" + room + "}]\ntelemetry: {" + more + "}\n"
}

// firstAck is the time from the start of a relay without Redis to the ack of its
// first message.
func firstAck(t *testing.T, program string) time.Duration {
	t.Helper()
	s := startServer(t, program, `listen: "127.0.0.1:0"
admin: {listen: ""}
endpoints: [{path: /ws, auth: [guests]}]
auth: {guests: {type: anonymous}}
rooms: [{match: "*", create: anyone, join: anyone, history: {}}]
`)
	c, err := client.Dial(t.Context(), s.url, client.Options{Handler: func(*client.Event) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	if _, err := c.Join(t.Context(), "lobby", &client.User{ID: "ann"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Chat(t.Context(), "lobby", "hello"); err != nil {
		t.Fatal(err)
	}
	return time.Since(s.born)
}

func median(rows []row, of func(row) float64) float64 {
	var list []float64
	for _, r := range rows {
		list = append(list, of(r))
	}
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// printTable writes Markdown, as in docs/performance.md. A number in brackets is
// how many times that of the limit it is.
func printTable(of []subject, rows map[subject][]row) {
	figure := func(s subject, format string, f func(row) float64) string {
		v := median(rows[s], f)
		text := fmt.Sprintf(format, v)
		if least := rows[s.limit()]; len(least) > 0 && s.rooms != limited {
			text += fmt.Sprintf(" (%.2f)", v/median(least, f))
		}
		return text
	}
	perDelivery := func(spent func(row) time.Duration) func(row) float64 {
		return func(r row) float64 { return micros(spent(r)) / (r.DeliveriesPerSecond * r.Seconds) }
	}
	fmt.Printf("\n| scenario | deliveries/s | server µs | deliveries per write | Redis µs | generator µs | p50 ms | p99 ms | p99.9 ms | lost | out of order |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range of {
		list := rows[name]
		if sc := scenarios[name.scenario]; len(list) == 0 || sc.Rate == 0 && sc.InFlight == 0 {
			continue
		}
		fmt.Printf("| %s | %.0f | %s | %s | %.2f | %.2f | %s | %s | %s | %.0f | %.0f |\n", name,
			median(list, func(r row) float64 { return r.DeliveriesPerSecond }),
			figure(name, "%.2f", perDelivery(func(r row) time.Duration { return r.server })),
			figure(name, "%.2f", func(r row) float64 { return r.DeliveriesPerSecond * r.Seconds / float64(r.writes) }),
			median(list, perDelivery(func(r row) time.Duration { return r.redis })),
			median(list, func(r row) float64 { return r.GeneratorPerFrame }),
			figure(name, "%.2f", func(r row) float64 { return r.Latency.P50 / 1000 }),
			figure(name, "%.2f", func(r row) float64 { return r.Latency.P99 / 1000 }),
			figure(name, "%.2f", func(r row) float64 { return r.Latency.P999 / 1000 }),
			median(list, func(r row) float64 { return float64(r.Lost) }),
			median(list, func(r row) float64 { return float64(r.OutOfOrder) }))
	}
	for _, name := range of {
		list := rows[name]
		switch {
		case len(list) == 0:
		case name.scenario == "start":
			fmt.Printf("\n%s: %.0f ms from the start to the first ack, without Redis\n", name, median(list, func(r row) float64 { return micros(r.start) / 1000 }))
		case scenarios[name.scenario].memory:
			fmt.Printf("\n%s: %d sockets, %.1f KiB each, %.0f connects/s with joins, %s µs of server CPU each\n", name, list[0].Sockets,
				median(list, func(r row) float64 { return float64(r.memory) / 1024 / float64(r.Sockets) }),
				median(list, func(r row) float64 { return r.ConnectsPerSecond }),
				figure(name, "%.0f", func(r row) float64 { return micros(r.connect) / float64(r.Sockets) }))
		}
	}
}

// TestProfile is `make profile`.
func TestProfile(t *testing.T) {
	if *profileDir == "" {
		t.Skip("writes files: ask for it with -profile DIR")
	}
	dir, err := filepath.Abs(*profileDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sc, ok := scenarios[*profileOf]
	if !ok {
		t.Fatalf("no scenario %q", *profileOf)
	}
	s := startServer(t, self, configuration(t, redistest.Start(t).URL(), "plain", false), profileEnv+"="+dir)
	opt := sc.Options
	opt.URLs, opt.Prefix, opt.Senders, opt.Size = []string{s.url}, "bench-", 1, 128
	opt.Warm, opt.Duration = 2*time.Second, 10*time.Second
	from, to := bench.Measuring, bench.Draining
	if sc.memory { // then connecting is the load
		from, to = bench.Connecting, bench.Warming
		opt.Warm, opt.Duration = 0, time.Second
	}
	opt.Phase = func(p bench.Phase) {
		switch p {
		case from:
			s.tell("begin")
		case to:
			s.tell("end")
		}
	}
	r, err := bench.Run(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	r.Print(os.Stdout)
	for _, name := range []string{"cpu", "heap", "allocs", "block", "mutex", "goroutine"} {
		info, err := os.Stat(filepath.Join(dir, name+".pprof"))
		if err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, empty: %v", name, err, err == nil)
		}
	}
	fmt.Printf("  go tool pprof -top %s\n", filepath.Join(dir, "cpu.pprof"))
}
