package bustest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// planted makes the embedded bus with a mistake in every instance.
func planted(m mutant) Factory {
	return func(t testing.TB, n int) *Backend {
		broker := membus.NewBroker(membus.Options{Lease: time.Second, MaxSanctions: 20})
		t.Cleanup(broker.Close)
		b := &Backend{}
		for range n {
			w := &wrapped{Bus: broker.Instance(), mutant: m}
			if m.wrap != nil {
				w.Bus = m.wrap(w.Bus)
			}
			b.Instances = append(b.Instances, w)
		}
		b.Another = func() bus.Bus { return broker.Instance() }
		return b
	}
}

var virtual = Capabilities{Bubble: synctest.Test, Lease: time.Second, ExactKeep: true, MaxSanctions: 20}.withDefaults()

// failures runs the directed tests, until one fails, and the random one.
func failures(t *testing.T, m mutant) (directed, random string) {
	for _, c := range contracts() {
		synctest.Test(t, func(t *testing.T) {
			r := record(t, func(t testing.TB) { c.run(t, planted(m), virtual) })
			if r.Failed() {
				directed = c.name + ": " + r.text()
			}
		})
		if directed != "" {
			break
		}
	}
	synctest.Test(t, func(t *testing.T) {
		random = record(t, func(t testing.TB) {
			if _, err := replay(t, planted(m), virtual, generate(1, 500, randomNodes, len(newModel().rooms))); err != nil {
				t.Error(err)
			}
			if _, err := replaySentences(t, planted(m), virtual, sentences(1, 200, randomNodes)); err != nil {
				t.Error(err)
			}
		}).text()
	})
	return directed, random
}

func TestTheSuitePassesWithoutAMistake(t *testing.T) {
	if directed, random := failures(t, mutant{}); directed != "" || random != "" {
		t.Errorf("directed %q\nrandom %q", directed, random)
	}
}

// TestTheSuiteFindsPlantedMistakes: a suite that passes whatever it is given is
// worth nothing.
func TestTheSuiteFindsPlantedMistakes(t *testing.T) {
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			directed, random := failures(t, m)
			if directed == "" {
				t.Error("no directed test failed")
			}
			if random == "" && !m.directedOnly {
				t.Error("the random test did not fail")
			}
			t.Logf("directed: %.300s", directed)
			t.Logf("random: %.300s", random)
		})
	}
}

func TestAFailureShowsFewOperationsAndTheSeed(t *testing.T) {
	var random string
	synctest.Test(t, func(t *testing.T) {
		random = record(t, func(t testing.TB) { runRandom(t, planted(mutants()[0]), virtual, 1, 500) }).text()
	})
	if n := strings.Count(random, "instance "); n > 20 || !strings.Contains(random, "-bustest.seed=1 -bustest.ops=500") {
		t.Errorf("%d operations are left of 500:\n%s", n, random)
	}
}
