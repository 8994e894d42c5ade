package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds on what an issuer's servers can make us do.
const (
	fetchTimeout = 5 * time.Second
	maxDocument  = 1 << 20 // bytes of a key set or discovery document
	maxRedirects = 3       // each to the same host
)

// discoveryPath is where an OpenID provider describes itself, below its issuer
// URL (OpenID Connect Discovery 1.0 section 4).
const discoveryPath = "/.well-known/openid-configuration"

// remote is where an issuer's keys are published.
type remote struct {
	issuer string   // set: jwks_uri comes by discovery
	jwks   *url.URL // set when issuer is not
	client *http.Client
}

func newRemote(issuer string, jwks *url.URL, transport http.RoundTripper) *remote {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true, // one or two requests every few minutes
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &remote{issuer: issuer, jwks: jwks, client: &http.Client{
		Transport:     transport,
		Timeout:       fetchTimeout,
		CheckRedirect: sameHost,
	}}
}

// sameHost keeps an open redirect on the issuer's site from choosing our keys.
func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if next.URL.Host != first.Host || next.URL.Scheme != first.Scheme {
		return errors.New("it redirects to another host, which is not followed")
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	return nil
}

// keys fetches the key set, after discovery where that is how it is found: each
// time, as it is one small request and the issuer may move its keys. maxAge is how
// long the answer says it is good for, and 0 where it does not.
func (r *remote) keys(ctx context.Context) (keys []verifyKey, skipped []error, maxAge time.Duration, err error) {
	at := r.jwks
	if r.issuer != "" {
		if at, err = r.discover(ctx); err != nil {
			return nil, nil, 0, err
		}
	}
	body, header, err := r.document(ctx, at)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("fetching keys from %s: %w", plain(at), err)
	}
	if keys, skipped, err = parseKeySet(body); err != nil {
		return nil, nil, 0, fmt.Errorf("reading keys from %s: %w", plain(at), err)
	}
	return keys, skipped, lifetime(header), nil
}

func (r *remote) discover(ctx context.Context) (*url.URL, error) {
	at, err := keyURL(strings.TrimSuffix(r.issuer, "/") + discoveryPath)
	if err != nil {
		return nil, fmt.Errorf("discovering the keys of the issuer: %w", err)
	}
	body, _, err := r.document(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", plain(at), err)
	}
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("reading %s: %w", plain(at), err)
	}
	if doc.Issuer != r.issuer { // exactly: Discovery 1.0 section 4.3
		return nil, fmt.Errorf("%s is about the issuer %s, not %s; write the issuer exactly as it does", plain(at), quote(doc.Issuer), quote(r.issuer))
	}
	jwks, err := keyURL(doc.JWKS)
	if err != nil {
		return nil, fmt.Errorf("%s: jwks_uri: %w", plain(at), err)
	}
	if jwks.Scheme != "https" && !isLoopback(at.Hostname()) {
		return nil, fmt.Errorf("%s: jwks_uri points to this machine, where the issuer is not", plain(at))
	}
	return jwks, nil
}

// document gets one document, within the bounds.
func (r *remote) document(ctx context.Context, at *url.URL) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	req.Header.Set("User-Agent", "relay")
	resp, err := r.client.Do(req)
	if err != nil {
		var withURL *url.Error // repeats the URL, its query too
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, nil, err
	}
	if len(body) > maxDocument {
		return nil, nil, fmt.Errorf("its answer is longer than %d bytes", maxDocument)
	}
	return body, resp.Header, nil
}

// keyURL reads a URL that keys may come from: https, or plain http on this machine.
func keyURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.User != nil:
		return nil, errors.New("a URL with a user or password in it: keys are public")
	case u.Host == "" || u.Opaque != "":
		return nil, errors.New("not an absolute URL, as https://id.example.com is")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("%s is no https URL, and not on this machine: whoever is on the way could put in keys of their own", plain(u))
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// plain is a URL for people: without its query.
func plain(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

// lifetime is how long a response may be kept (RFC 9111 section 4.2): max-age less
// the time it has spent in caches on the way; negative when it is not to be kept.
func lifetime(h http.Header) time.Duration {
	for _, directive := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return -1
		case "max-age":
			age, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				continue
			}
			spent, _ := strconv.ParseUint(h.Get("Age"), 10, 31) // absent or odd: none
			if spent >= age {
				return -1
			}
			return time.Duration(age-spent) * time.Second
		}
	}
	return 0
}
