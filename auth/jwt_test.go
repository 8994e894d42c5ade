package auth_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/auth/authtest"
)

func TestEveryAlgorithm(t *testing.T) {
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			published, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.Algorithms = []string{alg} })
			key := issuer.Rotate(alg)
			wantUser(t, published, issuer.Token("ada"), "ada")
			static, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.PublicKey = publicPEM(t, key.Private.Public()) })
			wantUser(t, static, issuer.Token("ada", authtest.SignedBy(alg, key.Private)), "ada")
		})
	}
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		t.Run(alg, func(t *testing.T) {
			j, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.Secret = secret })
			wantUser(t, j, issuer.Token("ada", authtest.SignedBy(alg, []byte(secret))), "ada")
			wantRefused(t, j, issuer.Token("ada", authtest.SignedBy(alg, []byte(secret+"x"))), "signature")
		})
	}
}

func TestAlgorithmAllowList(t *testing.T) {
	j, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.Algorithms = []string{"RS256", "EdDSA"} })
	wantRefused(t, j, issuer.Token("ada"), `algorithm "ES256"`)
	if n := issuer.Requests(authtest.KeysPath); n != 0 {
		t.Errorf("%d requests for a token that is refused anyway", n)
	}
	issuer.AddKey("EdDSA")
	wantUser(t, j, issuer.Token("ada"), "ada")
	// A secret of 32 bytes serves HS256, and is too short for the others.
	j, issuer, _ = fixture(t, func(o *auth.JWTOptions) { o.Secret = auth.Secret(secret[:32]) })
	wantUser(t, j, issuer.Token("ada", authtest.SignedBy("HS256", []byte(secret[:32]))), "ada")
	wantRefused(t, j, issuer.Token("ada", authtest.SignedBy("HS512", []byte(secret[:32]))), `algorithm "HS512"`)
}

func TestUserFromClaims(t *testing.T) {
	j, issuer, _ := fixture(t, func(o *auth.JWTOptions) {
		o.User = auth.UserClaims{ID: "/user/0/id", Name: "/user/0/full~1name", Roles: "/realm_access/roles", Data: "/profile"}
	})
	token := issuer.Token("ignored",
		authtest.Claim("user", []any{map[string]any{"id": "ada", "full/name": "Ada\tL."}}),
		authtest.Claim("realm_access", map[string]any{"roles": []string{"agent", "admin"}}),
		authtest.Claim("profile", map[string]any{"pic": "<a>"}),
		authtest.Claim("teams", []string{"red"}),
	)
	id := wantUser(t, j, token, "ada")
	if id.Name != "Ada L." || !slices.Equal(id.Roles, []string{"agent", "admin"}) || id.Guest || id.Auth != "users" {
		t.Errorf("%+v", id)
	}
	var data map[string]string
	if err := json.Unmarshal(id.Data, &data); err != nil || data["pic"] != "<a>" {
		t.Errorf("Data = %s", id.Data)
	}
	if teams := fmt.Sprint(id.Claims["teams"]); teams != "[red]" {
		t.Errorf("Claims = %v", id.Claims)
	}
}

func TestUserPointerThatLeadsNowhere(t *testing.T) {
	for _, pointer := range []string{"/user/1/id", "/user/-/id", "/user/00/id", "/user/id", "/sub/0", "/nobody"} {
		j, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.User.ID = pointer })
		token := issuer.Token("ada", authtest.Claim("user", []any{map[string]any{"id": "ada"}}))
		wantRefused(t, j, token, "claim "+pointer+": missing")
	}
}

func TestUserClaimsOfEveryKind(t *testing.T) {
	mapping := auth.UserClaims{ID: "/uid", Name: "/nick", Roles: "/scope", Data: "/data"}
	j, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.User = mapping })
	long := strings.Repeat("é", auth.MaxUserName)
	for _, c := range []struct {
		claim string
		value any
		want  string // what the identity holds, or
		why   string // why the token is refused
	}{
		{"uid", "ada", "ada", ""},
		{"uid", 42, "42", ""},
		{"uid", -1, "-1", ""},
		{"uid", 1 << 53, "9007199254740992", ""},
		{"uid", 1<<53 + 2, "", "no exact integer"},
		{"uid", 1.5, "", "no exact integer"},
		{"uid", nil, "", "claim /uid: missing"},
		{"uid", "", "", "claim /uid: empty"},
		{"uid", true, "", "true or false, where a user id should be"},
		{"uid", []string{"ada"}, "", "a list, where a user id should be"},
		{"uid", strings.Repeat("a", auth.MaxUserID), strings.Repeat("a", auth.MaxUserID), ""},
		{"uid", strings.Repeat("a", auth.MaxUserID+1), "", "longer than 128 bytes"},
		{"uid", "a\nb", "", "control characters"},
		{"uid", "guest:ada", "", "reserved"},
		{"nick", nil, "", ""},
		{"nick", "Ada", "Ada", ""},
		{"nick", long, long[:auth.MaxUserName], ""},
		{"nick", "x" + long, "x" + long[:auth.MaxUserName-2], ""},
		{"nick", 7, "", "a number, where a name should be"},
		{"scope", nil, "[]", ""},
		{"scope", "chat  mod", "[chat mod]", ""},
		{"scope", []string{"chat mod"}, "[chat mod]", ""},
		{"scope", []any{"chat", 7}, "", "a number among the roles"},
		{"scope", map[string]any{"chat": true}, "", "an object, where a list of roles should be"},
		{"data", nil, "", ""},
		{"data", "x", `"x"`, ""},
		{"data", strings.Repeat("x", auth.MaxUserData-2), `"` + strings.Repeat("x", auth.MaxUserData-2) + `"`, ""},
		{"data", strings.Repeat("x", auth.MaxUserData-1), "", "longer than 1024 bytes"},
	} {
		changes := []authtest.Change{authtest.Claim("uid", "ada"), authtest.Claim(c.claim, c.value)}
		token := issuer.Token("", changes...)
		if c.why != "" {
			wantRefused(t, j, token, c.why)
			continue
		}
		id := must(j.Authenticate(t.Context(), authtest.Bearer(token)))(t)
		got := map[string]string{"uid": id.ID, "nick": id.Name, "scope": fmt.Sprint(id.Roles), "data": string(id.Data)}[c.claim]
		if got != c.want {
			t.Errorf("%s %.60v gave %.60q, want %.60q", c.claim, c.value, got, c.want)
		}
	}
}

func TestRolesOnlyWhereConfigured(t *testing.T) {
	j, issuer, _ := fixture(t)
	id := wantUser(t, j, issuer.Token("ada", authtest.Claim("roles", []string{"admin"})), "ada")
	if id.Roles != nil {
		t.Errorf("Roles = %v without user.roles", id.Roles)
	}
}

func TestTokenFromEveryPlace(t *testing.T) {
	j, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.From = []string{"query:token", "cookie:session", "header"} })
	at := func(source auth.Source, name, token string) auth.Credentials {
		return auth.Credentials{Named: map[auth.Source]map[string]string{source: {name: token}}}
	}
	for _, c := range []auth.Credentials{
		at(auth.Query, "token", issuer.Token("ada")), at(auth.Cookie, "session", issuer.Token("ada")), authtest.Bearer(issuer.Token("ada")),
	} {
		if _, err := j.Authenticate(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []auth.Credentials{
		at(auth.Query, "session", issuer.Token("ada")), at(auth.Cookie, "token", issuer.Token("ada")), authtest.At(auth.Message, issuer.Token("ada")),
	} {
		if _, err := j.Authenticate(t.Context(), c); !errors.Is(err, auth.ErrNoCredential) {
			t.Errorf("%v, want ErrNoCredential", err)
		}
	}
	// The first place decides, whatever stands at the next.
	both := authtest.Bearer(issuer.Token("ada"))
	both.Named = map[auth.Source]map[string]string{auth.Query: {"token": "x"}}
	if _, err := j.Authenticate(t.Context(), both); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("%v, want ErrInvalid", err)
	}
}

func TestJWTOptionProblems(t *testing.T) {
	weak := must(rsa.GenerateKey(rand.Reader, 1024))(t)
	private := must(x509.MarshalPKCS8PrivateKey(authtest.NewPrivateKey("EdDSA")))(t)
	ed := publicPEM(t, authtest.NewPrivateKey("EdDSA").Public())
	for _, c := range []struct {
		name   string
		change func(*auth.JWTOptions)
		field  string
		want   string
	}{
		{"no issuer", func(o *auth.JWTOptions) { o.Issuer = "" }, "issuer", "required"},
		{"issuer no URL", func(o *auth.JWTOptions) { o.Issuer = "me" }, "issuer", "neither jwks nor secret"},
		{"issuer over http", func(o *auth.JWTOptions) { o.Issuer = "http://id.example.com" }, "issuer", "no https URL"},
		{"issuer with a query", func(o *auth.JWTOptions) { o.Issuer = "https://id.example.com/?a=b" }, "issuer", "query"},
		{"no audience", func(o *auth.JWTOptions) { o.Audience = nil }, "audience", "required"},
		{"empty audience", func(o *auth.JWTOptions) { o.Audience = []string{""} }, "audience", "empty"},
		{"any and more", func(o *auth.JWTOptions) { o.Audience = []string{"any", "chat"} }, "audience", "stands alone"},
		{"algorithm none", func(o *auth.JWTOptions) { o.Algorithms = []string{"none"} }, "algorithms[0]", `no algorithm called "none"`},
		{"unknown algorithm", func(o *auth.JWTOptions) { o.Algorithms = []string{"RS256", "RS257"} }, "algorithms[1]", "RS257"},
		{"HS beside public keys", func(o *auth.JWTOptions) { o.Algorithms = []string{"RS256", "HS256"} }, "algorithms[1]", "public ones"},
		{"RS with a secret", func(o *auth.JWTOptions) { o.Secret, o.Algorithms = secret, []string{"RS256"} }, "algorithms[0]", "does not work"},
		{"RS with an Ed25519 key", func(o *auth.JWTOptions) { o.PublicKey, o.Algorithms = ed, []string{"RS256"} }, "algorithms[0]", "does not work"},
		{"HS with an Ed25519 key", func(o *auth.JWTOptions) { o.PublicKey, o.Algorithms = ed, []string{"HS256"} }, "algorithms[0]", "public ones"},
		{"short for HS512", func(o *auth.JWTOptions) { o.Secret, o.Algorithms = auth.Secret(secret[:63]), []string{"HS512"} }, "algorithms[0]", "64 bytes"},
		{"short secret", func(o *auth.JWTOptions) { o.Secret = auth.Secret(secret[:31]) }, "secret", "31 bytes"},
		{"secret and jwks", func(o *auth.JWTOptions) { o.Secret, o.JWKS = secret, "https://id.example.com/keys" }, "secret", "jwks is set too"},
		{"secret and public key", func(o *auth.JWTOptions) { o.Secret, o.PublicKey = secret, ed }, "public_key", "secret is set too"},
		{"jwks over http", func(o *auth.JWTOptions) { o.JWKS = "http://id.example.com/keys?k=query-secret" }, "jwks", "no https URL"},
		{"jwks with a password", func(o *auth.JWTOptions) { o.JWKS = "https://u:query-secret@id.example.com/keys" }, "jwks", "password"},
		{"no PEM", func(o *auth.JWTOptions) { o.PublicKey = "ssh-ed25519 AAAA" }, "public_key", "no PEM block"},
		{"two PEM blocks", func(o *auth.JWTOptions) { o.PublicKey = ed + ed }, "public_key", "more than one"},
		{"private PEM", func(o *auth.JWTOptions) { o.PublicKey = pemBlock("PRIVATE KEY", private) }, "public_key", "private key"},
		{"odd PEM", func(o *auth.JWTOptions) { o.PublicKey = pemBlock("PGP MESSAGE", private) }, "public_key", "PGP MESSAGE"},
		{"broken PEM", func(o *auth.JWTOptions) { o.PublicKey = pemBlock("PUBLIC KEY", private) }, "public_key", "parsing the public key"},
		{"weak RSA", func(o *auth.JWTOptions) { o.PublicKey = publicPEM(t, weak.Public()) }, "public_key", "1024 bits"},
		{"unknown place", func(o *auth.JWTOptions) { o.From = []string{"header", "body"} }, "from[1]", "body"},
		{"place without name", func(o *auth.JWTOptions) { o.From = []string{"query"} }, "from[0]", "needs a name"},
		{"place with name", func(o *auth.JWTOptions) { o.From = []string{"header:x"} }, "from[0]", "takes no name"},
		{"place with odd name", func(o *auth.JWTOptions) { o.From = []string{"cookie:a b"} }, "from[0]", "no name"},
		{"place twice", func(o *auth.JWTOptions) { o.From = []string{"header", "header"} }, "from[1]", "twice"},
		{"no pointer", func(o *auth.JWTOptions) { o.User.ID = "sub" }, "user.id", `"/sub"`},
		{"bad escape", func(o *auth.JWTOptions) { o.User.Roles = "/a~2" }, "user.roles", "RFC 6901"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := auth.JWTOptions{Name: "users", Issuer: "https://id.example.com", Audience: []string{"chat"}}
			c.change(&opt)
			j, err := auth.NewJWT(opt)
			var list auth.OptionErrors
			if j != nil || !errors.As(err, &list) || len(list) != 1 {
				t.Fatalf("%v, %v; want one problem", j, err)
			}
			if list[0].Field != c.field || !strings.Contains(list[0].Err.Error(), c.want) {
				t.Errorf("%s: %v; want field %s and a text with %q", list[0].Field, list[0].Err, c.field, c.want)
			}
			if strings.Contains(err.Error(), secret[:20]) || strings.Contains(err.Error(), "query-secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestJWTOptionProblemsAllAtOnce(t *testing.T) {
	_, err := auth.NewJWT(auth.JWTOptions{Secret: "short", User: auth.UserClaims{ID: "sub", Data: "x"}, From: []string{"body"}})
	var list auth.OptionErrors
	if !errors.As(err, &list) {
		t.Fatal(err)
	}
	var fields []string
	for _, e := range list {
		fields = append(fields, e.Field)
	}
	slices.Sort(fields)
	if want := []string{"audience", "from[0]", "issuer", "secret", "user.data", "user.id"}; !slices.Equal(fields, want) {
		t.Errorf("problems with %v, want %v", fields, want)
	}
}

func TestPublicKeyForms(t *testing.T) {
	key := authtest.NewPrivateKey("RS256")
	pub := key.Public().(*rsa.PublicKey)
	template := &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}
	cert := must(x509.CreateCertificate(rand.Reader, template, template, pub, key))(t)
	for _, text := range []string{
		publicPEM(t, pub), pemBlock("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(pub)), pemBlock("CERTIFICATE", cert),
	} {
		j, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.PublicKey = text })
		wantUser(t, j, issuer.Token("ada", authtest.SignedBy("RS256", key)), "ada")
	}
}

func TestAnyAudience(t *testing.T) {
	j, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.Audience = []string{auth.AnyAudience} })
	for _, aud := range []any{nil, "shop", []string{"a", "b"}} {
		wantUser(t, j, issuer.Token("ada", authtest.Claim("aud", aud)), "ada")
	}
}

func TestCheckFetchesKeys(t *testing.T) {
	j, issuer, _ := fixture(t)
	if err := j.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantUser(t, j, issuer.Token("ada"), "ada")
	if n := issuer.Requests(authtest.KeysPath); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	static, _, _ := fixture(t, func(o *auth.JWTOptions) { o.Secret = secret })
	if err := static.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOptionsDoNotPrintSecrets(t *testing.T) {
	opt := auth.JWTOptions{Name: "users", Issuer: "me", Audience: []string{"chat"}, Secret: secret}
	j := must(auth.NewJWT(opt))(t)
	var text bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&text, nil))
	opt.Log = log
	log.Info("x", "options", fmt.Sprint(opt), "secret", opt.Secret, "auth", j)
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "secret", opt.Secret, "auth", j)
	fmt.Fprintf(&text, "%v %+v %#v %s %q %x", opt, opt, opt, opt.Secret, opt.Secret, opt.Secret)
	fmt.Fprintf(&text, "%v %+v %#v", j, j, j)
	fmt.Fprintf(&text, "%s", must(json.Marshal(map[string]any{"secret": opt.Secret}))(t))
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprint([]byte(secret))[1:20]} {
		if strings.Contains(text.String(), form) {
			t.Errorf("the secret is printed: %s", text.String())
		}
	}
}

func TestDevToken(t *testing.T) {
	clock := newClock()
	opt := auth.JWTOptions{
		Name: "users", Issuer: "my-app", Audience: []string{"chat", "shop"}, Secret: secret, Algorithms: []string{"HS384", "HS256"}, Now: clock.now,
		User: auth.UserClaims{ID: "/user/id", Name: "/user/name", Roles: "/realm_access/roles"}, From: []string{"message"},
	}
	token, err := auth.DevToken(opt, auth.DevUser{
		ID: "ada", Name: "Ada", Roles: []string{"agent"}, Claims: map[string]any{"teams": []string{"red"}, "iss": "someone"}, For: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	j := must(auth.NewJWT(opt))(t)
	id := must(j.Authenticate(t.Context(), authtest.At(auth.Message, token)))(t)
	if id.ID != "ada" || id.Name != "Ada" || !slices.Equal(id.Roles, []string{"agent"}) || id.Claims["iss"] != "my-app" || id.Claims["teams"] == nil {
		t.Errorf("%+v", id)
	}
	if !id.Expires.Equal(clock.now().Add(time.Minute)) {
		t.Errorf("Expires = %v", id.Expires)
	}

	remote := opt
	remote.Secret, remote.JWKS, remote.Algorithms = "", "https://id.example.com/keys", nil
	noRoles := opt
	noRoles.User.Roles = ""
	for want, f := range map[string]func() (string, error){
		"shared secret":    func() (string, error) { return auth.DevToken(remote, auth.DevUser{ID: "ada"}) },
		"user id: empty":   func() (string, error) { return auth.DevToken(opt, auth.DevUser{}) },
		"reserved":         func() (string, error) { return auth.DevToken(opt, auth.DevUser{ID: "guest:ada"}) },
		"set user.roles":   func() (string, error) { return auth.DevToken(noRoles, auth.DevUser{ID: "ada", Roles: []string{"x"}}) },
		"issuer: required": func() (string, error) { return auth.DevToken(auth.JWTOptions{}, auth.DevUser{ID: "ada"}) },
		"would be refused": func() (string, error) { return auth.DevToken(opt, auth.DevUser{ID: "ada", For: -time.Minute}) },
		`"user" is no object`: func() (string, error) {
			return auth.DevToken(opt, auth.DevUser{ID: "ada", Claims: map[string]any{"user": "x"}})
		},
	} {
		if token, err := f(); token != "" || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, %v; want an error that mentions %q", token, err, want)
		}
	}
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
