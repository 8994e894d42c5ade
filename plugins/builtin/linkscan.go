package builtin

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// link is an address in a text.
type link struct {
	from, to int  // bytes
	host     int  // bytes of its name, in linkScan.host
	weak     bool // it may well be no address: judged only if its host is listed
	odd      bool // its host goes on with what names do not have: no list allows it
}

// linkScan finds the addresses of a text from left to right.
type linkScan struct {
	text      string
	bare      bool // addresses without a scheme, too
	disguised bool // and such as example[.]com and "example dot com"

	at, done int               // where it stands; the end of the last address
	steps    int               // for tests that bound them
	host     [maxHost + 1]byte // the name that was read last, as names are compared
	ends     [maxLabels]labelEnd
}

// maxLabels is how many parts of a name are looked at: more do not fit.
const maxLabels = maxHost/2 + 1

// labelEnd is where a label of a name ends, in the text and in the name.
type labelEnd struct {
	text, host int
	before     separator // what stands before the label
}

// separator is how a dot is written.
type separator uint8

const (
	point   separator = iota // . or a character that browsers take for it
	bracket                  // [.] or (dot)
	spelled                  // dot, as a word
)

// next finds the next address.
func (s *linkScan) next() (l link, ok bool) {
	for s.at < len(s.text) {
		i := s.at
		switch c := s.text[i]; {
		case c == ':':
			if l, ok = s.url(i); ok {
				return l, true
			}
		case !s.bare:
		case c == '.' || c >= 0xe2, s.disguised && (c == '[' || c == '(' || c == '{' || c == ' '):
			if n, _ := s.dot(i); n > 0 {
				if l, ok = s.name(i); ok {
					return l, true
				}
			}
		}
		s.at = max(s.at, i+1)
	}
	return link{}, false
}

// url reads an address whose scheme ends at the colon i.
func (s *linkScan) url(i int) (link, bool) {
	from := i
	for from > s.done && i-from < 16 && isScheme(s.text[from-1]) {
		from--
	}
	for from < i && !isASCIILetter(s.text[from]) {
		from++
	}
	to := i + 1
	for to < len(s.text) && (s.text[to] == '/' || s.text[to] == '\\') {
		to++
	}
	web := isWeb(s.text[from:i])
	if i-from < 2 || to-i < 3 && !web {
		return link{}, false
	}
	end := to
	if to-i >= 2 { // so that the next scheme is behind its end
		end = s.authority(to)
	}
	if at := strings.LastIndexByte(s.text[to:end], '@'); at >= 0 {
		to += at + 1
	}
	l := link{from: from}
	if to < end && s.text[to] == '[' && !s.isPoint(to) {
		l.host, l.to = copy(s.host[:maxHost], s.text[to:end]), end
	} else {
		n, long := s.labels(to, false)
		switch {
		case long: // no list has it
			l.to = to
		case n == 0, n == 1 && to-i < 2: // "http: it is slow"
			return link{}, false
		default:
			l.to, l.host = s.ends[n-1].text, s.existing(n)
			l.odd = odd(s.text[min(l.to, end):end])
		}
		if strings.IndexByte(s.text[to:end], '%') >= 0 {
			l.host = s.unescape(s.text[to:end])
		}
	}
	l.to = s.rest(l.to)
	s.at, s.done = l.to, l.to
	return l, true
}

// existing is how long the name of n labels is in s.host, without what follows in
// a text that puts no space behind it: "https://example.com。很好" cannot lead
// anywhere, so what people see counts. Labels in ASCII stay, since new top-level
// domains come up.
func (s *linkScan) existing(n int) int {
	for m := n; m >= 2; m-- {
		begin, end := s.ends[m-2].host+1, s.ends[m-1].host
		top := s.host[begin:end]
		plain := 0
		for plain < len(top) && top[plain] < utf8.RuneSelf {
			plain++
		}
		switch {
		case topLevel()[string(top)]:
			return end
		case plain == len(top):
			return s.ends[n-1].host
		case topLevel()[string(top[:plain])]:
			return begin + plain
		}
	}
	return s.ends[n-1].host
}

// odd reports whether there is more behind a name than a port and punctuation:
// browsers take "good.com,x.evil.com" for one name.
func odd(tail string) bool {
	if port, ok := strings.CutPrefix(tail, ":"); ok {
		tail = strings.TrimLeft(port, "0123456789")
	}
	return strings.ContainsFunc(tail, func(r rune) bool { return isHost(r) || r == '%' })
}

// unescape reads a name with percent-encoded characters, which browsers decode,
// into s.host, and returns its length there: 0, if it is none.
func (s *linkScan) unescape(authority string) int {
	name, _, _ := strings.Cut(authority, ":")
	plain, err := url.PathUnescape(name)
	if err != nil {
		return 0
	}
	host := hostOf(plain)
	if len(host) > maxHost {
		return 0
	}
	return copy(s.host[:], host)
}

// authority goes to the end of what may have the name of a user and a host.
func (s *linkScan) authority(i int) int {
	for i < len(s.text) && s.text[i] > ' ' && strings.IndexByte("/\\?#\"<>`", s.text[i]) < 0 {
		s.steps++
		i++
	}
	return i
}

// rest goes to the end of an address: to a space or a quote, but not over the
// punctuation at its end.
func (s *linkScan) rest(i int) int {
	from := i
	for i < len(s.text) {
		r, n := utf8.DecodeRuneInString(s.text[i:])
		if r <= ' ' || r == '"' || r == '<' || r == '>' || r == '`' || r >= utf8.RuneSelf && glyphOf(r).kind == space {
			break
		}
		s.steps++
		i += n
	}
	for i > from && strings.IndexByte(".,;:!?)]}'*", s.text[i-1]) >= 0 {
		i--
	}
	return i
}

// name reads an address without a scheme, of which a dot stands at i.
func (s *linkScan) name(i int) (link, bool) {
	from := i
	var written script
	for from > s.done {
		r, n := utf8.DecodeLastRuneInString(s.text[s.done:from])
		if !isHost(r) || !written.goesOn(r) {
			break
		}
		s.steps++
		from -= n
	}
	for from < i && (s.text[from] == '-' || s.text[from] == '_') {
		from++
	}
	n, _ := s.labels(from, true)
	if n < 2 {
		return link{}, false
	}
	s.at = s.ends[n-1].text
	l, ok := s.ending(from, n)
	for ; n > 2 && (!ok || l.weak); n-- {
		// "evil.com.It works": a space is missing, and people see an address.
		if short, fits := s.ending(from, n-1); fits && !short.weak && s.cutOff(n) {
			l, ok = short, true
		}
	}
	if ok {
		s.at, s.done = l.to, l.to
	}
	return l, ok
}

// cutOff reports whether the last of n labels may be no part of the name.
func (s *linkScan) cutOff(n int) bool {
	first := s.text[s.ends[n-2].text+1]
	begin := 0
	if n > 2 {
		begin = s.ends[n-3].host + 1
	}
	top := string(s.host[begin:s.ends[n-2].host])
	return first >= 'A' && first <= 'Z' || top == "com" || top == "net" || top == "org"
}

// ending reads an address that begins at from and has a name of n labels.
func (s *linkScan) ending(from, n int) (link, bool) {
	end, begin := s.ends[n-1], s.ends[n-2].host+1
	top := s.host[begin:end.host]
	more := s.more(end.text)
	host := s.host[:end.host]
	l := link{from: from, to: end.text, host: end.host}
	address := more && n == 4 && digits(host) // of IPv4
	switch {
	case !address && !topLevel()[string(top)] || s.mail(from, end.text, more):
		return link{}, false
	case more:
		l.to = s.rest(end.text)
		return l, true
	case end.before == bracket || strings.HasPrefix(string(host), "www."):
		return l, true
	}
	l.weak = ambiguous()[string(top)] || s.capitalized(end.text, len(top)) || digits(s.host[:begin])
	if end.before == spelled && (l.weak || n == 2 && isArticle(s.host[:s.ends[0].host])) {
		return link{}, false
	}
	return l, true
}

// isArticle reports whether what stands before "dot com" is no name.
func isArticle(s []byte) bool {
	return string(s) == "the" || string(s) == "a" || string(s) == "dot"
}

// more reports whether a port or a path follows.
func (s *linkScan) more(i int) bool {
	if i+1 >= len(s.text) {
		return false
	}
	c, d := s.text[i], s.text[i+1]
	return c == '/' && d > ' ' || c == ':' && d >= '0' && d <= '9' || (c == '?' || c == '#') && isHost(rune(d))
}

// mail reports whether text[from:to] is a part of a mail address.
func (s *linkScan) mail(from, to int, more bool) bool {
	if to+1 < len(s.text) && s.text[to] == '@' && isHost(rune(s.text[to+1])) {
		return true
	}
	return from >= 2 && s.text[from-1] == '@' && isHost(rune(s.text[from-2])) && !more
}

// capitalized reports whether the last n bytes before end begin a sentence, as in
// "stop.Now": but not where they are what most addresses end with.
func (s *linkScan) capitalized(end, n int) bool {
	if n > end {
		return false
	}
	top := s.text[end-n : end]
	if top[0] < 'A' || top[0] > 'Z' || n < 2 || top[1] < 'a' {
		return false
	}
	return top != "Com" && top != "Net" && top != "Org"
}

// digits reports whether a name has nothing but digits in all labels.
func digits(host []byte) bool {
	for _, c := range host {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return true
}

// labels reads a name at i into s.host and s.ends, and returns how many labels it
// has; long: it has more, and is no name that exists. Bare: no scheme stands
// before it, so dots may be words, and a label ends where the script changes.
func (s *linkScan) labels(i int, bare bool) (n int, long bool) {
	size, before := 0, point
	for n < maxLabels {
		end := i
		var written script
		for end < len(s.text) {
			r, w := utf8.DecodeRuneInString(s.text[end:])
			if !isHost(r) || bare && !written.goesOn(r) {
				break
			}
			s.steps++
			end += w
		}
		if end == i {
			break
		}
		if n > 0 {
			s.host[size] = '.'
			size++
		}
		out := appendLabel(s.host[:size:maxHost], s.text[i:end])
		if len(out) == size || len(out) > maxHost-1 {
			return n, true
		}
		size = len(out)
		s.ends[n] = labelEnd{end, size, before}
		n++
		width, how := s.dot(end)
		if width == 0 || how == spelled && !bare {
			break
		}
		i, before = end+width, how
	}
	return n, false
}

func (s *linkScan) isPoint(i int) bool {
	n, _ := s.dot(i)
	return n > 0
}

// dot measures what stands for a dot at i: 0, nothing does.
func (s *linkScan) dot(i int) (n int, how separator) {
	if i >= len(s.text) {
		return 0, point
	}
	switch c := s.text[i]; {
	case c == '.':
		return 1, point
	case c >= utf8.RuneSelf:
		if r, n := utf8.DecodeRuneInString(s.text[i:]); isDot(r) {
			return n, point
		}
		return 0, point
	case !s.disguised:
		return 0, point
	}
	rest := s.text[i:min(len(s.text), i+8)]
	if rest[0] == ' ' {
		n, rest = 1, rest[1:]
	}
	if n == 1 && len(rest) >= 5 && rest[3] == ' ' && strings.EqualFold(rest[:3], "dot") {
		return 5, spelled
	}
	if rest == "" {
		return 0, point
	}
	shut := strings.IndexByte("[({", rest[0])
	if shut < 0 {
		return 0, point
	}
	inner, after, ok := strings.Cut(rest[1:], "])}"[shut:shut+1])
	if !ok || inner != "." && !strings.EqualFold(inner, "dot") {
		return 0, point
	}
	n += 2 + len(inner)
	if strings.HasPrefix(after, " ") {
		n++
	}
	return n, bracket
}

func isScheme(c byte) bool {
	return isASCIILetter(c) || c >= '0' && c <= '9' || c == '+' || c == '.' || c == '-' || c == '*'
}

// isWeb reports whether a scheme is that of the web, or is meant to be read so.
func isWeb(scheme string) bool {
	switch strings.ToLower(scheme) {
	case "http", "https", "hxxp", "hxxps", "h**p", "h**ps", "ftp":
		return true
	}
	return false
}
