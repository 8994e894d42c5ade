//go:build !linux || !(amd64 || arm64)

package bench

import "errors"

func newEpoll() (network, error) { return nil, errors.ErrUnsupported }
