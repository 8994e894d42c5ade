package telemetry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// DebugKey signs and checks debug tokens. A message with a good one is traced
// whatever the shares say, with a write span for each of up to a hundred
// receivers. The zero DebugKey signs nothing and finds no token good.
//
// A token is "relay-debug." and the unpadded base64url form of 8 bytes of expiry
// (Unix seconds, big endian) and the first 16 bytes of the HMAC-SHA-256 of what
// stands before it. It gives nobody any right but to be traced; it is no
// credential, and still stays out of logs and spans.
type DebugKey struct{ key [32]byte }

const (
	debugPrefix = "relay-debug."
	debugRaw    = 8 + 16
	// MaxDebug bounds the life of a debug token.
	MaxDebug = 7 * 24 * time.Hour
)

// NewDebugKey derives a key from the admin key, which needs 32 bytes at least.
func NewDebugKey(admin string) (DebugKey, error) {
	if len(admin) < 32 {
		return DebugKey{}, errors.New("debug tokens: admin.key needs at least 32 bytes")
	}
	m := hmac.New(sha256.New, []byte(admin))
	m.Write([]byte("relay debug token 1"))
	return DebugKey{[32]byte(m.Sum(nil))}, nil
}

// Sign makes a token that is good until a moment, at most MaxDebug from now.
func (k DebugKey) Sign(now, until time.Time) (string, error) {
	switch {
	case k == DebugKey{}:
		return "", errors.New("debug tokens: set admin.key first")
	case !until.After(now):
		return "", errors.New("debug tokens: the end must be in the future")
	case until.Sub(now) > MaxDebug:
		return "", errors.New("debug tokens: good for 7 days at most")
	}
	raw := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	return debugPrefix + base64.RawURLEncoding.EncodeToString(append(raw, k.mac(raw)...)), nil
}

// Until tells until when a token is good that was signed with this key, and is
// now. The zero time: it is not. What cannot be a token costs next to nothing.
func (k DebugKey) Until(token string, now time.Time) time.Time {
	text, ok := strings.CutPrefix(token, debugPrefix)
	if !ok || k == (DebugKey{}) || len(text) != base64.RawURLEncoding.EncodedLen(debugRaw) {
		return time.Time{}
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || !hmac.Equal(raw[8:], k.mac(raw[:8])) {
		return time.Time{}
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(raw)), 0)
	if left := until.Sub(now); left <= 0 || left > MaxDebug+time.Minute { // some skew between clocks
		return time.Time{}
	}
	return until
}

func (k DebugKey) mac(raw []byte) []byte {
	m := hmac.New(sha256.New, k.key[:])
	m.Write([]byte(debugPrefix))
	m.Write(raw)
	return m.Sum(nil)[:16]
}
