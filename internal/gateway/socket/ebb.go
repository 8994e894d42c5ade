package socket

import "time"

// A storm of connections, such as all clients of an instance that went down,
// leaves behind some kilobytes for each handshake, and as much again as the
// garbage collector waits for. While sockets then lie quiet, Go would keep that
// for minutes. So the group tells when a storm is over, and has the memory given
// back once. That holds everybody up for tens of milliseconds, so it waits until
// next to nothing is said: who is busy has a use for the memory.
const (
	stormSize = 1000             // connections that came or went make a storm
	stormEnd  = 2 * time.Second  // it is over when so long next to nothing moves
	stormRest = 30 * time.Second // and not looked at again for so long
	quietSaid = 16 << 10         // bytes in a tick, in and out, that are next to nothing
)

// tide watches how many connections come and go, and how much they say.
type tide struct {
	seen  int64 // comings and goings, as of the last look
	said  int64 // bytes in and out, likewise
	calm  int64 // since then nothing moved or was said to speak of
	storm int64 // comings and goings since the last ebb
	last  int64 // time of it
}

// ebb reports that a storm has ended. moved counts all that came and went, ever,
// and said the bytes in and out; it is asked about once per tick.
func (t *tide) ebb(now, moved, said int64) bool {
	n := moved - t.seen
	if said-t.said > quietSaid {
		t.calm = now
	}
	t.seen, t.said = moved, said
	if n > stormSize/100 { // a trickle is no storm, however long
		t.storm += n
		t.calm = now
	}
	if t.storm < stormSize || now-t.calm < int64(stormEnd) || (t.last > 0 && now-t.last < int64(stormRest)) {
		return false
	}
	t.storm, t.last = 0, now
	return true
}
