package plugins

import (
	"strings"
	"unicode/utf8"

	"github.com/wsrelay/relay/plugins/filter"
)

// The bounds of what goes with a verdict. A verdict beyond them still counts: it
// would be a poor moderator who lets spam pass because its reason is too long.
// What is too long is cut, what is too much is left out, and it is counted.
const (
	maxCode       = 64
	maxReason     = 512
	maxLabels     = 16 // of one filter
	maxAllLabels  = 64 // of all filters of a chain
	maxLabelName  = 64
	maxLabelValue = 256
	maxFlags      = 16
	maxFlagLabel  = 64
	maxSanctions  = 8
)

// tidy brings a verdict within the bounds, and says how many things it mended.
// What it changes it copies: a judge may keep its verdict.
func tidy(v *filter.Verdict) (mended int) {
	mend := func(s *string, to string) {
		if *s != to {
			*s = to
			mended++
		}
	}
	mend(&v.Code, code(v.Code))
	mend(&v.Reason, cut(v.Reason, maxReason))
	if !tidyFlags(v.Flags) {
		v.Flags = mendFlags(v.Flags)
		mended++
	}
	if !tidySanctions(v.Sanctions) {
		list := append([]filter.Sanction(nil), v.Sanctions[:min(len(v.Sanctions), maxSanctions)]...)
		for i := range list {
			list[i].Reason = cut(list[i].Reason, maxReason)
		}
		v.Sanctions = list
		mended++
	}
	if !tidyLabels(v.Labels) {
		v.Labels = mendLabels(v.Labels)
		mended++
	}
	return mended
}

// code makes a word for programs of what the filter gave.
func code(s string) string {
	for i := range len(s) {
		if !codeByte(s[i]) {
			s = strings.Map(func(r rune) rune {
				switch {
				case r < utf8.RuneSelf && codeByte(byte(r)):
					return r
				case r >= 'A' && r <= 'Z':
					return r + 'a' - 'A'
				}
				return '_'
			}, s)
			break
		}
	}
	return s[:min(len(s), maxCode)]
}

func codeByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_' || b == '.' || b == '-'
}

// cut shortens to n bytes, between runes, and mends what is no UTF-8.
func cut(s string, n int) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func tidyFlags(list []filter.Flag) bool {
	for _, f := range list {
		if cut(f.Label, maxFlagLabel) != f.Label || !(f.Score >= 0 && f.Score <= 1) {
			return false
		}
	}
	return len(list) <= maxFlags
}

func mendFlags(list []filter.Flag) []filter.Flag {
	list = append([]filter.Flag(nil), list[:min(len(list), maxFlags)]...)
	for i, f := range list {
		list[i].Label = cut(f.Label, maxFlagLabel)
		if f.Score >= 0 { // not so for NaN
			list[i].Score = min(f.Score, 1)
		} else {
			list[i].Score = 0
		}
	}
	return list
}

func tidySanctions(list []filter.Sanction) bool {
	for _, s := range list {
		if cut(s.Reason, maxReason) != s.Reason {
			return false
		}
	}
	return len(list) <= maxSanctions
}

func tidyLabels(m map[string]string) bool {
	for k, v := range m {
		if k == "" || cut(k, maxLabelName) != k || cut(v, maxLabelValue) != v {
			return false
		}
	}
	return len(m) <= maxLabels
}

// mendLabels leaves out what has an unusable name: a name that is cut could be
// another filter's.
func mendLabels(m map[string]string) map[string]string {
	out := make(map[string]string, maxLabels)
	for k, v := range m {
		if len(out) < maxLabels && k != "" && cut(k, maxLabelName) == k {
			out[k] = cut(v, maxLabelValue)
		}
	}
	return out
}
