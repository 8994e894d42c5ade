package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// userPointers is UserClaims, parsed; nil where there is none.
type userPointers struct {
	id, name, roles, data pointer
}

func (u UserClaims) parse() (p userPointers, err error) {
	var errs OptionErrors
	read := func(field, value, fallback string) pointer {
		if value == "" {
			value = fallback
		}
		if value == "" {
			return nil
		}
		parsed, err := parsePointer(value)
		if err != nil {
			errs.adopt("user."+field, err)
		}
		return parsed
	}
	p.id = read("id", u.ID, "/sub")
	p.name = read("name", u.Name, "/name")
	p.roles = read("roles", u.Roles, "")
	p.data = read("data", u.Data, "")
	return p, errs.err()
}

// identity makes the user of a token that was verified. A claim that is configured
// but of the wrong kind refuses the token: guessing would give or take rights.
func (j *JWT) identity(claims jwt.MapClaims) (*Identity, error) {
	expires, err := j.expiry(claims)
	if err != nil {
		return nil, err
	}
	all := map[string]any(claims)
	id := &Identity{Claims: all, Auth: j.name, Expires: expires}
	if id.ID, err = j.user.userID(all); err != nil {
		return nil, invalid("claim %s: %w", j.user.id, err)
	}
	if name, ok := j.user.name.value(all); ok {
		s, ok := name.(string)
		if !ok {
			return nil, invalid("claim %s: %s, where a name should be", j.user.name, kind(name))
		}
		id.Name = tidyName(s)
	}
	if j.user.roles != nil {
		if id.Roles, err = j.user.userRoles(all); err != nil {
			return nil, invalid("claim %s: %w", j.user.roles, err)
		}
	}
	if j.user.data != nil {
		if id.Data, err = j.user.userData(all); err != nil {
			return nil, invalid("claim %s: %w", j.user.data, err)
		}
	}
	return id, nil
}

// maxExpiry is the year 10000: later moments have no RFC 3339 form, and far later
// ones no time.Time.
const maxExpiry = 253402300800

// expiry is the end of the token, without leeway.
func (j *JWT) expiry(claims jwt.MapClaims) (time.Time, error) {
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil {
		return time.Time{}, invalid("claim /exp: missing or no number")
	}
	if seconds, _ := claims["exp"].(float64); math.Abs(seconds) >= maxExpiry {
		return time.Time{}, invalid("claim /exp: out of range")
	}
	if !j.now().Before(exp.Time) {
		return time.Time{}, invalid("%w", jwt.ErrTokenExpired)
	}
	return exp.Time, nil
}

func (p userPointers) userID(claims map[string]any) (string, error) {
	v, ok := p.id.value(claims)
	if !ok {
		return "", errors.New("missing: it names the user")
	}
	var id string
	switch v := v.(type) {
	case string:
		id = v
	case float64:
		const exact = 1 << 53 // beyond, different ids would decode to the same number
		if v != math.Trunc(v) || math.Abs(v) > exact {
			return "", errors.New("a number that is no exact integer: use a string")
		}
		id = strconv.FormatInt(int64(v), 10)
	default:
		return "", fmt.Errorf("%s, where a user id should be", kind(v))
	}
	return id, checkVouchedID(id)
}

// userRoles reads a list of strings, or the words of one, which is how OAuth writes
// scopes (RFC 8693 section 4.2).
func (p userPointers) userRoles(claims map[string]any) ([]string, error) {
	v, ok := p.roles.value(claims)
	if !ok {
		return nil, nil
	}
	switch v := v.(type) {
	case string:
		return strings.Fields(v), nil
	case []any:
		roles := make([]string, len(v))
		for i, role := range v {
			s, ok := role.(string)
			if !ok {
				return nil, fmt.Errorf("%s among the roles", kind(role))
			}
			roles[i] = s
		}
		return roles, nil
	}
	return nil, fmt.Errorf("%s, where a list of roles should be", kind(v))
}

func (p userPointers) userData(claims map[string]any) (json.RawMessage, error) {
	v, ok := p.data.value(claims)
	if !ok {
		return nil, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return data, checkData(data)
}

// kind names a JSON value's type for an error: the value itself is the user's.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "null"
}
