package auth

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// BearerProtocol precedes a token among the subprotocols that a browser offers:
// new WebSocket(url, ["relay.v1", "bearer." + token]).
const BearerProtocol = "bearer."

// Place is one spot where a credential may stand. Name is the parameter's or the
// cookie's name for Query and Cookie, and empty for the others.
type Place struct {
	Source Source
	Name   string
}

// ParsePlace reads an entry of `from`: header, subprotocol, message, query:NAME or
// cookie:NAME.
func ParsePlace(s string) (Place, error) {
	source, name, named := strings.Cut(s, ":")
	p := Place{Source: Source(source), Name: name}
	switch p.Source {
	case Header, Subprotocol, Message:
		if named {
			return Place{}, fmt.Errorf("%s takes no name", source)
		}
	case Query, Cookie:
		if name == "" {
			return Place{}, fmt.Errorf("%s needs a name, as in %q", source, source+":token")
		}
		if strings.ContainsAny(name, " \t\r\n;,=&") {
			return Place{}, fmt.Errorf("%q is no name of a parameter or cookie", name)
		}
	default:
		return Place{}, fmt.Errorf("no place called %q: want header, subprotocol, message, query:NAME or cookie:NAME", source)
	}
	return p, nil
}

// String is the form that ParsePlace reads.
func (p Place) String() string {
	if p.Name == "" {
		return string(p.Source)
	}
	return string(p.Source) + ":" + p.Name
}

// Places is where credentials are looked for, in order.
type Places []Place

// defaultPlaces are those that cannot leak into access logs (as a query does) and
// that a foreign page cannot make a browser send (as a cookie).
func defaultPlaces() Places {
	return Places{{Source: Header}, {Source: Subprotocol}, {Source: Message}}
}

// parsePlaces reads the option `from`; empty means the default.
func parsePlaces(from []string) (Places, error) {
	if len(from) == 0 {
		return defaultPlaces(), nil
	}
	var (
		places Places
		errs   OptionErrors
	)
	for i, s := range from {
		p, err := ParsePlace(s)
		switch {
		case err != nil:
			errs.adopt(fmt.Sprintf("from[%d]", i), err)
		case slices.Contains(places, p):
			errs.add(fmt.Sprintf("from[%d]", i), "%q is listed twice", s)
		default:
			places = append(places, p)
		}
	}
	return places, errs.err()
}

// Has reports whether any place is of source.
func (p Places) Has(source Source) bool {
	return slices.ContainsFunc(p, func(q Place) bool { return q.Source == source })
}

// find returns the credential at the first place that holds one.
func (p Places) find(c Credentials) (string, bool) {
	for _, q := range p {
		v := c.Bearer[q.Source]
		if q.Name != "" {
			v = c.Named[q.Source][q.Name]
		}
		if v != "" {
			return v, true
		}
	}
	return "", false
}

// Collect gathers what a handshake presents: a bearer token in the Authorization
// header or among the subprotocols wherever there is one, so that a token nobody
// reads is noticed, and of queries and cookies only those named in p. Where one
// comes several times, the first counts.
func (p Places) Collect(r *http.Request) Credentials {
	var c Credentials // without maps where there is nothing, as with most guests
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "bearer") {
		c.setBearer(Header, textproto.TrimString(token))
	}
	if token, ok := bearerProtocol(r.Header); ok {
		c.setBearer(Subprotocol, token)
	}
	for _, q := range p {
		switch q.Source {
		case Query:
			if values, ok := r.URL.Query()[q.Name]; ok {
				c.setNamed(q, values[0])
			}
		case Cookie:
			if cookie, err := r.Cookie(q.Name); err == nil {
				c.setNamed(q, cookie.Value)
			}
		}
	}
	return c
}

func bearerProtocol(h http.Header) (string, bool) {
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for proto := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(textproto.TrimString(proto), BearerProtocol); ok {
				return token, true
			}
		}
	}
	return "", false
}

func (c *Credentials) setBearer(s Source, token string) {
	if c.Bearer == nil {
		c.Bearer = make(map[Source]string)
	}
	c.Bearer[s] = token
}

func (c *Credentials) setNamed(p Place, value string) {
	if c.Named == nil {
		c.Named = make(map[Source]map[string]string)
	}
	m := c.Named[p.Source]
	if m == nil {
		m = make(map[string]string)
		c.Named[p.Source] = m
	}
	m[p.Name] = value
}
