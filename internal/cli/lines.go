package cli

import (
	"bufio"
	"io"
)

// maxLine bounds a line of input that is no terminal, in bytes.
const maxLine = 64 << 10

// lineReader returns the lines of r, one per call.
func lineReader(r io.Reader) func() (string, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLine)
	return func() (string, error) {
		if sc.Scan() {
			return sc.Text(), nil
		}
		if err := sc.Err(); err != nil {
			return "", err
		}
		return "", io.EOF
	}
}
