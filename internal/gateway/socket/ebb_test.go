package socket

import (
	"testing"
	"time"
)

func TestMemoryIsGivenBackOnceAfterAStorm(t *testing.T) {
	var w tide
	now, moved, said, ebbs := time.Duration(0), int64(0), int64(0), 0
	speak := func(d time.Duration, perTick, bytes int64) {
		for range d / tick {
			now += tick
			moved += perTick
			said += bytes
			if w.ebb(int64(now), moved, said) {
				ebbs++
			}
		}
	}
	pass := func(d time.Duration, perTick int64) { speak(d, perTick, 100) }
	pass(time.Hour, 1)
	if ebbs != 0 {
		t.Error("a trickle is no storm")
	}
	pass(10*time.Second, 500)
	if ebbs != 0 {
		t.Error("the storm is not over")
	}
	pass(time.Minute, 1)
	if ebbs != 1 {
		t.Errorf("%d times after one storm", ebbs)
	}
	pass(5*time.Second, 500)
	pass(5*time.Second, 0)
	pass(5*time.Second, 500)
	pass(time.Minute, 0)
	if ebbs != 3 {
		t.Errorf("%d times after three storms, two of them close together", ebbs)
	}
	pass(5*time.Second, 500)
	speak(time.Hour, 0, quietSaid+1)
	if ebbs != 3 {
		t.Error("everybody was held up, though there was much to say")
	}
	pass(3*time.Second, 0)
	if ebbs != 4 {
		t.Error("not given back when all fell silent")
	}
}
