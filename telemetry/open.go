package telemetry

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxOpen bounds the deliveries that are followed at once; with one more, the
// oldest is ended.
const maxOpen = 16_384

// openDeliveries lists the deliveries that are followed, oldest first. Its mu is
// taken inside that of a Delivery, never around it.
type openDeliveries struct {
	mu    sync.Mutex
	root  Delivery // head and tail of a ring, as in container/list; guarded by mu
	count int      // guarded by mu

	names atomic.Int64 // that deliveries keep
}

// name reserves a place for the name of a receiver; false when there is none.
func (o *openDeliveries) name() bool {
	if o.names.Add(1) <= maxNames {
		return true
	}
	o.names.Add(-1)
	return false
}

// forget gives so many of them back.
func (o *openDeliveries) forget(names int) { o.names.Add(-int64(names)) }

func (o *openDeliveries) add(d *Delivery, now time.Time) {
	var oldest *Delivery
	o.mu.Lock()
	if o.root.next == nil {
		o.root.next, o.root.prev = &o.root, &o.root
	}
	if o.count >= maxOpen {
		oldest = o.root.next
		o.unlink(oldest)
	}
	d.began = now
	d.prev, d.next = o.root.prev, &o.root
	d.prev.next, d.next.prev = d, d
	o.count++
	o.mu.Unlock()
	if oldest != nil {
		oldest.expire(now)
	}
}

func (o *openDeliveries) remove(d *Delivery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d.next != nil {
		o.unlink(d)
	}
}

// unlink takes d out of the ring. mu is held.
func (o *openDeliveries) unlink(d *Delivery) {
	d.prev.next, d.next.prev = d.next, d.prev
	d.prev, d.next = nil, nil
	o.count--
}

// older lists those that began before a moment.
func (o *openDeliveries) older(than time.Time) (list []*Delivery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for d := o.root.next; d != nil && d != &o.root && d.began.Before(than); d = d.next {
		list = append(list, d)
	}
	return list
}
