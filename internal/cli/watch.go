package cli

import (
	"crypto/sha256"
	"os"
	"time"
)

// watchEvery is how often the configuration file is looked at. Polling sees what
// file events miss: a symlink that Kubernetes swaps, a network file system.
const watchEvery = 2 * time.Second

// watch notices that a file has other contents than when it was last looked at.
type watch struct {
	file string
	sum  [sha256.Size]byte
}

func newWatch(file string) *watch {
	w := &watch{file: file}
	w.changed()
	return w
}

// changed reports whether the contents are new. A file that cannot be read, or
// is empty because it is being written, has not changed yet.
func (w *watch) changed() bool {
	b, err := os.ReadFile(w.file)
	if err != nil || len(b) == 0 {
		return false
	}
	sum := sha256.Sum256(b)
	if sum == w.sum {
		return false
	}
	w.sum = sum
	return true
}
