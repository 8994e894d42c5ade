//go:build !linux

package redisbus

import "net"

// quietly has nothing to gain here; see conn_linux.go.
func quietly(c net.Conn) net.Conn { return c }
