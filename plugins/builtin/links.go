package builtin

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wsrelay/relay/plugins/filter"
)

// LinksConfig is the configuration of the filter links.
type LinksConfig struct {
	Allow     []string `json:"allow,omitempty" jsonschema_description:"Domains whose links pass. example.com stands for its subdomains, too; *.example.com for these alone. Of several that fit a link, the longest counts."`
	Deny      []string `json:"deny,omitempty" jsonschema_description:"Domains whose links do not, likewise."`
	Default   string   `json:"default" jsonschema:"enum=deny,enum=allow" jsonschema_description:"What counts for links to all other domains."`
	Bare      bool     `json:"bare" jsonschema_description:"Also look at domains without https:// in front, as in example.com/x. Mail addresses are no links."`
	Disguised bool     `json:"disguised" jsonschema_description:"Also look at example[.]com, example(dot)com and example dot com."`
	Action    string   `json:"action" jsonschema:"enum=reject,enum=mask,enum=drop,enum=shadow,enum=flag" jsonschema_description:"What happens to a message with a link that does not pass: reject, mask (it passes with the link covered), drop, shadow or flag."`
	Mask      string   `json:"mask" jsonschema_description:"The character that covers, as often as the link has characters."`
	Code      string   `json:"code" jsonschema_description:"A word for programs: told to the sender of a refused message, and the label of a flag."`
	Reason    string   `json:"reason" jsonschema_description:"A sentence for people, told to the sender of a refused message."`
}

func defaultLinks() LinksConfig {
	return LinksConfig{
		Default: "deny", Bare: true, Disguised: true,
		Action: actReject, Mask: "*", Code: "links", Reason: "This link is not allowed here.",
	}
}

// links is the filter at work.
type links struct {
	config LinksConfig
	listed map[string]bool // by domain: whether links to it pass; *.example.com is .example.com
	mask   rune
}

// maxDomains bounds the lists.
const maxDomains = 100_000

func newLinks(c LinksConfig) (filter.Judge, error) {
	warm()
	errs := said("", c.Code, c.Reason)
	errs = append(errs,
		oneOf("/default", c.Default, "deny", "allow"),
		oneOf("/action", c.Action, actReject, actMask, actDrop, actShadow, actFlag))
	f := &links{config: c, listed: map[string]bool{}}
	var err error
	if f.mask, err = masking("/mask", c.Mask); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, f.list("/deny", c.Deny, false)...)
	errs = append(errs, f.list("/allow", c.Allow, true)...)
	if c.Default == "allow" && len(c.Deny) == 0 {
		errs = append(errs, filter.At("", "it refuses nothing: default is allow and deny is empty"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &screen{action: c.Action, code: c.Code, reason: c.Reason, hit: f.hit, mend: f.cover}
	return s.judge, nil
}

// list notes the domains of a list.
func (f *links) list(key string, domains []string, passes bool) (errs []error) {
	if len(domains) > maxDomains {
		return []error{filter.At(key, fmt.Sprintf("%d are too many, %d go", len(domains), maxDomains))}
	}
	for i, d := range domains {
		at := fmt.Sprintf("%s/%d", key, i)
		name, below := strings.CutPrefix(d, "*.")
		host := hostOf(name)
		switch {
		case host == "" || len(host) >= maxHost || strings.ContainsAny(host, "/:@?#* \t\r\n"):
			errs = append(errs, filter.At(at, fmt.Sprintf("%q is no domain: it is written like example.com or *.example.com", d)))
			continue
		case below:
			host = "." + host
		}
		if _, twice := f.listed[host]; twice {
			errs = append(errs, filter.At(at, fmt.Sprintf("%q is listed twice", d)))
		}
		f.listed[host] = passes
	}
	return errs
}

// passes reports whether a link to a host does. Of the domains that it is in, the
// longest that is listed decides.
func (f *links) passes(l link, host []byte) bool {
	for from := 0; from < len(host); {
		if p, ok := f.listed[string(host[from:])]; ok {
			return p && !l.odd
		}
		next := from
		for next < len(host) && host[next] != '.' {
			next++
		}
		if next == len(host) {
			break
		}
		if p, ok := f.listed[string(host[next:])]; ok { // .example.com, of *.example.com
			return p && !l.odd
		}
		from = next + 1
	}
	return l.weak || f.config.Default == "allow"
}

// next finds the next link that does not pass.
func (f *links) next(s *linkScan) (link, bool) {
	for {
		l, ok := s.next()
		if !ok || !f.passes(l, s.host[:l.host]) {
			return l, ok
		}
	}
}

func (f *links) scan(text string) linkScan {
	return linkScan{text: text, bare: f.config.Bare, disguised: f.config.Disguised}
}

func (f *links) hit(text string) bool {
	s := f.scan(text)
	_, ok := f.next(&s)
	return ok
}

// cover masks the links that do not pass. False: there would always be more.
func (f *links) cover(text string) (string, bool) {
	for range rounds {
		s := f.scan(text)
		var out []byte
		done := 0
		for {
			l, ok := f.next(&s)
			if !ok {
				break
			}
			out = append(out, text[done:l.from]...)
			out = cover(out, text[l.from:l.to], f.mask)
			done = l.to
		}
		text = string(append(out, text[done:]...))
		if !f.hit(text) {
			return text, true
		}
	}
	return text, false
}
