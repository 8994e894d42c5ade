package socket

import (
	"bytes"
	"compress/flate"
	"sync"
)

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
