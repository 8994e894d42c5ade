package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds on RSA keys: below, they are too weak (RFC 7518 section 3.3), above, each
// forged token would cost milliseconds to refuse.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// MinSecret is the least length of a shared secret in bytes: that of the hash of
// HS256. HS384 and HS512 need as much as theirs (RFC 7518 section 3.2).
const MinSecret = 32

// The signature algorithms of RFC 7518 section 3.1 and RFC 8037 that are known.
// "none" is not among them.
func symmetricAlgorithms() []string { return []string{"HS256", "HS384", "HS512"} }

func asymmetricAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// verifyKey is a key that tokens are checked with.
type verifyKey struct {
	id  string // kid; empty: none
	alg string // the only algorithm that its owner uses it with; empty: not said
	key any    // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// fits reports whether key may check a signature of algorithm alg. This is what
// keeps a public key from being taken for a shared secret: a []byte serves HS
// algorithms alone, and nothing else serves those.
func (k verifyKey) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.key.(type) {
	case []byte:
		return slices.Contains(symmetricAlgorithms(), alg) && len(key) >= secretLen(alg)
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey: // RFC 7518 section 3.4 ties each algorithm to one curve
		return alg == map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[key.Curve.Params().Name]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// secretLen is the least length of a secret for alg, in bytes.
func secretLen(alg string) int {
	return map[string]int{"HS256": MinSecret, "HS384": 48, "HS512": 64}[alg]
}

// checkPublic refuses keys that no token should be checked with.
func checkPublic(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits: want %d to %d", n, minRSABits, maxRSABits)
		}
		if key.E < 3 || key.E%2 == 0 {
			return errors.New("an RSA key with an impossible exponent")
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of type %T: want RSA, ECDSA or Ed25519", key)
	}
	return nil
}

// parsePublicPEM reads one public key: PKIX, PKCS #1, or the certificate that
// holds it (whose dates and signer are not looked at: it is the operator's choice).
func parsePublicPEM(text string) (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New(`no PEM block: want one that starts with "-----BEGIN PUBLIC KEY-----"`)
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("more than one PEM block: want a single public key; for several, serve them as jwks")
	}
	var (
		key crypto.PublicKey
		err error
	)
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		if strings.Contains(block.Type, "PRIVATE") {
			return nil, errors.New("a private key: relay only checks tokens, give it the public one")
		}
		return nil, fmt.Errorf("a PEM block of type %q: want PUBLIC KEY", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("parsing the public key: %w", err)
	}
	return key, checkPublic(key)
}
