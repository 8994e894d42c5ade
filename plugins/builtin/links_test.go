package builtin

import "testing"

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
		"https://BÜCHER.example https://xn--bcher-kva.example https://bu\u0308cher.example": "ok",
		"https://ｅｘａｍｐｌｅ．ｃｏｍ example。com":                                                   "ok",
		"https://exa\u200bmple.com ⓔxample.com":                                             "ok",
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
