package policy

// Condition is an expression outside of room policies, such as whom a filter
// does not look at. It is safe for concurrent use.
type Condition struct{ prog *program }

// CompileCondition compiles a CEL expression over the same variables as rules
// see. There are no keywords. endpoints is as for Compile.
func CompileCondition(expr string, endpoints ...string) (*Condition, []Problem) {
	c, err := newCompiler(endpoints)
	if err != nil {
		return nil, []Problem{{Message: err.Error()}}
	}
	prog, problems := c.program(expr)
	if len(problems) > 0 {
		return nil, problems
	}
	return &Condition{prog}, nil
}

// Holds evaluates the expression. What fails does not hold.
func (c *Condition) Holds(in *Input) bool {
	yes, _ := c.prog.eval(in)
	return yes
}

// Failures gives the live counters.
func (c *Condition) Failures() *Failures { return c.prog.failures }
