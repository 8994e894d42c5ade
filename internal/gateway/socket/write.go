package socket

import (
	"bytes"
	"compress/flate"
	"sync"

	"github.com/gorilla/websocket"
)

// chunk is how much is written at once. Progress is noticed chunk by chunk: a
// client that reads one chunk per WriteStall is slow, but not stuck.
const chunk = 16 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunk); return &b }}

// write is the writer: it takes what is queued, writes it in as few calls as it
// can, and ends when nothing is left.
func (c *conn) write() {
	defer c.group.work.Done()
	var items []item
	for {
		c.mu.Lock()
		items = c.queue.take(items)
		if len(items) == 0 || c.ended {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if !c.writeAll(items) {
			return // writing stays true: nobody is to try again
		}
	}
}

func (c *conn) writeAll(items []item) bool {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	b, last := (*buf)[:0], false
	for _, it := range items {
		p := it.raw
		if it.frame != nil {
			p = c.bytesOf(it.frame)
		}
		if len(b) > 0 && len(b)+len(p) > chunk {
			if !c.put(b) {
				return false
			}
			b = b[:0]
		}
		switch {
		case len(p) <= chunk && len(items) > 1:
			b = append(b, p...)
		default: // one frame alone, or too large to gather: no copy
			for len(p) > chunk {
				if !c.put(p[:chunk]) {
					return false
				}
				p = p[chunk:]
			}
			if !c.put(p) {
				return false
			}
		}
		last = last || (it.raw != nil && it.raw[0]&0x0f == websocket.CloseMessage)
	}
	if len(b) > 0 && !c.put(b) {
		return false
	}
	if last {
		c.lastWritten()
	}
	return true
}

// put writes b and notes the progress.
func (c *conn) put(b []byte) bool {
	n, err := c.net.Write(b)
	c.group.stats.BytesOut.Add(int64(n))
	c.group.stats.Writes.Add(1)
	c.mu.Lock()
	before := c.queue.bytes
	c.queue.written(n)
	c.group.stats.QueuedBytes.Add(int64(c.queue.bytes - before))
	c.progress = c.group.now()
	c.mu.Unlock()
	if err != nil {
		c.cut(Cause{By: Network, Err: err})
		return false
	}
	return true
}

// lastWritten is called when the close frame is out: the connection ends as
// soon as the client's has come too.
func (c *conn) lastWritten() {
	c.mu.Lock()
	c.closeSent = true
	peer := c.peerDone
	c.mu.Unlock()
	if peer {
		c.cut(Cause{})
	}
}

var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // the level is valid
	return w
}}

// deflate compresses one message (RFC 7692 section 7.2.1): a sync flush, whose
// four last bytes are left out. nil when it fails.
func deflate(dst, payload []byte) []byte {
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	if _, err := w.Write(payload); err != nil {
		return nil
	}
	if err := w.Flush(); err != nil {
		return nil
	}
	return bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
}
