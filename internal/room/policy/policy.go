// Package policy says which rules hold for a room, and who may do what in it.
//
// A message passes here right after it is parsed: the room's Policy was found
// when the socket joined, and answers whether this user may publish. A rule is a
// keyword or a CEL expression, compiled and type-checked when the configuration
// is loaded, so that at run time it can only say yes, no, or fail: and failing
// is no.
package policy

import (
	"time"

	"github.com/wsrelay/relay/auth"
)

// Action is something that a rule allows or not.
type Action uint8

// The actions that have rules.
const (
	Create Action = iota
	Join
	Publish
	Moderate
	actions
)

// String is the action's key in relay.yaml.
func (a Action) String() string { return [...]string{"create", "join", "publish", "moderate"}[a] }

// defaults are the rules of what a room's configuration leaves out.
var defaults = [actions]string{Create: "authenticated", Join: "authenticated", Publish: "members", Moderate: "nobody"}

// Spec is one entry of rooms in relay.yaml. Rules left empty take the default.
type Spec struct {
	Match                           string
	Create, Join, Publish, Moderate string
	Settings
}

// Settings are the parts of a policy that are not rules.
type Settings struct {
	MembersMax int           // over all instances; 0: no bound
	Presence   bool          // members are listed
	Announce   bool          // joins and leaves are announced
	Grace      time.Duration // how long a lost socket's member stays

	MaxMessage int64   // bytes; 0: no bound but the frame's
	Rate       float64 // messages per second and user; 0: no bound
	Burst      int
	Echo       bool     // the sender gets its own messages too
	Text       []string // JSON pointers to what filters read

	History *History      // nil: a plain room
	Idle    time.Duration // how long an empty room is remembered
}

// History is how much of a room's stream is kept.
type History struct {
	Keep int
	For  time.Duration
}

// Input is what a rule can look at.
type Input struct {
	User     *auth.Identity // nil: not known yet, less than a guest
	RoomID   string
	Params   Params
	Members  int  // of the room, as this instance last heard
	Member   bool // the user is in the room
	Endpoint string
	ClientIP string
}

// Decision is what a rule said. Why is for people who write rules; clients do
// not get to see it.
type Decision struct {
	Allowed bool
	Rule    string // path in relay.yaml, such as rooms[2].join
	Expr    string // the keyword or expression, the default one included
	Why     string
}

// Policy is one compiled entry.
type Policy struct {
	Settings
	Index int // in rooms
	Match string
	glob  *glob
	rules [actions]rule
}

// rule is one compiled keyword or expression. Exactly one of keyword and prog
// is set.
type rule struct {
	path    string
	expr    string
	keyword keyword
	prog    *program
}

type keyword uint8

const (
	noKeyword keyword = iota
	anyone
	authenticated
	members
	nobody
)

var keywords = map[string]keyword{"anyone": anyone, "authenticated": authenticated, "members": members, "nobody": nobody}

// Allow evaluates the action's rule. Keywords neither allocate nor touch CEL.
func (p *Policy) Allow(act Action, in *Input) Decision {
	r := &p.rules[act]
	d := Decision{Rule: r.path, Expr: r.expr}
	switch r.keyword {
	case anyone:
		d.Allowed, d.Why = true, "anyone may"
	case nobody:
		d.Why = "nobody may"
	case authenticated:
		d.Allowed = in.User != nil && !in.User.Guest
		d.Why = choose(d.Allowed, "the user is authenticated", "the user is not authenticated")
	case members:
		d.Allowed = in.Member
		d.Why = choose(d.Allowed, "the user is a member", "the user is not a member")
	default:
		d.Allowed, d.Why = r.prog.eval(in)
	}
	return d
}

// Expr is the keyword or expression of an action's rule.
func (p *Policy) Expr(act Action) string { return p.rules[act].expr }

// Static reports whether an action's rule says the same about one user in one
// room until the identity or the configuration changes, so that the answer can
// be kept.
func (p *Policy) Static(act Action) bool {
	r := &p.rules[act]
	return r.prog == nil || !r.prog.usesMembers
}

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// Set is all policies, in the order of the configuration.
type Set struct {
	policies []*Policy
	failures *Failures
}

// Failures gives the live counters.
func (s *Set) Failures() *Failures { return s.failures }

// Match finds the first policy for a room, nil when there is none: the room is
// forbidden then.
func (s *Set) Match(room string) (*Policy, Params) {
	for _, p := range s.policies {
		if params, ok := p.glob.match(room); ok {
			return p, params
		}
	}
	return nil, nil
}

// Each calls f for every policy, in order.
func (s *Set) Each(f func(*Policy)) {
	for _, p := range s.policies {
		f(p)
	}
}
