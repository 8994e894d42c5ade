// Package builtin has the filters that need no process: words, regex, links,
// repeats, caps and length.
//
// Each is a [filter.Plugin], with a typed configuration whose schema is derived,
// so the host treats it as it treats a plugin: it describes itself, refuses a bad
// configuration with the place of each mistake, and answers messages with
// verdicts. It judges on the goroutine of the sender's socket, in well under a
// microsecond where it finds nothing, and allocates nothing then.
//
// The texts of a message are judged one by one; a message without a text passes.
// Of a user who wants to join, the name is judged, and the id where it was the
// user who chose it: whatever a filter would do to a text, there it refuses.
//
// What people send is hostile: whatever a text looks like, the time for it grows
// with its length and no faster, and bytes that are no UTF-8 stay as they are.
//
// docs/filters.md tells how to use them; its tables come out of the structs here.
package builtin
