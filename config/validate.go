package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// frameMax is half of what the bus over Redis takes for one message: what comes
// with it, such as who sent it, is no more than the other half.
const frameMax = 2 << 20

// validator checks what the file alone can tell. It changes nothing.
type validator struct {
	src      *Source
	problems []Problem
}

func (v *validator) fail(path, format string, args ...any) {
	v.problems = append(v.problems, v.src.Problem(path, fmt.Sprintf(format, args...)))
}

// suggest is didYouMean, unless that would tell what ${…} nearly stands for.
func (v *validator) suggest(path, s string, names []string) string {
	if v.src.show(path, s) != strconv.Quote(s) {
		return ""
	}
	return didYouMean(s, names)
}

func (v *validator) config(c *Config) {
	v.tags(reflect.ValueOf(c).Elem(), "")
	v.addr("listen", c.Listen)
	if c.Admin.Listen != "" {
		v.addr("admin.listen", c.Admin.Listen)
		if c.Admin.Listen == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
			v.fail("admin.listen", "is the address of listen; it needs one of its own")
		}
	}
	for i, cidr := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			v.fail(index("trusted_proxies", i), "%s is not a network such as 10.0.0.0/8", v.src.show(index("trusted_proxies", i), cidr))
		}
	}
	for i, h := range c.Hosts {
		if h == "" || strings.ContainsAny(h, "/ *@") || strings.Contains(h, "://") {
			v.fail(index("hosts", i), "%s is not a host name such as chat.example.com", v.src.show(index("hosts", i), h))
		}
	}
	if c.Redis != nil {
		v.redis(c.Redis)
	}
	v.auths(c)
	v.endpoints(c)
	v.filters(c)
	v.rooms(c)
	v.telemetry(c)
	if c.Drain.Over >= c.Drain.Timeout {
		v.fail("drain.over", "%s is not less than drain.timeout (%s): there would be no time left to finish", c.Drain.Over, c.Drain.Timeout)
	}
}

// tags checks what the struct tags say: enum, min, max, required.
func (v *validator) tags(x reflect.Value, path string) {
	switch {
	case x.Kind() == reflect.Pointer:
		if !x.IsNil() {
			v.tags(x.Elem(), path)
		}
	case x.Kind() == reflect.Slice:
		for i := range x.Len() {
			v.tags(x.Index(i), index(path, i))
		}
	case x.Kind() == reflect.Map:
		for _, name := range slices.Sorted(maps.Keys(stringKeys(x))) {
			v.tags(x.MapIndex(reflect.ValueOf(name)), join(path, name))
		}
	case x.Kind() == reflect.Struct && !isText(x.Type()):
		for f, fx := range x.Fields() {
			at := join(path, f.Tag.Get("key"))
			v.field(f.Tag, fx, at)
			v.tags(fx, at)
		}
	}
}

func stringKeys(m reflect.Value) map[string]struct{} {
	keys := make(map[string]struct{}, m.Len())
	for _, k := range m.MapKeys() {
		keys[k.String()] = struct{}{}
	}
	return keys
}

func (v *validator) field(tag reflect.StructTag, x reflect.Value, path string) {
	if tag.Get("required") == "true" && (x.IsZero() || x.Kind() == reflect.Slice && x.Len() == 0) {
		if v.src.says(path) {
			v.fail(path, "must not be empty")
		}
		return
	}
	if enum := tag.Get("enum"); enum != "" && x.String() != "" {
		if names := strings.Split(enum, ","); !slices.Contains(names, x.String()) {
			v.fail(path, "%s is not one of %s%s", v.src.show(path, x.String()), strings.Join(names, ", "), v.suggest(path, x.String(), names))
		}
	}
	if s := tag.Get("min"); s != "" {
		if least, err := strconv.ParseInt(s, 10, 64); err == nil && x.Int() < least {
			v.fail(path, "must be at least %d", least)
		}
	}
	if s := tag.Get("max"); s != "" {
		if most, err := strconv.ParseInt(s, 10, 64); err == nil && x.Int() > most {
			v.fail(path, "must be at most %d", most)
		}
	}
}

// addr checks host:port.
func (v *validator) addr(path, s string) {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(port); err == nil && n >= 0 && n <= 65535 && !strings.ContainsAny(host, "/ ") {
			return
		}
	}
	v.fail(path, "%s is not an address such as :5000 or 127.0.0.1:5000", v.src.show(path, s))
}

func (v *validator) redis(r *Redis) {
	ways := 0
	if !r.URL.IsZero() {
		ways++
		v.redisURL(r)
	}
	if s := r.Sentinel; s != nil {
		ways++
		v.addrs("redis.sentinel.addrs", s.Addrs)
	}
	if r.Cluster != nil {
		ways++
		v.addrs("redis.cluster.addrs", r.Cluster.Addrs)
	}
	if ways != 1 {
		v.fail("redis", "needs one of url, sentinel and cluster, and has %d of them", ways)
	}
	if r.Prefix == "" || len(r.Prefix) > 64 || strings.ContainsAny(r.Prefix, "{}* \t\n") {
		v.fail("redis.prefix", "%s: must be 1 to 64 characters without braces, stars and blanks", v.src.show("redis.prefix", r.Prefix))
	}
	if t := r.TLS; t != nil && (t.Cert == "") != (t.Key == "") {
		v.fail("redis.tls", "cert and key go together")
	}
}

func (v *validator) redisURL(r *Redis) {
	const say = "is not a URL such as redis://localhost:6379/0 or rediss://redis.example.com:6380"
	u, err := url.Parse(r.URL.Reveal())
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "["): // err would repeat the URL
		v.fail("redis.url", say)
	case u.Scheme != "redis" && u.Scheme != "rediss":
		v.fail("redis.url", say) // what seems to be the scheme may be a password that starts with a slash
	case u.RawQuery != "" || u.Fragment != "":
		v.fail("redis.url", "takes no options after ? or #")
	default:
		if db := strings.Trim(u.Path, "/"); db != "" {
			if _, err := strconv.ParseUint(db, 10, 16); err != nil {
				v.fail("redis.url", "what follows the host is not the number of a database; a slash in a password is written %%2F")
			}
		}
		if _, has := u.User.Password(); has && !r.Password.IsZero() {
			v.fail("redis.password", "stands in redis.url too; give it once")
		}
	}
}

func (v *validator) addrs(path string, list []string) {
	for i, a := range list {
		v.addr(index(path, i), a)
	}
}

var authName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

func (v *validator) auths(c *Config) {
	for _, name := range slices.Sorted(maps.Keys(c.Auth)) {
		path, a := join("auth", name), c.Auth[name]
		if !authName.MatchString(name) {
			v.fail(path, "a name is lower-case letters, digits, _ and -, and starts with a letter")
		}
		v.onlyFor(path, a)
		switch a.Type {
		case AuthJWT:
			v.jwt(path, a)
		case AuthAPIKey:
			if len(a.Keys) == 0 {
				v.fail(path, "keys is missing: make one with `relay key NAME`")
			}
		}
	}
}

// onlyFor refuses fields that the type would ignore.
func (v *validator) onlyFor(path string, a Auth) {
	uses := map[AuthType][]string{
		AuthAnonymous: {"type"},
		AuthJWT:       {"type", "from", "issuer", "audience", "algorithms", "jwks", "secret", "public_key", "user"},
		AuthAPIKey:    {"type", "from", "keys"},
	}[a.Type]
	if uses == nil {
		return
	}
	for f, x := range reflect.ValueOf(a).Fields() {
		key := f.Tag.Get("key")
		if !slices.Contains(uses, key) && (v.src.says(join(path, key)) || !x.IsZero() && key != "user") {
			v.fail(join(path, key), "means nothing for type %s", a.Type)
		}
	}
}

func (v *validator) jwt(path string, a Auth) {
	if a.Issuer == "" {
		v.fail(path, "issuer is missing: what iss has to be")
	}
	if len(a.Audience) == 0 {
		v.fail(path, "audience is missing: one of which aud has to name; any waives that")
	}
	keys := 0
	for _, has := range []bool{a.JWKS != "", !a.Secret.IsZero(), a.PublicKey != ""} {
		if has {
			keys++
		}
	}
	for _, k := range []struct {
		key   string
		empty bool
	}{{"jwks", a.JWKS == ""}, {"secret", a.Secret.IsZero()}, {"public_key", a.PublicKey == ""}} {
		if k.empty && v.src.says(join(path, k.key)) {
			v.fail(join(path, k.key), "must not be empty: keys would come from the issuer instead")
		}
	}
	if keys > 1 {
		v.fail(path, "has %d of jwks, secret and public_key: keys come from one of them, and a shared secret never stands beside public keys", keys)
	}
	if n := len(a.Secret.Reveal()); n > 0 && n < 32 {
		v.fail(join(path, "secret"), "has %d bytes and needs 32: whoever guesses it makes tokens (RFC 7518 section 3.2)", n)
	}
	if a.JWKS != "" {
		v.keyURL(join(path, "jwks"), a.JWKS)
	}
	if keys == 0 && a.Issuer != "" {
		v.keyURL(join(path, "issuer"), a.Issuer)
	}
	for _, p := range []struct{ key, pointer string }{{"id", a.User.ID}, {"name", a.User.Name}, {"data", a.User.Data}, {"roles", a.User.Roles}} {
		if p.pointer != "" && !strings.HasPrefix(p.pointer, "/") {
			v.fail(join(path, "user."+p.key), "%s is not a JSON pointer: it starts with /", v.src.show(join(path, "user."+p.key), p.pointer))
		}
	}
}

// keyURL holds for where keys are fetched from: nobody must be able to put
// theirs in between.
func (v *validator) keyURL(path, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		v.fail(path, "%s is not a URL; keys are fetched over https", v.src.show(path, s))
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		v.fail(path, "%s: keys are fetched over https, or over http on loopback only", v.src.show(path, s))
	}
}

func loopbackHost(h string) bool {
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && ip.IsLoopback()
}

func (v *validator) endpoints(c *Config) {
	seen := make(map[string]int)
	for i, e := range c.Endpoints {
		path := index("endpoints", i)
		if first, twice := seen[e.Path]; twice {
			v.fail(join(path, "path"), "%s is that of endpoints[%d] too", v.src.show(join(path, "path"), e.Path), first)
		}
		seen[e.Path] = i
		if e.Path != "" && (!strings.HasPrefix(e.Path, "/") || strings.ContainsAny(e.Path, "?# *{}")) {
			v.fail(join(path, "path"), "%s is not a path such as /ws", v.src.show(join(path, "path"), e.Path))
		}
		cookies := v.endpointAuth(c, path, e)
		v.origins(path, e, cookies)
		if e.Queue.MaxBytes < e.Limits.FrameSize {
			v.fail(join(path, "queue.max_bytes"), "%s is less than limits.frame_size (%s): such a message could never be delivered", e.Queue.MaxBytes, e.Limits.FrameSize)
		}
		if e.Limits.FrameSize < 256 {
			v.fail(join(path, "limits.frame_size"), "%s is too little for a request; 256B is the least", e.Limits.FrameSize)
		}
		if e.Limits.FrameSize > frameMax {
			v.fail(join(path, "limits.frame_size"), "%s is more than a bus carries; %s is the most", e.Limits.FrameSize, Size(frameMax))
		}
		if e.Heartbeat.Every == 0 || e.Heartbeat.Timeout == 0 {
			v.fail(join(path, "heartbeat"), "every and timeout must be above 0s: without pings, lost clients stay for ever")
		}
	}
}

// endpointAuth checks the names, and reports whether cookies identify users.
func (v *validator) endpointAuth(c *Config, path string, e Endpoint) (cookies bool) {
	names := slices.Sorted(maps.Keys(c.Auth))
	for k, name := range e.Auth {
		at := index(join(path, "auth"), k)
		a, ok := c.Auth[name]
		if !ok {
			v.fail(at, "no auth named %s%s", v.src.show(at, name), v.suggest(at, name, names))
		}
		if slices.Index(e.Auth, name) < k {
			v.fail(at, "%s is listed twice", v.src.show(at, name))
		}
		for _, from := range a.From {
			cookies = cookies || strings.HasPrefix(from, "cookie:")
		}
	}
	return cookies
}

func (v *validator) origins(path string, e Endpoint, cookies bool) {
	if cookies && len(e.Origins) == 0 {
		v.fail(path, "origins is missing: cookies come from any page that connects, so this endpoint has to list its own")
	}
	for k, o := range e.Origins {
		at := index(join(path, "origins"), k)
		switch u, err := url.Parse(o); {
		case o == "*" && cookies:
			v.fail(at, "\"*\" would let any page use the cookies of its visitors")
		case o == "null" && cookies: // the origin of every sandboxed frame, whoever embeds it
			v.fail(at, "\"null\" would let any page use the cookies of its visitors")
		case o == "*" || o == "null":
		case err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || strings.ContainsAny(strings.TrimPrefix(o, u.Scheme+"://"), "/?#"):
			v.fail(at, "%s is not an origin such as https://app.example.com", v.src.show(at, o))
		}
	}
}

func (v *validator) rooms(c *Config) {
	all, rooms := -1, c.Rooms
	for i, r := range rooms {
		path := index("rooms", i)
		v.roomFilters(c, path, r)
		if all >= 0 {
			v.fail(join(path, "match"), "is never reached: rooms[%d] matches every room, and the first match wins", all)
		}
		if j := slices.IndexFunc(rooms[:i], func(o Room) bool { return o.Match == r.Match }); j >= 0 && all < 0 {
			v.fail(join(path, "match"), "is never reached: rooms[%d] has the same match", j)
		}
		if strings.Trim(r.Match, "*") == "" && r.Match != "" && all < 0 {
			all = i
		}
		if h := r.History; h != nil {
			if h.For == 0 {
				v.fail(join(path, "history.for"), "must be above 0s; leave history out to keep none")
			}
			if r.Idle < h.For {
				v.fail(join(path, "idle"), "%s is less than history.for (%s): the room would be forgotten with its history", r.Idle, h.For)
			}
		}
		if r.Idle == 0 {
			v.fail(join(path, "idle"), "must be above 0s")
		}
	}
}
