// Package filter is what the author of a moderation plugin in Go imports.
//
// A whole plugin is a function and a main:
//
//	func main() {
//		filter.Serve(func(ctx context.Context, m *filter.Message) (filter.Verdict, error) {
//			if strings.Contains(m.Text(), "viagra") {
//				return filter.Reject("spam", "We do not sell that here.").Flag("spam", 0.9), nil
//			}
//			return filter.Allow(), nil
//		})
//	}
//
// relay starts the program, asks it about every message of the rooms that name
// the filter, and does as the [Verdict] says before anybody sees the message. A
// panic costs that one message; a crash costs nothing but the time to start the
// next process. What the plugin logs with log/slog, and what it writes to
// standard error, goes to relay's log under the filter's name.
//
// A plugin that takes a configuration or does more than look at chats fills in a
// [Plugin] and calls [Plugin.Serve]. Package filtertest tests plugins.
//
// The contract on the wire, for other languages, is filterpb/filter.proto;
// docs/plugins.md tells the rest. Message and Verdict have exactly its fields.
package filter
