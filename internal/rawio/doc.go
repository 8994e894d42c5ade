// Package rawio accepts, reads and writes descriptors that do not block, on Linux,
// without a word to Go's scheduler.
//
// A system call through package syscall tells the scheduler that the goroutine
// may be gone for long, and wakes a thread that looks after such calls every 20
// microseconds: at low rates that was a sixth of relay's processor time, and the
// scheduler another fifth (docs/performance.md). On a descriptor that does not
// block a call never lasts, so the scheduler need not hear of it. On one that
// does, these functions would hold up a processor: never use them there.
package rawio
