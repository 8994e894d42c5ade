// Package filtertest lets the author of a moderation plugin test it, in process
// and as the process that relay will run.
//
//	func TestJudge(t *testing.T) {
//		s := filtertest.InProcess(t, Plugin(), `{"words": ["darn"]}`)
//		filtertest.RunTable(t, s, "table.yaml")
//	}
//
//	func TestProcess(t *testing.T) {
//		filtertest.Conform(t, filtertest.Spec{Command: []string{"./profanity"}})
//	}
//
// A [Subject] is a filter behind relay's own host, so that what a test sees is
// what a room would: verdicts beyond the plugin's word are errors, bounds are
// applied, processes that die are replaced. A [Table] is a file of cases that
// `relay plugin test` reads too, for plugins in any language.
package filtertest
