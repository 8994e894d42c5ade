package wire

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated tables of docs/protocol.md")

const protocolPage = "../../docs/protocol.md"

// constant is one exported constant of a type, with what its comment says.
type constant struct {
	name, value string
	text, rule  string // the comment, and the last sentence that starts with the rule's name
}

// constants reads the constants of a type out of a source file: their comments
// are where docs/protocol.md comes from.
func constants(t *testing.T, file, typ, rule string) (list []constant) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != typ {
			return true
		}
		c := constant{name: spec.Names[0].Name, value: spec.Values[0].(*ast.BasicLit).Value}
		doc := strings.Join(strings.Fields(spec.Doc.Text()), " ")
		doc, named := strings.CutPrefix(doc, c.name+": ")
		text, advice, ruled := strings.Cut(doc, " "+rule+": ")
		if !named || !ruled {
			t.Errorf("%s: the comment must be %q, what it means, and %q", c.name, c.name+": ", rule+": ")
		}
		c.text, c.rule = text, advice
		list = append(list, c)
		return true
	})
	if len(list) == 0 {
		t.Fatalf("%s has no constants of type %s", file, typ)
	}
	return list
}

func codeTable(t *testing.T) string {
	b := "| code | when | retry |\n|---|---|---|\n"
	for _, c := range constants(t, "error.go", "Code", "Retry") {
		code, err := strconv.Unquote(c.value)
		if err != nil {
			t.Fatal(err)
		}
		b += fmt.Sprintf("| `%s` | %s | %s |\n", code, c.text, c.rule)
	}
	return b
}

func closeTable(t *testing.T) string {
	b := "| code | when | reconnect |\n|---|---|---|\n"
	for _, c := range constants(t, "close.go", "CloseCode", "Reconnect") {
		b += fmt.Sprintf("| %s | %s | %s |\n", c.value, c.text, c.rule)
	}
	return b
}

func fieldTable(*testing.T) string {
	b := "| field | | requests (**required**) |\n|---|---|---|\n"
	for f := fieldID; f < fieldOther; f++ {
		name, rule, _ := strings.Cut(expected[f], ": ")
		rule = strings.NewReplacer("must be given, as any", "any", "must be ", "", "2^53-1", "2<sup>53</sup>-1").Replace(rule)
		in := usedBy(f)
		switch {
		case strings.HasPrefix(name, "user."):
			in = "with `user`"
		case strings.HasPrefix(name, "resume."):
			in = "**with `resume`**"
		case f == fieldID:
			in = "all"
		case f == fieldType:
			in = "**all**"
		}
		b += fmt.Sprintf("| `%s` | %s | %s |\n", name, rule, in)
	}
	return b
}

func usedBy(f field) string {
	var in []string
	for _, s := range shapes {
		switch {
		case s.needs&(1<<f) != 0:
			in = append(in, "**`"+s.name+"`**")
		case s.uses&(1<<f) != 0:
			in = append(in, "`"+s.name+"`")
		}
	}
	return strings.Join(in, ", ")
}

// TestProtocolPageIsFresh: the page's tables are those that the source makes.
// Run with -update to write them.
func TestProtocolPageIsFresh(t *testing.T) {
	page := readPage(t)
	fresh := page
	for name, table := range map[string]func(*testing.T) string{"fields": fieldTable, "codes": codeTable, "close codes": closeTable} {
		begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
		head, rest, ok := strings.Cut(fresh, begin)
		_, tail, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("docs/protocol.md has no place for the table of %s", name)
		}
		fresh = head + begin + table(t) + end + tail
	}
	if fresh == page {
		return
	}
	if !*update {
		t.Fatal("docs/protocol.md is stale: run go test ./internal/wire -run TestProtocolPageIsFresh -update")
	}
	if err := os.WriteFile(protocolPage, []byte(fresh), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readPage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryCloseHasARunbookEntry: the log points there.
func TestEveryCloseHasARunbookEntry(t *testing.T) {
	b, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := []CloseCode{0, 4000}
	for _, c := range constants(t, "close.go", "CloseCode", "Reconnect") {
		n, err := strconv.Atoi(c.value)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, CloseCode(n))
	}
	for _, c := range codes {
		page, anchor, _ := strings.Cut(c.Runbook(), "#")
		heading := "\n### " + strings.ToUpper(anchor[:1]) + strings.ReplaceAll(anchor[1:], "-", " ") + "\n"
		if page != "docs/observability.md" || !strings.Contains(string(b), heading) {
			t.Errorf("%d: no entry %q at %s", c, heading, page)
		}
	}
}

// TestReconnectMatchesItsComment: what the code says is what the page says.
func TestReconnectMatchesItsComment(t *testing.T) {
	for _, c := range constants(t, "close.go", "CloseCode", "Reconnect") {
		n, err := strconv.Atoi(c.value)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := CloseCode(n).Reconnect(), strings.HasPrefix(c.rule, "yes"); got != want || !want && !strings.HasPrefix(c.rule, "no") {
			t.Errorf("%s: Reconnect() = %t, but the comment says %q", c.name, got, c.rule)
		}
	}
	if !CloseCode(1006).Reconnect() {
		t.Error("a lost connection is not worth another try")
	}
}

// example is one JSON object of the page, and the heading it stands under.
type example struct {
	kind, heading, text string
	members             map[string]json.RawMessage
	typ                 string
}

func examples(t *testing.T) (list []example) {
	t.Helper()
	heading, kind, text := "", "", ""
	for line := range strings.Lines(readPage(t)) {
		switch {
		case kind == "" && strings.HasPrefix(line, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		case kind == "" && strings.HasPrefix(line, "```json"):
			kind = strings.TrimSpace(strings.TrimPrefix(line, "```json"))
			text = ""
		case kind != "" && strings.HasPrefix(line, "```"):
			e := example{kind: kind, heading: heading, text: strings.TrimSpace(text)}
			if err := json.Unmarshal([]byte(text), &e.members); err != nil {
				t.Fatalf("under %q: %v in %s", heading, err, text)
			}
			if err := json.Unmarshal(e.members["type"], &e.typ); err != nil {
				t.Fatalf("under %q: type: %v", heading, err)
			}
			list, kind = append(list, e), ""
		case kind != "":
			text += line
		}
	}
	return list
}

// TestExamplesOfRequestsParse: and together they show every field of each.
func TestExamplesOfRequestsParse(t *testing.T) {
	shown := map[Type]map[string]bool{}
	for _, e := range examples(t) {
		if e.kind != "request" {
			continue
		}
		var r Request
		if err := Parse([]byte(e.text), &r); err != nil {
			t.Errorf("%s: %v", e.text, err)
		}
		if r.Type == TypeUnknown || e.heading != e.typ {
			t.Errorf("%s: is no request of this protocol, or not the one of its heading %q", e.text, e.heading)
		}
		if shown[r.Type] == nil {
			shown[r.Type] = map[string]bool{}
		}
		for name := range e.members {
			f := fieldNamed([]byte(name))
			if f > fieldType && shapes[r.Type].uses&(1<<f) == 0 {
				t.Errorf("%s: a %s has no field %s", e.text, r.Type, name)
			}
			shown[r.Type][name] = true
		}
	}
	for typ := TypeCreate; int(typ) < len(shapes); typ++ {
		for f := fieldRoomID; f < fieldUserID; f++ {
			name, _, _ := strings.Cut(expected[f], ":")
			if shapes[typ].uses&(1<<f) != 0 && !shown[typ][name] {
				t.Errorf("no example of %s shows its field %s", typ, name)
			}
		}
	}
}

// TestExamplesOfServerMessagesAreReal: each has all the fields that the encoder
// always writes, and none that it never does; and each message has an example.
func TestExamplesOfServerMessagesAreReal(t *testing.T) {
	type shape struct {
		ever, always map[string]bool
		shown        bool
	}
	shapes := map[string]*shape{}
	for _, s := range samples() {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(s.frame.Payload(), &members); err != nil {
			t.Fatal(err)
		}
		name := strings.Trim(string(members["type"]), `"`)
		sh := shapes[name]
		if sh == nil {
			sh = &shape{ever: map[string]bool{}, always: map[string]bool{}}
			for m := range members {
				sh.always[m] = true
			}
			shapes[name] = sh
		}
		for m := range members {
			sh.ever[m] = true
		}
		for m := range sh.always {
			if members[m] == nil {
				delete(sh.always, m)
			}
		}
	}
	check := func(text string, members map[string]json.RawMessage) {
		name := strings.Trim(string(members["type"]), `"`)
		sh := shapes[name]
		if sh == nil {
			t.Errorf("%s: there is no such message", text)
			return
		}
		sh.shown = true
		for m := range members {
			if !sh.ever[m] {
				t.Errorf("%s: a %s has no field %s", text, name, m)
			}
		}
		for m := range sh.always {
			if members[m] == nil {
				t.Errorf("%s: a %s always has the field %s", text, name, m)
			}
		}
	}
	for _, e := range examples(t) {
		if e.kind == "request" {
			continue
		}
		if e.kind != "reply" && e.kind != "event" {
			t.Errorf("%s: a block of JSON is a request, a reply or an event", e.text)
		}
		if (e.members["id"] == nil) != (e.kind == "event") && e.typ != "error" {
			t.Errorf("%s: a reply has an id, an event has none", e.text)
		}
		check(e.text, e.members)
		var inner []map[string]json.RawMessage
		if list := e.members["messages"]; list != nil {
			if err := json.Unmarshal(list, &inner); err != nil {
				t.Error(err)
			}
		}
		for _, m := range inner {
			check(e.text, m)
		}
	}
	for name, sh := range shapes {
		if !sh.shown {
			t.Errorf("docs/protocol.md has no example of %s", name)
		}
	}
}

// TestLinksInThePageLead: every #anchor is a heading.
func TestLinksInThePageLead(t *testing.T) {
	page := readPage(t)
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		anchors = append(anchors, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))
	}
	for _, m := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains(anchors, m[1]) {
			t.Errorf("#%s leads nowhere", m[1])
		}
	}
}

// TestPageNamesTheBounds: the numbers in the prose are the constants.
func TestPageNamesTheBounds(t *testing.T) {
	page := readPage(t)
	for _, want := range []string{
		fmt.Sprintf("nested %d deep", MaxDepth),
		fmt.Sprintf("at most %d, and a page", MaxLimit),
		"`" + Subprotocol + "`",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/protocol.md does not say %q", want)
		}
	}
}
