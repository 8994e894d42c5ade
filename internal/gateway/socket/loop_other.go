//go:build !linux

package socket

import "net"

// loop is for systems on which every connection has a goroutine.
type loop struct{}

func (*shard) stop() {}

// newPolled makes no connection without a goroutine here.
func newPolled(*shard, net.Conn, *Options) *conn { return nil }

func waiting(nc net.Conn) net.Conn { return nc }
