package membus

// Held is what a Broker keeps, counted anew rather than from its counters.
type Held struct {
	HistoryBytes, Keys, Rooms int64
	Records, Alarms           int
}

// Held counts, and returns the counters next to it; the two must agree.
func (b *Broker) Held() (counted, counters Held) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		for _, r := range s.rooms {
			for k := range r.stream.n {
				counted.HistoryBytes += cost(*r.stream.at(k))
			}
			counted.Keys += int64(r.keys.len())
			if r.exists {
				counted.Rooms++
			}
		}
		counted.Records += len(s.rooms)
		counted.Alarms += len(s.alarms)
		s.mu.Unlock()
	}
	counters = Held{b.historyBytes.Load(), b.keys.Load(), b.rooms.Load(), counted.Records, counted.Alarms}
	return counted, counters
}
