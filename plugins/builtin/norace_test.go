//go:build !race

package builtin

const racing = false
