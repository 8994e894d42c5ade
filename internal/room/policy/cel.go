package policy

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"

	"github.com/wsrelay/relay/auth"
)

// Bounds on an expression and on the work of one evaluation. What goes over them
// at run time denies.
const (
	// MaxExpression is the longest expression, in characters.
	MaxExpression = 4096
	// MaxCost is what one evaluation may cost in CEL's units, about one for
	// each operation, list element and ten bytes of text.
	MaxCost = 10_000
	// MaxSize is how large a value that an expression looks at or makes may
	// be: one for each element, however deep, and each ten bytes of text. It is
	// there because cost is counted after each operation, and a list that was
	// doubled thirty times over makes the very next operation take a minute.
	MaxSize = 10_000
	// maxDepth is how deep such a value may be nested.
	maxDepth = 64
)

// What expressions see. Struct types, so that user.nmae is found at load.
type (
	celUser struct {
		ID     string         `cel:"id"`
		Name   string         `cel:"name"`
		Roles  []string       `cel:"roles"`
		Claims map[string]any `cel:"claims"`
		Guest  bool           `cel:"guest"`
	}
	celRoom struct {
		ID      string            `cel:"id"`
		Params  map[string]string `cel:"params"`
		Members int64             `cel:"members"`
	}
	celClient struct {
		IP string `cel:"ip"`
	}
)

// variables are the names that expressions start from, with the fields of those
// that have some.
var variables = map[string][]string{
	"user":     {"id", "name", "roles", "claims", "guest"},
	"room":     {"id", "params", "members"},
	"client":   {"ip"},
	"endpoint": nil,
}

type compiler struct {
	env       *cel.Env
	failures  *Failures
	functions []string // that expressions can call
	endpoints []string // nil: not known
	params    []string // that the match at hand captures; nil: not known
}

func newCompiler(endpoints []string) (*compiler, error) {
	env, err := cel.NewEnv(
		ext.NativeTypes(reflect.TypeFor[celUser](), reflect.TypeFor[celRoom](), reflect.TypeFor[celClient](), ext.ParseStructTags(true)),
		ext.Strings(), ext.Sets(),
		cel.Variable("user", cel.ObjectType("policy.celUser")),
		cel.Variable("room", cel.ObjectType("policy.celRoom")),
		cel.Variable("client", cel.ObjectType("policy.celClient")),
		cel.Variable("endpoint", cel.StringType),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing CEL: %w", err)
	}
	c := &compiler{env: env, failures: new(Failures), endpoints: endpoints}
	for name := range env.Functions() {
		if identifier(name) && !slices.Contains(growing, name) {
			c.functions = append(c.functions, name)
		}
	}
	c.functions = slices.Sorted(slices.Values(append(c.functions, slices.Collect(maps.Keys(macros))...)))
	return c, nil
}

// program is a compiled expression, safe for concurrent use.
type program struct {
	prog     cel.Program
	yes, no  string // why, made once
	failures *Failures
	inspection
}

// program compiles an expression, white space around it included so that
// offsets are those of the configuration.
func (c *compiler) program(expr string) (*program, []Problem) {
	if n := utf8.RuneCountInString(expr); n > MaxExpression {
		return nil, []Problem{{Offset: MaxExpression, Message: fmt.Sprintf("is an expression of %d characters; %d is the most", n, MaxExpression)}}
	}
	checked, iss := c.env.Compile(expr)
	if iss.Err() != nil {
		return nil, c.explain(expr, iss.Errors())
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && t.Kind() != types.DynKind {
		return nil, []Problem{{Offset: leading(expr), Message: fmt.Sprintf("gives %s, and must give true or false", typeName(t.String()))}}
	}
	found, problems := c.inspect(checked.NativeRep())
	if len(problems) > 0 {
		return nil, problems
	}
	if est, err := c.env.EstimateCost(checked, unknownSizes{}); err != nil {
		return nil, []Problem{{Message: fmt.Sprintf("its cost cannot be told: %v", err)}}
	} else if est.Min > MaxCost {
		return nil, []Problem{{Offset: leading(expr), Message: fmt.Sprintf("costs %d at the least, and a rule may cost %d", est.Min, MaxCost)}}
	}
	prog, err := c.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(MaxCost), cel.MemoryLimit(MaxSize),
		cel.MemoryTracking(types.MemoryTrackerSizeCalculator(types.NewSizeCalculator(
			types.SizeCalculatorMaxDepth(maxDepth), types.SizeCalculatorMaxTraversal(MaxSize)))))
	if err != nil {
		return nil, []Problem{{Offset: leading(expr), Message: strings.Join(strings.Fields(err.Error()), " ")}}
	}
	text := strings.Join(strings.Fields(expr), " ")
	return &program{prog: prog, yes: text + " is true", no: text + " is false", failures: c.failures, inspection: found}, nil
}

// unknownSizes makes estimates assume as little as possible of what is only
// known at run time.
type unknownSizes struct{}

func (unknownSizes) EstimateSize(cost.AstNode) *cost.SizeEstimate { return nil }

func (unknownSizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// activation hands an Input to CEL, one variable at a time.
type activation struct{ in *Input }

// nobodyYet stands for a user who is not known.
var nobodyYet = auth.Identity{Guest: true}

func (a activation) ResolveName(name string) (any, bool) {
	switch name {
	case "user":
		u := a.in.User
		if u == nil {
			u = &nobodyYet
		}
		return &celUser{ID: u.ID, Name: u.Name, Roles: u.Roles, Claims: u.Claims, Guest: u.Guest}, true
	case "room":
		return &celRoom{ID: a.in.RoomID, Params: a.in.Params, Members: int64(a.in.Members)}, true
	case "client":
		return &celClient{IP: a.in.ClientIP}, true
	case "endpoint":
		return a.in.Endpoint, true
	}
	return nil, false
}

func (activation) Parent() interpreter.Activation { return nil }

// Failures counts rules that could not be evaluated, each of which denied.
type Failures struct {
	Missing atomic.Int64 // a claim or another key is not there
	Cost    atomic.Int64 // over MaxCost or MaxSize
	Other   atomic.Int64 // anything else, such as a number where a text was meant
}

// eval runs the expression, and says why. Whatever is not a clear yes is a no.
func (p *program) eval(in *Input) (bool, string) {
	out, _, err := p.prog.Eval(activation{in})
	if err != nil {
		return false, p.failed(err)
	}
	switch out.Value() {
	case true:
		return true, p.yes
	case false:
		return false, p.no
	}
	p.failures.Other.Add(1)
	return false, fmt.Sprintf("the expression gave %s, not true or false", typeName(out.Type().TypeName()))
}

// failed counts why an evaluation broke off, and tells it.
func (p *program) failed(err error) string {
	if stopped := (interpreter.EvalCancelledError{}); errors.As(err, &stopped) {
		p.failures.Cost.Add(1)
		if stopped.Cause == interpreter.MemoryLimitExceeded {
			return fmt.Sprintf("size over %d: the expression looks at or makes more than a rule may", MaxSize)
		}
		return fmt.Sprintf("cost over %d: the expression does more work than a rule may", MaxCost)
	}
	// CEL has no type for a missing key, only this text; a test watches it.
	if msg := err.Error(); strings.HasPrefix(msg, "no such key") {
		p.failures.Missing.Add(1)
		return msg
	}
	p.failures.Other.Add(1)
	return typeName(err.Error())
}
