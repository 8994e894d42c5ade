package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/wsrelay/relay/plugins/filter"
)

// build makes a judge of a configuration in JSON.
func build(t testing.TB, name, config string) filter.Judge {
	t.Helper()
	p, ok := Lookup(name)
	if !ok {
		t.Fatalf("there is no filter %s", name)
	}
	judge, problems := p.Build([]byte(config))
	if judge == nil {
		t.Fatalf("%s %s: %v", name, config, problems)
	}
	return judge
}

// chat is a message that is a text, or an array of several.
func chat(texts ...string) *filter.Message {
	m := &filter.Message{ID: strings.Repeat("a", 32), Event: filter.Chat, Room: "lobby", User: filter.User{ID: "ann", Name: "Ann"}}
	pointers := []string{""}
	m.Body, _ = json.Marshal(texts)
	if len(texts) == 1 {
		m.Body, _ = json.Marshal(texts[0])
	} else {
		pointers = nil
		for i := range texts {
			pointers = append(pointers, fmt.Sprintf("/%d", i))
		}
	}
	m.Texts = filter.TextsAt(m.Body, pointers)
	return m
}

// told puts what becomes of the texts into one line: "ok", the texts as they
// were changed, or the action and its code.
func told(t testing.TB, judge filter.Judge, m *filter.Message) string {
	t.Helper()
	v, err := judge(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	out := v.Action.String() + " " + v.Code
	switch v.Action {
	case filter.ActionAllow:
		out = "ok"
	case filter.ActionModify:
		if err := m.Apply(v); err != nil {
			t.Fatal(err)
		}
		texts := make([]string, len(m.Texts))
		for i := range m.Texts {
			texts[i] = m.Texts[i].Text
		}
		out = strings.Join(texts, "|")
	}
	for _, f := range v.Flags {
		out += " +" + f.Label
	}
	return out
}

func TestWordsAreFoundHoweverTheyAreWritten(t *testing.T) {
	judge := build(t, "words", `{"words":["fuck*","ass","shit","tit","penis","kill yourself","хуй","сука","傻逼","88","god","hell","coon","🖕","b00bs","straße","bitch","boob","cunt","ill"],
		"allow":["kick ass","shit happens"]}`)
	for text, want := range map[string]string{
		// as they are
		"fuck":                   "****",
		"oh FUCK that":           "oh **** that",
		"fucking hell":           "******* ****",
		"you ass!":               "you ***!",
		"ass, ass and ass":       "***, *** and ***",
		"bad_ass dumb-ass":       "bad_*** dumb-***",
		"go kill yourself":       "go **** ********",
		"kill  yourself":         "****  ********",
		"killyourself":           "************",
		"хуй ХУЙ":                "*** ***",
		"你是傻逼吗":                  "你是**吗",
		"a🖕b 🖕🏽":                 "a*b **",
		"STRASSE strasse straße": "******* ******* ******",
		"88":                     "**",
		"b00bs boobs":            "***** boobs",
		// accents, fonts, invisible characters
		"fúçk f\u0301u\u0308ck": "**** ******",
		"𝖋𝖚𝖈𝖐 ｆｕｃｋ ⓕⓤⓒⓚ 🅵🆄🅲🅺 ꜰᴜᴄᴋ": "**** **** **** **** ****",
		"🇫🇺🇨🇰":                   "****",
		"f\u200bu\u200dc\u00adk": "*******",
		"aſs":                    "***",
		// lookalikes
		"fuсk аss аѕѕ ѕhіt": "**** *** *** ****",
		"αss ΑSS":           "*** ***",
		"ꓝꓴꓚꓗ":              "****",
		"f🔥u🔥c🔥k":           "*******",
		// leet
		"sh1t $hit sh!t 5h!t @$$ a$s a5s": "**** **** **** **** *** *** ***",
		"b1tch p3n1s":                     "***** *****",
		"he11 he1l he||":                  "**** **** ****",
		"i1l 1LL":                         "*** ***",
		"@ass ass$ $ass$":                 "@*** **** $****",
		// spacing
		"f.u.c.k f-u-c-k f_u_c_k": "******* ******* *******",
		"f u c k":                 "* * * *",
		"f. u. c. k. you":         "** ** ** *. you",
		"fu.ck fu...ck":           "***** *******",
		"f u c k! f u c k2":       "* * * *! * * * *2",
		"f\nu\nc\nk":              "*\n*\n*\n*",
		"f'u'c'k fu'ck":           "******* *****",
		"a s s":                   "* * *",
		// repeats
		"fuuuuck ffuucckk":    "******* ********",
		"assss aaass":         "***** *****",
		"shiiiit s h i i i t": "******* * * * * * *",
		// and what is no such word
		"Scunthorpe class assassin assume glass bass": "ok",
		"shiitake mushiteru":                          "ok",
		"as soon as she shows":                        "ok",
		"the pen is mine":                             "ok",
		"good as gold":                                "ok",
		"he'll say she'll":                            "ok",
		"con cooning":                                 "ok",
		"a 5s + i +":                                  "ok",
		"455 4 5 5 5417 A55 1888 880":                 "ok",
		"$$$ !!! |||":                                 "ok",
		"bob and bub":                                 "ok",
		"cl4ss gl@ss pa$$word":                        "ok",
		"i love c++ (a lot) <3":                       "ok",
		"kill it yourself":                            "ok",
		"kick ass!":                                   "ok",
		"shit happens, shit":                          "shit happens, ****",
		"":                                            "ok",
	} {
		if want == "ok" {
			if got := told(t, judge, chat(text)); got != want {
				t.Errorf("%q: %s, want it left alone", text, got)
			}
			continue
		}
		if got := told(t, judge, chat(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestWordsOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(file, []byte("\ufeff# comment\n\n  darn \r\nheck*\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, config, text, want string }{
		{"from a file", `{"file":` + quote(file) + `}`, "darn heckler", "**** *******"},
		{"file and list", `{"file":` + quote(file) + `,"words":["ass"]}`, "darn ass", "**** ***"},
		{"anywhere", `{"words":["ass"],"match":"anywhere","allow":["class","Assam"]}`, "pass classes assam glassy a.s.s", "p*** classes assam gl***y *****"},
		{"head", `{"words":["*fuck"]}`, "motherfuck motherfucker", "********** motherfucker"},
		{"both ends", `{"words":["*fuck*"]}`, "motherfucker fuckfuck!", "************ ********!"},
		{"reject", `{"words":["ass"],"action":"reject","code":"rude","reason":"No."}`, "ass", "reject rude"},
		{"drop", `{"words":["ass"],"action":"drop"}`, "ass", "drop words"},
		{"shadow", `{"words":["ass"],"action":"shadow"}`, "ass", "shadow words"},
		{"flag", `{"words":["ass"],"action":"flag"}`, "ass", "ok +words"},
		{"mask", `{"words":["ass"],"mask":"█"}`, "an ass", "an ███"},
		{"no lookalikes", `{"words":["cop"],"evasions":["leet","spacing","repeats"]}`, "сор cop C0P", "сор *** ***"},
		{"no leet", `{"words":["ass","x2"],"evasions":[]}`, "@ss a5s x2", "@ss a5s **"},
		{"no spacing", `{"words":["ass","you ass"],"evasions":[]}`, "a.s.s a s s you ass", "a.s.s a s s *** ***"},
		{"no repeats", `{"words":["ass"],"evasions":[]}`, "asss ass", "asss ***"},
		{"each text", `{"words":["ass"]}`, "", "ok"},
		{"digits with letters that read the same", `{"words":["a4"]}`, "a4 aa 44", "** aa 44"},
		{"letters that read as several", `{"words":["en","ass","aß","ease"]}`, "großen ﬁen straße ﬀen asſ äß æse", "großen ﬁen straße ﬀen *** ** æse"},
		{"digits", `{"words":["1488","88"]}`, "1488 1988 iabb 88 188", "**** 1988 iabb ** 188"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, build(t, "words", c.config), chat(c.text)); got != c.want {
				t.Errorf("%q: %q, want %q", c.text, got, c.want)
			}
		})
	}
	judge := build(t, "words", `{"words":["ass"]}`)
	if got := told(t, judge, chat("fine", "an ass", "a\"b", "ass")); got != `fine|an ***|a"b|***` {
		t.Errorf("several texts: %s", got)
	}
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// However a text is made, walks take a bounded number of steps for each byte.
func TestWordsTakeTimeInProportionToTheText(t *testing.T) {
	size := hostileSize()
	list := []term{}
	for _, w := range []string{"ass", "ab", "abab", strings.Repeat("ab", 32), strings.Repeat("a", 64), strings.Repeat("il", 32), "a b", strings.Repeat("a b ", 15) + "a", "*ba*", "aßa", "sss", "lll", "iii"} {
		p, problem := parseTerm(w)
		if problem != "" {
			t.Fatal(problem)
		}
		p.openHead, p.openTail = true, true
		list = append(list, p)
	}
	allowed, _ := parseTerm("abababab")
	allowed.allowed, allowed.openHead, allowed.openTail = true, true, true
	l := newLexicon(append(list, allowed), evasions{true, true, true, true})
	never := newLexicon([]term{{letters: []rune(strings.Repeat("ab", 31) + "c")}, {letters: []rune(strings.Repeat("a b ", 15) + "c")}, {letters: []rune(strings.Repeat("il", 31) + "o")}, {letters: []rune("sso")}, {letters: []rune("llo")}, {letters: []rune("iio")}}, evasions{true, true, true, true})
	never.anyStart = true
	for name, unit := range map[string]string{
		"one letter": "a", "two": "ab", "ambiguous": "1!|", "spaced": "a ", "spaced pairs": "a b ", "dotted": "a.b.", "dots": ".", "a letter and dots": "a" + strings.Repeat(".", 1000),
		"marks": "a" + strings.Repeat("\u0301", 500), "zero width": "a\u200bb\u200b", "sharp": "ß", "signs": "@$", "apostrophes": "a'b'", "digits": "4", "ones and els": "1l", "ones and is": "1i", "els and signs": "l!", "sharp and s": "ßs", "signs and letters": "$s@a", "spaces": "a" + strings.Repeat(" ", 1000) + "b",
		"long runs": strings.Repeat("a", 1000) + strings.Repeat("b", 1000), "invalid": "a\xffb", "han": "傻逼", "emoji": "😀a",
	} {
		text := strings.Repeat(unit, size/len(unit))
		for which, lex := range map[string]*lexicon{"found": l, "never found": never} {
			s := newScan(lex, text)
			for {
				if _, ok := s.next(); !ok {
					break
				}
			}
			// Each of reach walks over a byte in the normal and the spaced form, in
			// four readings, is the bound; what is in a text is far from it.
			if per := float64(s.steps) / float64(len(text)); per > 2*4*reach {
				t.Errorf("%s, %s: %.0f steps a byte", name, which, per)
			} else {
				t.Logf("%s, %s: %.1f steps a byte", name, which, per)
			}
		}
	}
}

// hostileSize is the size of texts that are made to be slow.
func hostileSize() int {
	if racing {
		return 1 << 13
	}
	return 1 << 20
}

// Masked text has as many characters, and nothing that is masked again.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"fuck", "f.u.c.k", "fufuckck", "a s s", "аss\u0301", "f\xffuck", "@$$ a$$ 1ll", "ﬁck ß", "傻逼", "fuckfuckfuck", "a*s*s", "x fubadck", "🖕🏽"} {
		f.Add(s)
	}
	word := build(f, "words", `{"words":["fuck*","ass","bad","ill","傻逼","🖕","kill you","fick","strasse","*tit*"],"allow":["class","bad ass"]}`)
	anywhere := build(f, "words", `{"match":"anywhere","words":["fuck","ass","bad","ill","傻逼","a b"],"allow":["class"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, judge := range []filter.Judge{word, anywhere} {
			masked(t, judge, text)
		}
	})
}

// masked checks what every mask promises.
func masked(t *testing.T, judge filter.Judge, text string) {
	t.Helper()
	m := &filter.Message{Event: filter.Chat, Texts: []filter.Text{{Text: text}}}
	v, err := judge(context.Background(), m)
	if err != nil || v.Action != filter.ActionModify {
		return
	}
	out := v.Texts[0]
	if have, want := utf8.RuneCountInString(out), utf8.RuneCountInString(text); have != want {
		t.Fatalf("%q has %d characters, %q has %d", out, have, text, want)
	}
	if utf8.ValidString(text) && !utf8.ValidString(out) {
		t.Fatalf("%q became invalid: %q", text, out)
	}
	if out == text {
		t.Fatalf("%q is modified into itself", text)
	}
	m = &filter.Message{Event: filter.Chat, Texts: []filter.Text{{Text: out}}}
	if again, err := judge(context.Background(), m); err != nil || again.Action != filter.ActionAllow {
		t.Fatalf("%q became %q, which is not all right: %v %v", text, out, again, err)
	}
}
