package bench

// track is what one receiver has seen of one sender. It tells late from
// repeated as long as a message is among the last 64.
type track struct {
	newest uint64
	seen   uint64 // bit i: newest-i has come
	count  uint64 // of different messages
}

type arrival uint8

const (
	inOrder  arrival = iota // perhaps after a hole
	late                    // after one that was sent later
	repeated                // once more
)

// arrive notes a message.
func (t *track) arrive(number uint64) arrival {
	if number > t.newest {
		ahead := number - t.newest
		t.seen = t.seen<<ahead | 1 // a shift by 64 or more leaves nothing, as it should
		t.newest = number
		t.count++
		return inOrder
	}
	behind := t.newest - number
	switch {
	case behind >= 64: // nobody remembers whether it came: it stays counted as lost
		return late
	case t.seen&(1<<behind) != 0:
		return repeated
	}
	t.seen |= 1 << behind
	t.count++
	return late
}
