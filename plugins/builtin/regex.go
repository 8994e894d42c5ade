package builtin

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/wsrelay/relay/plugins/filter"
)

// RegexConfig is the configuration of the filter regex.
type RegexConfig struct {
	Rules []RegexRule `json:"rules" jsonschema:"required" jsonschema_description:"The rules, asked in this order. The first one that ends the message decides; masks and flags add up until then."`
}

// RegexRule is one rule of the filter regex.
type RegexRule struct {
	Pattern string `json:"pattern" jsonschema:"required" jsonschema_description:"Regular expression of RE2, found anywhere in a text unless it has ^ or $. (?i) at its start ignores case."`
	Action  string `json:"action,omitempty" jsonschema:"enum=reject,enum=mask,enum=flag,enum=drop,enum=shadow,default=reject" jsonschema_description:"What happens to a message with such a text. mask covers each place that the pattern finds."`
	Mask    string `json:"mask,omitempty" jsonschema:"default=*" jsonschema_description:"The character that covers, with action mask."`
	Code    string `json:"code,omitempty" jsonschema:"default=pattern" jsonschema_description:"A word for programs: told to the sender of a refused message, and the label of a flag."`
	Reason  string `json:"reason,omitempty" jsonschema:"default=This message is not allowed here." jsonschema_description:"A sentence for people, told to the sender of a refused message."`
}

func defaultRegex() RegexConfig { return RegexConfig{} }

// regexRule is a rule at work.
type regexRule struct {
	screen
	pattern *regexp.Regexp
	mask    rune
}

// maxRules and maxPattern bound what a message costs.
const (
	maxRules   = 1000
	maxPattern = 4096 // bytes
)

func newRegex(c RegexConfig) (filter.Judge, error) {
	warm()
	if len(c.Rules) == 0 {
		return nil, filter.At("/rules", "there are none")
	}
	if len(c.Rules) > maxRules {
		return nil, filter.At("/rules", fmt.Sprintf("%d are too many, %d go", len(c.Rules), maxRules))
	}
	var errs []error
	rules := make(regexRules, len(c.Rules))
	for i, rule := range c.Rules {
		errs = append(errs, rules[i].compile(fmt.Sprintf("/rules/%d", i), rule)...)
	}
	return rules.judge, errors.Join(errs...)
}

// compile fills in what a rule leaves out and makes it ready.
func (r *regexRule) compile(at string, c RegexRule) (errs []error) {
	for _, d := range []struct {
		field *string
		value string
	}{{&c.Action, actReject}, {&c.Mask, "*"}, {&c.Code, "pattern"}, {&c.Reason, "This message is not allowed here."}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	errs = append(said(at, c.Code, c.Reason), oneOf(at+"/action", c.Action, actReject, actMask, actFlag, actDrop, actShadow))
	var err error
	if r.mask, err = masking(at+"/mask", c.Mask); err != nil {
		errs = append(errs, err)
	}
	switch {
	case c.Pattern == "":
		return append(errs, filter.At(at+"/pattern", "empty"))
	case len(c.Pattern) > maxPattern:
		return append(errs, filter.At(at+"/pattern", fmt.Sprintf("%d bytes are too long, %d go", len(c.Pattern), maxPattern)))
	}
	if r.pattern, err = regexp.Compile(c.Pattern); err != nil {
		return append(errs, filter.At(at+"/pattern", strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
	}
	if r.pattern.MatchString("") {
		errs = append(errs, filter.Problem{Path: at + "/pattern", Message: "finds something even in an empty text", Warning: true})
	}
	r.screen = screen{action: c.Action, code: c.Code, reason: c.Reason, hit: r.pattern.MatchString, mend: r.cover}
	return errs
}

// cover masks what the pattern finds in a text.
func (r *regexRule) cover(text string) (string, bool) {
	var out []byte
	done := 0
	for _, at := range r.pattern.FindAllStringIndex(text, -1) {
		out = append(out, text[done:at[0]]...)
		out = cover(out, text[at[0]:at[1]], r.mask)
		done = at[1]
	}
	return string(append(out, text[done:]...)), true
}

type regexRules []regexRule

// judge is a filter.Judge. Each rule sees the texts as those before it left them.
func (rules regexRules) judge(ctx context.Context, m *filter.Message) (filter.Verdict, error) {
	var all filter.Verdict
	for i := range rules {
		v, err := rules[i].screen.judge(ctx, m)
		switch {
		case err != nil:
			return v, err
		case v.Action == filter.ActionModify:
			m = retold(m, v.Texts)
			all.Action, all.Texts = v.Action, v.Texts
		case v.Action != filter.ActionAllow:
			v.Flags = append(all.Flags, v.Flags...)
			return v, nil
		}
		all.Flags = append(all.Flags, v.Flags...)
	}
	return all, nil
}

// retold is the message with other texts.
func retold(m *filter.Message, texts []string) *filter.Message {
	next := *m
	next.Texts = make([]filter.Text, len(texts))
	for i, s := range texts {
		next.Texts[i] = filter.Text{Pointer: m.Texts[i].Pointer, Text: s}
	}
	return &next
}
