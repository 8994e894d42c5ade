// Obey is a filter that does what a message tells it to, for tests.
package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

func main() {
	p := filter.Plugin{
		Name: "obey", Version: "1", Stateless: true, Judge: judge,
		Events:    []filter.Event{filter.Chat, filter.Signal, filter.Join},
		Actions:   []filter.Action{filter.ActionModify, filter.ActionReject, filter.ActionDrop, filter.ActionShadow},
		Sanctions: []filter.SanctionKind{filter.Warn, filter.Mute, filter.Kick, filter.Ban},
	}
	p.Serve()
}

func judge(ctx context.Context, m *filter.Message) (filter.Verdict, error) {
	if m.Event == filter.Join {
		if strings.HasPrefix(m.User.ID, "mallory") {
			return filter.Reject("not_you", "Not you."), nil
		}
		return filter.Allow(), nil
	}
	order, rest, _ := strings.Cut(m.Text(), " ")
	switch order {
	case "!modify":
		return filter.Modify(m.WithText(strings.ToUpper(rest))), nil
	case "!grow":
		return filter.Modify(m.WithText(strings.Repeat("x", 1<<20))), nil
	case "!reject":
		return filter.Reject("told_so", rest), nil
	case "!drop":
		return filter.Drop("told_so"), nil
	case "!shadow":
		return filter.Shadow("told_so"), nil
	case "!flag":
		return filter.Allow().Flag("told_so", 0.5), nil
	case "!warn":
		return filter.Allow().Warn(rest), nil
	case "!mute":
		return filter.Reject("told_so", "").Mute(time.Hour, rest), nil
	case "!mute-all":
		return filter.Allow().Mute(0, rest).Everywhere(), nil
	case "!kick":
		return filter.Allow().Kick(rest), nil
	case "!ban":
		return filter.Drop("").Ban(time.Hour, rest), nil
	case "!ban-all":
		return filter.Drop("").Ban(time.Hour, rest).Everywhere(), nil
	case "!error":
		return filter.Verdict{}, errors.New("told so")
	case "!crash":
		os.Exit(3)
	case "!panic":
		panic("told so")
	case "!sleep":
		<-ctx.Done()
		return filter.Verdict{}, ctx.Err()
	case "!later":
		go func() { _ = m.Later(filter.Reject("told_so", rest)) }()
	}
	return filter.Allow(), nil
}
