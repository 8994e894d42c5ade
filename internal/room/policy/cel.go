package policy

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
)

// MaxCost bounds the work of one evaluation, in CEL's units (about one per
// element or operation). An expression over it denies.
const MaxCost = 10_000

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

type compiler struct {
	env      *cel.Env
	failures *Failures
}

func newCompiler() (*compiler, error) {
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
	return &compiler{env: env, failures: new(Failures)}, nil
}

// program is a compiled expression, safe for concurrent use.
type program struct {
	expr        string
	prog        cel.Program
	failures    *Failures
	usesMembers bool
	params      []paramUse
}

// paramUse is a constant name that the expression looks up in room.params.
type paramUse struct {
	name   string
	offset int
}

func (c *compiler) compile(expr string) (*program, *Problem) {
	checked, iss := c.env.Compile(expr)
	if iss.Err() != nil {
		e := iss.Errors()[0]
		return nil, &Problem{Offset: e.Location.Column(), Message: explain(expr, e.Message)}
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && t.Kind() != types.DynKind {
		return nil, &Problem{Message: fmt.Sprintf("is %s, and must be true or false", t)}
	}
	prog, err := c.env.Program(checked, cel.CostLimit(MaxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &Problem{Message: err.Error()}
	}
	p := &program{expr: expr, prog: prog, failures: c.failures}
	p.inspect(checked.NativeRep())
	return p, nil
}

// inspect finds out what the expression looks at.
func (p *program) inspect(a *ast.AST) {
	fromRoom := func(e ast.Expr, field string) bool {
		return e.Kind() == ast.SelectKind && e.AsSelect().FieldName() == field &&
			e.AsSelect().Operand().Kind() == ast.IdentKind && e.AsSelect().Operand().AsIdent() == "room"
	}
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			if fromRoom(e, "members") {
				p.usesMembers = true
			}
			if fromRoom(e.AsSelect().Operand(), "params") {
				p.use(a, e, e.AsSelect().FieldName())
			}
		case ast.CallKind:
			call := e.AsCall()
			if call.FunctionName() == operators.Index && fromRoom(call.Args()[0], "params") && call.Args()[1].Kind() == ast.LiteralKind {
				if s, ok := call.Args()[1].AsLiteral().Value().(string); ok {
					p.use(a, e, s)
				}
			}
		}
	}))
}

func (p *program) use(a *ast.AST, e ast.Expr, name string) {
	p.params = append(p.params, paramUse{name, int(a.SourceInfo().GetStartLocation(e.ID()).Column())})
}

// checkParams refuses parameters that the room's match does not capture: they
// could only ever deny.
func (p *program) checkParams(names []string) *Problem {
	for _, u := range p.params {
		if !slices.Contains(names, u.name) {
			return &Problem{Offset: u.offset, Message: fmt.Sprintf("room.params.%s: the match captures no {%s}%s", u.name, u.name, didYouMean(u.name, names))}
		}
	}
	return nil
}

// eval runs the expression. Whatever is not a clear yes is a no.
func (p *program) eval(in *Input) (bool, string) {
	roles, claims, params := in.User.Roles, in.User.Claims, map[string]string(in.Params)
	out, _, err := p.prog.Eval(map[string]any{
		"user":     celUser{ID: in.User.ID, Name: in.User.Name, Roles: roles, Claims: claims, Guest: in.User.Guest},
		"room":     celRoom{ID: in.RoomID, Params: params, Members: int64(in.Members)},
		"client":   celClient{IP: in.ClientIP},
		"endpoint": in.Endpoint,
	})
	if err != nil {
		return false, p.failed(err)
	}
	ok, isBool := out.Value().(bool)
	if !isBool {
		p.failures.Other.Add(1)
		return false, fmt.Sprintf("the expression is %s, not true or false", out.Type().TypeName())
	}
	return ok, fmt.Sprintf("%s is %t", p.expr, ok)
}

// failed counts why an evaluation broke off, and tells it.
func (p *program) failed(err error) string {
	msg := err.Error()
	switch {
	case strings.Contains(msg, "no such key"), strings.Contains(msg, "no such attribute"), strings.Contains(msg, "no such field"):
		p.failures.Missing.Add(1)
	case strings.Contains(msg, "cost limit exceeded"):
		p.failures.Cost.Add(1)
		return fmt.Sprintf("more work than one rule may do (cost over %d)", MaxCost)
	default:
		p.failures.Other.Add(1)
	}
	return msg
}

var (
	undeclared = regexp.MustCompile(`undeclared reference to '([^']*)'`)
	noField    = regexp.MustCompile(`undefined field '([^']*)'`)
)

// explain turns CEL's message into one line that says what to write instead.
func explain(expr, msg string) string {
	msg, _, _ = strings.Cut(msg, "\n")
	if m := undeclared.FindStringSubmatch(msg); m != nil {
		names := []string{"user", "room", "endpoint", "client"}
		return fmt.Sprintf("there is no %q here%s; expressions see user, room, endpoint and client, and texts stand in single quotes", m[1], didYouMean(m[1], names))
	}
	if m := noField.FindStringSubmatch(msg); m != nil {
		names := []string{"id", "name", "roles", "claims", "guest", "params", "members", "ip"}
		return fmt.Sprintf("there is no field %q%s; user has id, name, roles, claims, guest; room has id, params, members; client has ip", m[1], didYouMean(m[1], names))
	}
	return strings.TrimSpace(strings.ReplaceAll(msg, "policy.cel", "")) + " in " + expr
}
