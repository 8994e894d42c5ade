// Package plugins asks filters what is to become of a message before anybody
// sees it.
//
// A [Host] owns the filters of an instance: built-in ones, which judge in
// process, and plugins, which are processes of their own. [Host.Prepare] makes a
// [Set] of what the configuration names; everything that can go wrong goes wrong
// there. [Set.Chain] gives a room's policy the filters it names, in their order,
// as a [Chain], which is what a room asks (room.Filters). [Host.Commit] then puts
// the set in force and drains what only the one before it used.
//
// A message enters a chain with Chain.Judge on the goroutine of its sender's
// socket, and goes from filter to filter without a goroutine of its own: a
// built-in judges right there; for a plugin the message is queued, the session's
// sender takes all that is queued along as one batch, and the session's receiver
// carries the verdict on to the next filter. A message that gets no verdict
// within its budget, because the plugin is slow, frozen, dead or drowning, gets
// what the filter's on_error says. Nothing here waits for a plugin but the
// plugin's own goroutines.
//
// A plugin is trusted with what users write, and with little else. Its process has
// the environment that the configuration gives it and none of relay's, a socket in
// a folder that is nobody else's, and, on Linux, no way to read relay's memory or
// to trace it (unless it runs as root). It leads a process group, which is killed
// with it. When relay ends it goes first; when relay is killed, Linux kills it,
// and elsewhere the end of its standard input tells it to go. What a plugin has
// started itself and put into another group is beyond this, and so are, when relay
// is killed, all that it has started.
//
// Locks: unit.mu, the queue of one plugin, is never held while a chain goes on,
// and no lock of a chain is held while a room is told.
package plugins
