// Package door decides what must hold before a handshake is answered: the Host
// it is addressed to, the page it comes from, the address behind it, and how
// many are in already.
//
// Everything here is said with an HTTP status, before the upgrade, so that a
// load balancer and a person with curl understand it; a refusal names the line
// of relay.yaml that would let the request in.
package door

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Options of a Door.
type Options struct {
	Rule string // the endpoint's place in relay.yaml, such as endpoints[0]

	Hosts          []string // Host headers accepted, without port; empty: any, or loopback names if LoopbackOnly
	LoopbackOnly   bool     // the listener is on a loopback address
	Origins        []string // scheme://host[:port], or "*"; empty: the page's own host
	CookieAuth     bool     // cookies identify users here: a request must say where it comes from
	TrustedProxies []netip.Prefix

	Connections int     // at once; 0: no bound
	PerIP       int     // at once and per address, IPv6 per /64; 0: no bound
	Connects    float64 // per second; 0: no bound
}

// Door guards one endpoint. It is safe for concurrent use.
type Door struct {
	opt   atomic.Pointer[Options]
	rate  *rate.Limiter
	stats Stats

	mu    sync.Mutex
	open  int                // guarded by mu
	perIP map[netip.Addr]int // guarded by mu; entries are above 0
}

// Stats counts handshakes. Read with the atomic methods.
type Stats struct {
	Admitted, Host, Origin, Full, PerIP, Rate atomic.Int64
}

// New makes a door.
func New(opt Options) *Door {
	d := &Door{rate: rate.NewLimiter(opt.pace()), perIP: make(map[netip.Addr]int)}
	d.opt.Store(&opt)
	return d
}

// Update puts other options in force. Who is in stays in, and is counted.
func (d *Door) Update(opt Options) {
	d.opt.Store(&opt)
	limit, burst := opt.pace()
	d.rate.SetLimit(limit)
	d.rate.SetBurst(burst)
}

// pace is Connects as a token bucket that holds one second's worth.
func (o *Options) pace() (rate.Limit, int) {
	if o.Connects <= 0 {
		return rate.Inf, 1
	}
	return rate.Limit(o.Connects), max(1, int(o.Connects))
}

// Stats gives the live counters.
func (d *Door) Stats() *Stats { return &d.stats }

// Admission is a place inside, to be given back with Release. It must not be
// copied once somebody may release it.
type Admission struct {
	ClientIP netip.Addr

	door     *Door
	released atomic.Bool
}

// Release gives the place back. Calls after the first do nothing.
func (a *Admission) Release() {
	if !a.released.Swap(true) {
		a.door.release(group(a.ClientIP))
	}
}

// Refusal is an answer to a handshake that is not let in.
type Refusal struct {
	Status     int
	Reason     string        // in a word, for metrics and traces: host, origin, full, per_ip, rate
	RetryAfter time.Duration // 0: not worth it
	Body       string
}

// Write answers the request, and does not keep the connection: who was refused
// in a storm of reconnects should not be held for IdleTimeout.
func (r *Refusal) Write(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	if r.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((r.RetryAfter+time.Second-1)/time.Second)))
	}
	http.Error(w, r.Body, r.Status)
}

// Admit lets a handshake in, or tells why not.
func (d *Door) Admit(r *http.Request) (*Admission, *Refusal) {
	opt := d.opt.Load()
	if !hostAllowed(opt, r.Host) {
		d.stats.Host.Add(1)
		return nil, &Refusal{Status: http.StatusMisdirectedRequest, Reason: "host", Body: fmt.Sprintf("host %q is not served here: add it to hosts in relay.yaml", hostOnly(r.Host))}
	}
	if ref := originRefusal(opt, r); ref != nil {
		d.stats.Origin.Add(1)
		return nil, ref
	}
	ip := ClientIP(r, opt.TrustedProxies)
	key := group(ip)
	d.mu.Lock()
	defer d.mu.Unlock()
	if opt.Connections > 0 && d.open >= opt.Connections {
		d.stats.Full.Add(1)
		return nil, busy("full", "as many connections as this endpoint takes")
	}
	if opt.PerIP > 0 && d.perIP[key] >= opt.PerIP {
		d.stats.PerIP.Add(1)
		return nil, busy("per_ip", "too many connections from this address")
	}
	if !d.rate.Allow() { // last: one address at its bound must not spend everybody's rate
		d.stats.Rate.Add(1)
		return nil, busy("rate", "too many connections at once")
	}
	d.open++
	d.perIP[key]++
	d.stats.Admitted.Add(1)
	return &Admission{ClientIP: ip, door: d}, nil
}

func (d *Door) release(key netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.perIP[key]--; d.perIP[key] == 0 {
		delete(d.perIP, key)
	}
}

// busy asks to come back in one to four seconds: all who are refused at once
// should not be back at once.
func busy(reason, why string) *Refusal {
	return &Refusal{
		Status: http.StatusServiceUnavailable, Reason: reason, Body: why + "; try again",
		RetryAfter: time.Second + rand.N(3*time.Second),
	}
}

func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// hostAllowed keeps other people's names for our address out: a page that has
// its own name resolve to a loopback address must not get in (DNS rebinding).
func hostAllowed(opt *Options, host string) bool {
	h := strings.ToLower(strings.TrimSuffix(hostOnly(host), "."))
	if len(opt.Hosts) > 0 {
		return slices.ContainsFunc(opt.Hosts, func(s string) bool { return strings.EqualFold(s, h) || strings.EqualFold(s, host) })
	}
	if !opt.LoopbackOnly || h == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(h)
	return err == nil && ip.IsLoopback()
}

// bareHost leaves out the port that a scheme implies: browsers do, and some
// proxies add it.
func bareHost(scheme, host string) string {
	switch scheme {
	case "https":
		return strings.TrimSuffix(host, ":443")
	case "http":
		return strings.TrimSuffix(host, ":80")
	}
	return host
}

// originRefusal checks where a browser says the request comes from. Programs
// that are not browsers send no Origin, and are let through unless cookies
// would speak for them.
func originRefusal(opt *Options, r *http.Request) *Refusal {
	origin := r.Header.Get("Origin")
	if origin == "" {
		if opt.CookieAuth {
			return &Refusal{Status: http.StatusForbidden, Reason: "origin", Body: "this endpoint takes cookies and so needs an Origin header; use a bearer token from programs"}
		}
		return nil
	}
	if len(opt.Origins) == 0 {
		u, err := url.Parse(origin)
		if err == nil && u.Host != "" && strings.EqualFold(bareHost(u.Scheme, u.Host), bareHost(u.Scheme, r.Host)) {
			return nil
		}
	}
	for _, o := range opt.Origins {
		if o == "*" || strings.EqualFold(o, origin) {
			return nil
		}
	}
	return &Refusal{Status: http.StatusForbidden, Reason: "origin", Body: fmt.Sprintf("origin %q may not connect: add it to %s.origins in relay.yaml", origin, opt.Rule)}
}

// ClientIP finds who is at the other end. X-Forwarded-For counts only if the
// connection comes from a trusted proxy; it is walked from the right, over
// proxies that are trusted, to the first that is not. What stands further left
// anybody could have written.
func ClientIP(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := addrOf(r.RemoteAddr)
	if !isTrusted(peer, trusted) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, h := range slices.Backward(hops) {
		ip := addrOf(strings.TrimSpace(h))
		if !ip.IsValid() {
			return peer // the last one we believe
		}
		peer = ip
		if !isTrusted(ip, trusted) {
			return ip
		}
	}
	return peer
}

func isTrusted(ip netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// addrOf parses an address with or without a port.
func addrOf(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	ip, _ := netip.ParseAddr(strings.Trim(s, "[]")) // the zero Addr is invalid
	return ip.Unmap().WithZone("")
}

// group is what PerIP counts: an IPv6 subscriber usually has a /64 to choose
// addresses from (RFC 6177).
func group(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		p, err := ip.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return ip
}
