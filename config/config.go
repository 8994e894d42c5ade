// Package config is what relay.yaml and the environment say, as plain data:
// loaded, checked, and with every position kept, so that whoever finds a mistake
// later can still name its line.
//
// The structs below are the one source of the file's shape. Loading, the JSON
// Schema and docs/config.md all walk them: a field's key, default and meaning
// stand in its tags and nowhere else. Only internal/app reads a Config.
package config

import "time"

//go:generate go run ./generate

// Config is a whole relay.yaml.
type Config struct {
	Listen         string            `key:"listen" default:":5000" doc:"Address that clients connect to." example:"127.0.0.1:5000"`
	TLS            *TLS              `key:"tls" doc:"Certificate of the listener. Absent: plain WebSockets, for loopback or behind a proxy that ends TLS."`
	TrustedProxies []string          `key:"trusted_proxies" doc:"Networks whose X-Forwarded-For is believed, walked from the right." example:"[\"10.0.0.0/8\"]"`
	Hosts          []string          `key:"hosts" doc:"Host headers that are accepted. Default: any; on a loopback listener loopback names only, against DNS rebinding." example:"[chat.example.com]"`
	Admin          Admin             `key:"admin" doc:"Listener for operators: health and metrics."`
	Redis          *Redis            `key:"redis" doc:"Redis 7 or Valkey, which bridges instances. Absent: one instance, in memory."`
	Endpoints      []Endpoint        `key:"endpoints" required:"true" doc:"Paths that clients connect to."`
	Auth           map[string]Auth   `key:"auth" doc:"Ways to find out who a client is, by a name that endpoints refer to."`
	Rooms          []Room            `key:"rooms" required:"true" doc:"Rules of rooms. The first match wins; a room that none matches is forbidden."`
	Filters        map[string]Filter `key:"filters" doc:"Moderation filters, by a name that rooms refer to. docs/filters.md has the built-in ones, docs/plugins.md how to write others."`
	Telemetry      Telemetry         `key:"telemetry" doc:"What relay tells about itself."`
	Drain          Drain             `key:"drain" doc:"How an instance ends."`
}

// TLS is a certificate.
type TLS struct {
	Cert string `key:"cert" required:"true" doc:"PEM file with the certificate and its chain; reloaded when it changes."`
	Key  string `key:"key" required:"true" doc:"PEM file with the private key; reloaded when it changes."`
}

// Admin is the operators' listener.
type Admin struct {
	Listen string `key:"listen" default:"127.0.0.1:5001" doc:"Address; empty: no listener. It serves /livez, /readyz and metrics."`
	Key    Secret `key:"key" doc:"Signs debug tokens (relay token --debug), which make a message be traced in full; at least 32 bytes. Absent: no such token is good." example:"${RELAY_KEY}"`
}

// Redis is where instances meet. Exactly one of URL, Sentinel and Cluster is set.
type Redis struct {
	URL      URL       `key:"url" doc:"One server: redis://host:port/db, or rediss:// for TLS." example:"redis://localhost:6379/0"`
	Sentinel *Sentinel `key:"sentinel" doc:"A primary that Sentinels know."`
	Cluster  *Cluster  `key:"cluster" doc:"A cluster of Redis 7 or later; messages travel by sharded pub/sub."`
	Prefix   string    `key:"prefix" default:"relay" doc:"First part of every key and channel. Instances with the same prefix are one relay."`
	User     string    `key:"user" doc:"ACL user."`
	Password Secret    `key:"password" doc:"Password." example:"${REDIS_PASSWORD}"`
	TLS      *RedisTLS `key:"tls" doc:"TLS to Redis, with Sentinel or Cluster, or with other than the system's authorities."`
}

// Sentinel finds the primary.
type Sentinel struct {
	Master   string   `key:"master" required:"true" doc:"Name of the primary."`
	Addrs    []string `key:"addrs" required:"true" doc:"Addresses of Sentinels, host:port."`
	User     string   `key:"user" doc:"ACL user at the Sentinels."`
	Password Secret   `key:"password" doc:"Password at the Sentinels."`
}

// Cluster lists where to find its members.
type Cluster struct {
	Addrs []string `key:"addrs" required:"true" doc:"Addresses of some nodes, host:port; the rest are found."`
}

// RedisTLS is how Redis proves who it is.
type RedisTLS struct {
	CA                 string `key:"ca" doc:"PEM file with the authorities. Default: the system's."`
	Cert               string `key:"cert" doc:"PEM file with a client certificate."`
	Key                string `key:"key" doc:"PEM file with its key."`
	ServerName         string `key:"server_name" doc:"Name in the server's certificate, if it is not the host's."`
	InsecureSkipVerify bool   `key:"insecure_skip_verify" default:"false" doc:"Do not check the server's certificate. For tests only."`
}

// Endpoint is a path with its own rules.
type Endpoint struct {
	Path        string    `key:"path" required:"true" doc:"Path of the URL." example:"/ws"`
	Auth        []string  `key:"auth" required:"true" doc:"Names under auth. The first whose credential is present decides; guests only when none was presented." example:"[users, guests]"`
	Rooms       []string  `key:"rooms" doc:"Rooms that can be reached from here, by glob. Default: all." example:"[\"support-*\", lobby]"`
	Origins     []string  `key:"origins" doc:"Pages that may connect, scheme://host[:port], or \"*\". Default: the same host. Cookie tokens require a list without \"*\"." example:"[\"https://app.example.com\"]"`
	Limits      Limits    `key:"limits" doc:"Bounds, for this instance."`
	Heartbeat   Heartbeat `key:"heartbeat" doc:"Pings, which find out who is gone."`
	Queue       Queue     `key:"queue" doc:"What waits for a client that reads slowly."`
	Compression bool      `key:"compression" default:"false" doc:"Offer permessage-deflate. It costs CPU and memory and saves bandwidth."`
	Trace       Trace     `key:"trace" doc:"Which messages from here become traces, and whether clients have a say."`
}

// Limits bound an endpoint.
type Limits struct {
	Connections        int  `key:"connections" default:"100000" min:"0" doc:"Sockets at once; 0: no bound."`
	PerIP              int  `key:"per_ip" default:"0" min:"0" doc:"Sockets at once from one address (IPv6: from one /64); 0: no bound."`
	Connects           Rate `key:"connects" default:"500/s" doc:"Handshakes; more are answered 503 with Retry-After."`
	RoomsPerConnection int  `key:"rooms_per_connection" default:"100" min:"1" doc:"Rooms that one socket may be in."`
	FrameSize          Size `key:"frame_size" default:"64KiB" doc:"Bytes of one request, inflated if it came compressed; 2MiB at most."`
	Requests           Rate `key:"requests" default:"50/s" doc:"Requests of one socket."`
}

// Heartbeat is how silence is noticed.
type Heartbeat struct {
	Every   Duration `key:"every" default:"25s" doc:"Silence after which a client is pinged."`
	Timeout Duration `key:"timeout" default:"10s" doc:"Time to answer before the socket is closed with 4408."`
}

// SlowPolicy is what becomes of a client whose queue is full.
type SlowPolicy string

// The slow policies.
const (
	SlowDisconnect SlowPolicy = "disconnect"
	SlowShed       SlowPolicy = "shed"
)

// Queue bounds what waits for one client.
type Queue struct {
	MaxBytes Size       `key:"max_bytes" default:"1MiB" doc:"Bytes waiting for one socket."`
	Slow     SlowPolicy `key:"slow" default:"disconnect" enum:"disconnect,shed" doc:"At the bound: disconnect (4429; the client resumes), or shed signals, member events and plain chats first; sequenced messages never."`
}

// AuthType is a kind of authenticator.
type AuthType string

// The authenticators.
const (
	AuthAnonymous AuthType = "anonymous"
	AuthJWT       AuthType = "jwt"
	AuthAPIKey    AuthType = "apikey"
)

// Auth is one authenticator. Which fields count depends on Type.
type Auth struct {
	Type       AuthType          `key:"type" required:"true" enum:"anonymous,jwt,apikey" doc:"anonymous: guests, under the name they give themselves. jwt: signed tokens. apikey: long-lived keys of servers."`
	From       []string          `key:"from" doc:"jwt, apikey: where to look, in order: header, subprotocol, message, query:NAME, cookie:NAME. Default: header, subprotocol, message." example:"[header, subprotocol, message]"`
	Issuer     string            `key:"issuer" doc:"jwt: what iss has to be. With neither jwks, secret nor public_key, the keys are found by OIDC discovery." example:"https://id.example.com"`
	Audience   StringList        `key:"audience" doc:"jwt: one of which aud has to name; any waives that." example:"chat"`
	Algorithms []string          `key:"algorithms" doc:"jwt: signature algorithms that are accepted. Default: all that suit the kind of key." example:"[RS256, EdDSA]"`
	JWKS       string            `key:"jwks" doc:"jwt: URL of the issuer's keys, https (or http on loopback)."`
	Secret     Secret            `key:"secret" doc:"jwt: shared secret of at least 32 bytes, for HS256 and its like." example:"${JWT_SECRET}"`
	PublicKey  string            `key:"public_key" doc:"jwt: public key in PEM." example:"${file:/etc/relay/issuer.pem}"`
	User       UserClaims        `key:"user" doc:"jwt: where in the claims the user stands, as JSON pointers (RFC 6901)."`
	Keys       map[string]APIKey `key:"keys" doc:"apikey: the keys, by the name of their holder. relay key makes one."`
}

// UserClaims are JSON pointers into a token's claims.
type UserClaims struct {
	ID    string `key:"id" default:"/sub" doc:"The user's id."`
	Name  string `key:"name" default:"/name" doc:"The user's name."`
	Data  string `key:"data" doc:"Data that other members see, at most 1 KiB."`
	Roles string `key:"roles" doc:"Roles, an array of texts or one text with spaces." example:"/realm_access/roles"`
}

// APIKey is what relay knows of a key.
type APIKey struct {
	Hash  Secret   `key:"hash" required:"true" doc:"Hash that relay key printed."`
	Roles []string `key:"roles" doc:"Roles of the holder." example:"[service]"`
}

// Room is the rules of the rooms that match. A rule is a keyword (anyone,
// authenticated, members, nobody) or a CEL expression.
type Room struct {
	Match    string    `key:"match" required:"true" doc:"Glob over room ids: * is any run, {name} one part between - . : /, which rules see as room.params.name." example:"support-{team}-*"`
	Create   string    `key:"create" default:"authenticated" doc:"Who may create such a room, by create or by joining one that is not there."`
	Join     string    `key:"join" default:"authenticated" doc:"Who may join." example:"room.params.team in user.claims.teams"`
	Publish  string    `key:"publish" default:"members" doc:"Who may send messages and signals."`
	Moderate string    `key:"moderate" default:"nobody" doc:"Who may redact." example:"'agent' in user.roles"`
	Members  Members   `key:"members" doc:"Who is in the room."`
	Messages Messages  `key:"messages" doc:"What is said in the room."`
	Filters  []string  `key:"filters" doc:"Names under filters, which judge in this order." example:"[words, profanity]"`
	History  *History  `key:"history" doc:"Keep messages, in one order without gaps, so that clients can resume. Absent: plain pub/sub, at most once."`
	Trace    RoomTrace `key:"trace" doc:"Which messages of the room become traces."`
	Idle     Duration  `key:"idle" default:"24h" doc:"How long an empty room is remembered; not less than history.for."`
}

// Members are a room's people.
type Members struct {
	Max      int      `key:"max" default:"0" min:"0" doc:"Members at once, exact over all instances; 0: no bound."`
	Presence bool     `key:"presence" default:"true" doc:"List members."`
	Announce bool     `key:"announce" default:"true" doc:"Announce joins and leaves, up to 500 members."`
	Grace    Duration `key:"grace" default:"10s" doc:"How long a member whose socket was lost stays before it has left; 0s: not at all."`
}

// Messages bound what is said.
type Messages struct {
	MaxSize Size     `key:"max_size" default:"16KiB" doc:"Bytes of one message, as JSON."`
	Rate    Rate     `key:"rate" doc:"Messages and signals per user, room and instance. Absent: no bound." example:"5/s"`
	Burst   int      `key:"burst" default:"10" min:"1" doc:"How many may come at once, with rate."`
	Echo    bool     `key:"echo" default:"false" doc:"Send a message to its sender too, beside the ack."`
	Text    []string `key:"text" doc:"What people read in a message, as JSON pointers (RFC 6901): what filters look at. Default: the message itself where it is a text, and its members text, message, body, content and caption." example:"[\"\", /text]"`
}

// History is how much is kept.
type History struct {
	Keep int      `key:"keep" default:"200" min:"1" max:"100000" doc:"Newest messages kept."`
	For  Duration `key:"for" default:"24h" doc:"How long they are kept after the last one."`
}

// Telemetry is what relay tells about itself.
type Telemetry struct {
	Service string  `key:"service" doc:"Name of this service in logs, traces and metrics. Default: what OTEL_SERVICE_NAME says, or relay."`
	Traces  *Traces `key:"traces" doc:"Each message as a trace. Absent: none."`
	Metrics Metrics `key:"metrics" doc:"Numbers, for Prometheus and others."`
	Log     Log     `key:"log" doc:"Logs, to standard error."`
}

// Log is how logs are written.
type Log struct {
	Level  string `key:"level" default:"info" enum:"debug,info,warn,error" doc:"Least important level that is written."`
	Format string `key:"format" default:"auto" enum:"auto,json,text" doc:"auto: for people on a terminal, JSON elsewhere."`
}

// Drain is how an instance ends.
type Drain struct {
	Over    Duration `key:"over" default:"10s" doc:"Time over which sockets are closed, so that they do not all come back at once."`
	Timeout Duration `key:"timeout" default:"25s" doc:"Time after which the process ends whatever is left."`
}

// Dev is the configuration of dev mode: loopback only, everyone may do
// everything, in memory.
func Dev() *Config {
	cfg := new(Config)
	setDefaults(cfg)
	cfg.Listen = "127.0.0.1:5000"
	cfg.Admin.Listen = ""
	cfg.Auth = map[string]Auth{"guests": withDefaults[Auth]()}
	g := cfg.Auth["guests"]
	g.Type = AuthAnonymous
	cfg.Auth["guests"] = g
	e := withDefaults[Endpoint]()
	e.Path, e.Auth = "/", []string{"guests"}
	cfg.Endpoints = []Endpoint{e}
	r := withDefaults[Room]()
	h := withDefaults[History]()
	r.Match, r.Create, r.Join, r.Moderate, r.History = "*", "anyone", "anyone", "anyone", &h
	cfg.Rooms = []Room{r}
	cfg.Drain.Over = 0
	return cfg
}

// DevFilter adds a plugin that judges all chats and joins of dev mode and may do
// everything. mtls is off for plugins in other languages than Go.
func (c *Config) DevFilter(name string, command []string, mtls string) {
	f := withDefaults[Filter]()
	f.Command, f.Unpinned, f.MTLS, f.Mode = command, true, mtls, "enforce"
	f.Timeout = Duration(time.Second) // room for a debugger's print, and for Python's first message
	f.Actions = []string{"modify", "reject", "drop", "shadow", "warn", "mute", "kick", "ban"}
	if c.Filters == nil {
		c.Filters = make(map[string]Filter)
	}
	c.Filters[name] = f
	for i := range c.Rooms {
		c.Rooms[i].Filters = append(c.Rooms[i].Filters, name)
	}
}

// DevTraces makes every message of dev mode a trace, which goes where the
// OTEL_EXPORTER_OTLP_* variables say.
func (c *Config) DevTraces() {
	t := withDefaults[Traces]()
	t.UI = "http://localhost:16686/trace/{traceId}"
	_ = t.Sample.UnmarshalText([]byte("100%"))
	c.Telemetry.Traces = &t
}
