package plugins

import (
	"testing"

	"github.com/wsrelay/relay/plugins/filter"
)

func TestAPluginJudges(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "words", "role-words", wordsConfig{Words: []string{"spam"}, Tag: "v1"}))
	r := judge(t, c, chat(`{"text":"buy spam"}`))
	if r.Action != filter.ActionReject || r.Code != "word" || r.Filter != "words" || r.Unavailable {
		t.Fatalf("%+v", r)
	}
	if st := r.Steps[0]; !st.Plugin || st.Batch != 1 || st.Generation != 1 || st.Failure != "" {
		t.Errorf("%+v", st)
	}
	if r := judge(t, c, chat(`{"text":"hello"}`)); r.Action != filter.ActionAllow || len(r.Flags) != 1 || r.Flags[0].Label != "v1" {
		t.Errorf("%+v", r)
	}
	if st := status1(t, h); st.PID == 0 || st.Starts != 1 || st.Name != "words" || st.Breaker != "closed" || len(st.Results) != 2 {
		t.Errorf("%+v", st)
	}
}
