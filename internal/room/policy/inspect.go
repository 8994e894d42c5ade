package policy

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// growing are functions that make much text out of little in one step. CEL
// counts their cost only when the harm is done, and no rule needs them.
var growing = []string{"replace", "join", "format", "quote"}

// inspection is what was found out about an expression from how it reads.
type inspection struct {
	usesMembers bool // it may look at room.members
}

// inspector walks a type-checked expression.
type inspector struct {
	*compiler
	ast      *ast.AST
	selected map[int64]bool // uses of `room` of which only a harmless field is taken
	inspection
	problems []Problem
}

// inspect looks for what type-checks and yet can never be right, or cannot be
// bounded.
func (c *compiler) inspect(a *ast.AST) (inspection, []Problem) {
	v := &inspector{compiler: c, ast: a, selected: map[int64]bool{}}
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(v.visit))
	return v.inspection, v.problems
}

func (v *inspector) report(e ast.Expr, format string, args ...any) {
	at := 0
	if r, ok := v.ast.SourceInfo().GetOffsetRange(e.ID()); ok {
		at = int(r.Start)
	}
	v.problems = append(v.problems, Problem{Offset: at, Message: fmt.Sprintf(format, args...)})
}

func (v *inspector) visit(e ast.Expr) {
	switch e.Kind() {
	case ast.IdentKind:
		// Parents come first: what is left is `room` as a whole, or its members.
		if e.AsIdent() == "room" && !v.selected[e.ID()] {
			v.usesMembers = true
		}
	case ast.SelectKind:
		v.field(e)
	case ast.CallKind:
		v.call(e)
	case ast.StructKind:
		v.report(e, "an expression cannot make a %s", typeName(e.AsStruct().TypeName()))
	case ast.ComprehensionKind:
		for _, name := range []string{e.AsComprehension().IterVar(), e.AsComprehension().IterVar2()} {
			if _, taken := variables[name]; taken {
				v.report(e, "%s is taken: give the elements another name", name)
			}
		}
	}
}

func (v *inspector) field(e ast.Expr) {
	of, name := e.AsSelect().Operand(), e.AsSelect().FieldName()
	if isRoom(of) && name != "members" {
		v.selected[of.ID()] = true
	}
	if isParams(of) {
		v.param(e, name)
	}
}

// param checks a name that is looked up in room.params.
func (v *inspector) param(e ast.Expr, name string) {
	if lacks(v.params, name) {
		v.report(e, "room.params.%s: the match captures no {%s}%s", name, name, didYouMean(name, v.params))
	}
}

func (v *inspector) call(e ast.Expr) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	switch {
	case name == operators.Index && isParams(args[0]):
		if s, ok := text(args[1]); ok {
			v.param(e, s)
		}
	case name == operators.Equals || name == operators.NotEquals:
		v.compared(args[0], args[1])
		v.compared(args[1], args[0])
	case name == operators.In && args[1].Kind() == ast.ListKind:
		for _, elem := range args[1].AsList().Elements() {
			v.compared(args[0], elem)
		}
	case name == "matches":
		// Compiling a pattern that came with a token would be work that
		// nobody bounded.
		if _, ok := text(args[len(args)-1]); !ok {
			v.report(args[len(args)-1], "the pattern of matches() must stand here as text, such as matches('^a+$')")
		}
	case slices.Contains(growing, name) || name == "strings.quote":
		v.report(e, "%s() is not for rules: what it makes may be any size", name)
	}
}

// compared checks what the endpoint is compared with.
func (v *inspector) compared(a, b ast.Expr) {
	if a.Kind() != ast.IdentKind || a.AsIdent() != "endpoint" || len(v.endpoints) == 0 {
		return
	}
	if s, ok := text(b); ok && lacks(v.endpoints, s) {
		v.report(b, "there is no endpoint %q%s", s, didYouMean(s, v.endpoints))
	}
}

func isRoom(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == "room" }

func isParams(e ast.Expr) bool {
	return e.Kind() == ast.SelectKind && e.AsSelect().FieldName() == "params" && isRoom(e.AsSelect().Operand())
}

// text is the value of a text that stands in the expression.
func text(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok && utf8.ValidString(string(s))
}
