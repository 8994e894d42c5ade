package builtin

import (
	"strings"
	"testing"
)

func TestLinks(t *testing.T) {
	judge := build(t, "links", `{"action":"mask","allow":["example.com","*.allowed.org","bücher.example"],"deny":["bad.example.com","evil.is"]}`)
	for text, want := range map[string]string{
		// with a scheme
		"see https://evil.com/x?y=1#z.":                 "see ************************.",
		"HTTP://EVIL.COM":                               "***************",
		"(https://evil.com)":                            "(****************)",
		"https://example.com/a https://www.example.com": "ok",
		"https://bad.example.com/":                      "************************",
		"https://allowed.org":                           "*******************",
		"https://x.allowed.org":                         "ok",
		"hxxps://evil[.]com/a":                          "********************",
		"https:\\\\evil.com":                            "****************",
		"https:/evil.com https:evil.com":                "*************** **************",
		"ftp://evil.com tg://join?x=1":                  "************** *************",
		"http://localhost http://127.1 http://2130706433/ http://[::1]:80/": "**************** ************ ****************** ****************",
		// tricks with names
		"https://example.com@evil.com/":   "*****************************",
		"https://example.com:pw@evil.com": "*******************************",
		"https://evil.com\\@example.com":  "*****************************",
		"https://example.com\\@evil.com":  "ok",
		"https://notexample.com":          "**********************",
		"https://example.com.evil.net":    "****************************",
		"https://еxample.com":             "*******************", // Cyrillic
		"https://xn--xample-2of.com":      "**************************",
		"https://BÜCHER.example https://xn--bcher-kva.example https://bu\u0308cher.example":        "ok",
		"https://ｅｘａｍｐｌｅ．ｃｏｍ example。com":                                                          "ok",
		"https://exa\u200bmple.com ⓔxample.com":                                                    "ok",
		"https://example.com%2eevil.com https://ex%61mple.com https://b%61d.example.com":           "****************************** ********************* *************************",
		"https://example.com,x.evil.com":                                                           "******************************",
		"https://example.com,https://evil.com":                                                     "************************************",
		"“https://example.com”, (https://example.com:80/)! https://example.com…":                   "ok",
		"看https://example.com。很好 https://example.com吧 https://example.com/吧":                       "ok",
		"https://example.com。很好.evil.com https://example.com.newtld https://example.com吧.evil.com": "******************************* ************************** *****************************",
		// without one
		"evil.com and sub.evil.co.uk/path":     "******** and *******************",
		"evil.com. Evil.Com! www.evil.com":     "********. ********! ************",
		"evil。com evil．com":                    "******** ********",
		"ev\u200bil.c\u00adom":                 "**********",
		"пример.рф":                            "*********",
		"evil.com.It works":                    "********.It works",
		"evil.com:8080 1.2.3.4:80 1.2.3.4/x":   "************* ********** *********",
		"example.com@evil.com/x":               "example.com@**********",
		"@evil.com":                            "@********",
		"evil.is youtu.be/abc":                 "******* ************",
		"evil dot com":                         "**** *** ***",
		"evil [.] com evil(dot)com evil{.}com": "**** *** *** ************ **********",
		"访问evil.com吧 看中文.com。":                 "访问********吧 *******。",
		"-evil.com _evil.com":                  "-******** _********",
		// and what is none
		"bob@evil.com, a.b@evil.com":                  "ok",
		"that's it.So what. And...so":                 "ok",
		"wait.What is main.py or README.md?":          "ok",
		"version 1.2.3 or 1.2.3.4, 5.am, 3.14":        "ok",
		"e.g. this, i.e. that; 12:30 a:b C:\\x":       "ok",
		"the dot com bubble; connect the dot is easy": "ok",
		"http: it is slow":                            "ok",
		"node.js x.y.z foo.bar2.baz2":                 "ok",
		"std::vector key://":                          "ok",
		"":                                            "ok",
	} {
		if want == "ok" {
			want = text
		}
		got := told(t, judge, chat(text))
		if got == "ok" {
			got = text
		}
		if got != want {
			t.Errorf("%q:\n got %q\nwant %q", text, got, want)
		}
	}
}

func TestLinksOptions(t *testing.T) {
	for _, c := range []struct{ name, config, text, want string }{
		{"reject", `{}`, "see evil.com", "reject links"},
		{"drop", `{"action":"drop","code":"ads"}`, "see evil.com", "drop ads"},
		{"shadow", `{"action":"shadow"}`, "see evil.com", "shadow links"},
		{"flag", `{"action":"flag"}`, "see evil.com", "ok +links"},
		{"not bare", `{"bare":false}`, "see evil.com and evil dot com", "ok"},
		{"not bare, with a scheme", `{"bare":false}`, "see http://evil.com", "reject links"},
		{"not disguised", `{"disguised":false}`, "see evil[.]com or evil dot com", "ok"},
		{"allowed but for some", `{"default":"allow","deny":["evil.com"]}`, "good.com", "ok"},
		{"denied", `{"default":"allow","deny":["evil.com"]}`, "x.evil.com", "reject links"},
		{"denied, written otherwise", `{"default":"allow","deny":["xn--bcher-kva.example"]}`, "http://BÜCHER.example", "reject links"},
		{"the longest counts", `{"allow":["b.c.com"],"deny":["c.com","a.b.c.com"]}`, "b.c.com x.b.c.com", "ok"},
		{"the longest counts, denied", `{"allow":["b.c.com"],"deny":["c.com","a.b.c.com"]}`, "http://y.a.b.c.com", "reject links"},
		{"subdomains alone", `{"default":"allow","deny":["*.c.com"]}`, "c.com", "ok"},
		{"subdomains alone, denied", `{"default":"allow","deny":["*.c.com"]}`, "a.b.c.com", "reject links"},
		{"padded", `{"allow":["a.com"]}`, "https://a.com." + strings.Repeat("\u200b", 3000) + "b.com", "reject links"},
		{"padded, denied", `{"default":"allow","deny":["evil.com"]}`, "ev" + strings.Repeat("\u200b", 3000) + "il.com", "reject links"},
		{"too long for a name", `{"allow":["a.com"]}`, "https://a.com." + strings.Repeat("b.", 200) + "com", "reject links"},
		{"denied, with more", `{"default":"allow","deny":["evil.com"]}`, "https://evil.com,x", "reject links"},
		{"denied, escaped", `{"default":"allow","deny":["evil.com"]}`, "https://ev%69l.com/x", "reject links"},
		{"one of two", `{"action":"mask","allow":["a.com"]}`, "a.com b.com", "a.com *****"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, build(t, "links", c.config), chat(c.text)); got != c.want {
				t.Errorf("%q: %q, want %q", c.text, got, c.want)
			}
		})
	}
}

// The samples of RFC 3492, 7.1, but for those whose case carries something.
func TestPunycode(t *testing.T) {
	for code, want := range map[string]string{
		"egbpdaj6bu4bxfgehfvwxn": "ليهمابتكلموشعربي؟", "ihqwcrb4cv8a8dqg056pqjye": "他们为什么不说中文", "bcher-kva": "bücher", "mnchen-3ya": "münchen",
		"4dbcagdahymbxekheh6e0a7fei0b": "למההםפשוטלאמדבריםעברית", "2-u9tlzr9756bt3uc0v": "ひとつ屋根の下2", "e1afmkfd": "пример", "": "", "abc-": "abc",
	} {
		if got, err := punycode(code); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", code, got, err, want)
		}
	}
	for _, code := range []string{"ü", "99999999999", "a-9", "-\x00", strings.Repeat("9", 300), "zzzzzzzzzzzzzzzzzzzz"} {
		if got, err := punycode(code); err == nil {
			t.Errorf("%q is taken for %q", code, got)
		}
	}
}

// However a text is made, each byte is looked at a bounded number of times.
func TestLinksTakeTimeInProportionToTheText(t *testing.T) {
	size := hostileSize()
	for name, unit := range map[string]string{
		"letters": "a", "dots": ".", "labels": "a.", "names": "a.com ", "a long name": "a.com.", "schemes": "http:", "schemes and slashes": "http://", "colons": ":", "ats": "a@", "users": "http://a@b@", "escapes": "http://%61",
		"disguised": "a[.]b", "brackets": "[", "spelled out": "a dot com ", "spaces": " ", "long labels": strings.Repeat("a", 10_000) + ".", "long hosts": strings.Repeat("a", 60) + ".", "zero width": "a\u200b.", "invalid": "a\xff.", "wide": "ａ．", "punycode": "xn--a.com",
		"paths": "a.com/a.com", "paths of no names": ".44/iiis", "mail": "a.com@a.com", "scripts": "a中a.中",
	} {
		s := linkScan{text: strings.Repeat(unit, size/len(unit)), bare: true, disguised: true}
		n := 0
		for {
			if _, ok := s.next(); !ok {
				break
			}
			n++
		}
		if per := float64(s.steps) / float64(size); per > 8 {
			t.Errorf("%s: %.1f steps a byte", name, per)
		} else {
			t.Logf("%s: %.1f steps a byte, %d links", name, per, n)
		}
	}
}

// Masked text has as many characters, and no link that is masked again.
func FuzzLinks(f *testing.F) {
	for _, s := range []string{"see https://evil.com/x.", "a.com@b.com/x", "evil dot com", "x[.]com(.)net", "http://[::1]:80", "пример.рф", "http://a@b@c", "a.com@b.com@c.com/x", "http:\\\\\\x", "http://xn--a.com", "\xff.com", "a.com.b.com.c"} {
		f.Add(s)
	}
	judge := build(f, "links", `{"action":"mask","allow":["ok.com"],"deny":["it.is"]}`)
	f.Fuzz(func(t *testing.T, text string) { masked(t, judge, text) })
}
