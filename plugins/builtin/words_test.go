package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
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
	judge := build(t, "words", `{"words":["fuck*","ass","shit","penis","kill yourself","хуй","сука","傻逼","88","god","hell","coon","🖕","b00bs","straße","bitch","boob","cunt","ill"],
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
	_ = utf8.RuneError
	_ = rand.IntN
	_ = os.Args
	_ = filepath.Join
}

func BenchmarkWords(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		list := manyWords(n)
		raw, _ := json.Marshal(WordsConfig{Words: list})
		for _, mode := range []string{"word", "anywhere"} {
			config := strings.Replace(string(raw), `"match":""`, `"match":"`+mode+`"`, 1)
			config = strings.NewReplacer(`,"evasions":null`, "", `,"action":""`, "", `,"mask":""`, "", `,"code":""`, "", `,"reason":""`, "").Replace(config)
			judge := build(b, "words", config)
			for name, text := range map[string]string{
				"plain":    "Could you send me the report by Friday? I need it for work.  ",
				"cyrillic": "Привет, пришли мне отчёт к пятнице",
				"signs":    "Hi @bob! That is $15 for 2 tickets, right? See you at 11, ok",
			} {
				m := chat(text)
				b.Run(fmt.Sprintf("%s/%d/%s", mode, n, name), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						v, _ := judge(context.Background(), m)
						if v.Action != filter.ActionAllow {
							b.Fatal(v)
						}
					}
				})
			}
		}
	}
}

// manyWords makes up words.
func manyWords(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]string, n)
	for i := range list {
		var w []byte
		for range 2 + r.IntN(3) {
			w = append(w, "bcdfghklmnprstvwz"[r.IntN(17)], "aeiou"[r.IntN(5)])
		}
		list[i] = string(w) + "x"
	}
	return list
}
