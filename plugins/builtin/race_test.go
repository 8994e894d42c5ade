//go:build race

package builtin

// The race detector makes everything slow, and sync.Pool, which package regexp
// uses, forget at random.
const racing = true
