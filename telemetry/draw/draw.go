package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/wsrelay/relay/telemetry/tracetree"
)

// Sizes in pixels.
const (
	width   = 1000
	treeW   = 390 // of the tree, on the left
	margin  = 16
	top     = 64 // above the first line
	line    = 26
	indent  = 18
	labelW  = 84 // right of the bars, for the duration
	minimum = 2  // of a bar
)

// The colours follow what the reader has chosen; text is text, so that a screen
// reader can read it.
const style = `
.bg{fill:#fff}.t{fill:#1f2328;font:13px system-ui,sans-serif}.s{fill:#59636e;font:11px system-ui,sans-serif}
.g{stroke:#d1d9e0;stroke-width:1}.z{fill:#f6f8fa}.b0{fill:#0969da}.b1{fill:#1a7f37}.b2{fill:#9a6700}.b3{fill:#8250df}.b4{fill:#bf3989}
.e{fill:#cf222e}.k{stroke:#d1d9e0;fill:none}
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.t{fill:#f0f6fc}.s{fill:#9198a1}.g,.k{stroke:#3d444d}.z{fill:#151b23}
.b0{fill:#4493f8}.b1{fill:#3fb950}.b2{fill:#d29922}.b3{fill:#ab7df8}.b4{fill:#db61a2}.e{fill:#f85149}}`

// picture is a drawing in the making.
type picture struct {
	bytes.Buffer
	start time.Time
	total time.Duration
	where map[string]int // of a service on an instance: its colour
	names []string
}

// Draw makes the picture of one or more trees, which should be of one trace.
func Draw(roots []*tracetree.Span) []byte {
	p := &picture{where: make(map[string]int)}
	rows, end := 0, roots[0].End
	p.start = roots[0].Start
	for _, r := range roots {
		r.Walk(func(s *tracetree.Span, _ int) {
			rows++
			if s.Start.Before(p.start) {
				p.start = s.Start
			}
			if s.End.After(end) {
				end = s.End
			}
			p.colour(s)
		})
	}
	p.total = max(end.Sub(p.start), time.Microsecond)
	height := top + rows*line + 2*margin + 18*((len(p.names)+2)/3)
	p.head(roots[0], height)
	p.grid(rows)
	y := top
	for _, r := range roots {
		r.Walk(func(s *tracetree.Span, depth int) {
			p.row(s, depth, y)
			y += line
		})
	}
	p.legend(y + margin)
	p.WriteString("</svg>\n")
	return p.Bytes()
}

// colour gives each service on each instance its own.
func (p *picture) colour(s *tracetree.Span) int {
	name := s.Service
	if s.Instance != "" {
		name += " on " + s.Instance
	}
	n, ok := p.where[name]
	if !ok {
		n = len(p.names)
		p.where[name] = n
		p.names = append(p.names, name)
	}
	return n % 5
}

func (p *picture) head(root *tracetree.Span, height int) {
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="title"><title id="title">Trace %s</title><style>%s</style>`+"\n",
		width, height, text(root.TraceID), style)
	fmt.Fprintf(p, `<rect class="bg" width="%d" height="%d"/>`+"\n", width, height)
	fmt.Fprintf(p, `<text class="t" x="%d" y="26">%s</text><text class="s" x="%d" y="44">trace %s, %s, %s</text>`+"\n",
		margin, text(root.Name), margin, text(root.TraceID), span(p.total), root.Start.UTC().Format("2006-01-02 15:04:05.000 MST"))
}

// grid draws stripes and five marks of time.
func (p *picture) grid(rows int) {
	for i := 0; i < rows; i += 2 {
		fmt.Fprintf(p, `<rect class="z" x="0" y="%d" width="%d" height="%d"/>`+"\n", top+i*line, width, line)
	}
	for i := range 5 {
		at := p.total * time.Duration(i) / 4
		x := p.x(p.start.Add(at))
		fmt.Fprintf(p, `<line class="g" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="s" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, x, top, top+rows*line, x, top-6, span(at))
	}
}

func (p *picture) x(t time.Time) float64 {
	const w = width - treeW - labelW - margin
	return treeW + w*float64(t.Sub(p.start))/float64(p.total)
}

func (p *picture) row(s *tracetree.Span, depth, y int) {
	x := margin + depth*indent
	if depth > 0 {
		fmt.Fprintf(p, `<path class="k" d="M%d %dv%dh10"/>`, x-10, y-line/2+6, line-6)
	}
	class := "t"
	if s.Failed || s.Attrs["error.type"] != "" {
		class = "e t"
	}
	fmt.Fprintf(p, `<text class="%s" x="%d" y="%d">%s <tspan class="s">%s</tspan></text>`, class, x+4, y+17, text(s.Name), text(detail(s)))
	x0, x1 := p.x(s.Start), p.x(s.End)
	bar := fmt.Sprintf("b%d", p.colour(s))
	if s.Failed {
		bar = "e"
	}
	fmt.Fprintf(p, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="12" rx="2"><title>%s</title></rect>`, bar, x0, y+7, max(x1-x0, minimum), text(tooltip(s)))
	for _, e := range s.Events {
		fmt.Fprintf(p, `<circle class="e" cx="%.1f" cy="%d" r="4"><title>%s</title></circle>`, p.x(e.Time), y+13, text(e.Name+" "+e.Attrs["relay.connection.id"]))
	}
	fmt.Fprintf(p, `<text class="s" x="%.1f" y="%d">%s</text>`+"\n", max(x1, x0+minimum)+6, y+17, span(s.Duration()))
}

// detail is the one attribute that says most.
func detail(s *tracetree.Span) string {
	a := s.Attrs
	switch {
	case a["error.type"] != "":
		return a["error.type"]
	case a["relay.filter.verdict"] != "":
		return a["relay.filter.verdict"]
	case a["relay.policy.result"] != "":
		return a["relay.policy.result"]
	case a["relay.fanout.members"] != "":
		return a["relay.fanout.written"] + " of " + a["relay.fanout.members"] + " sockets"
	case a["db.operation.name"] != "":
		return a["messaging.system"] + " " + a["db.operation.name"]
	}
	return s.Kind
}

func tooltip(s *tracetree.Span) string {
	return fmt.Sprintf("%s %s, %s, %s", strings.ToUpper(s.Kind), s.Name, s.Service, span(s.Duration()))
}

func (p *picture) legend(y int) {
	for i, name := range p.names {
		x, row := margin+(i%3)*(width-2*margin)/3, y+18*(i/3)
		fmt.Fprintf(p, `<rect class="b%d" x="%d" y="%d" width="12" height="12" rx="2"/><text class="s" x="%d" y="%d">%s</text>`+"\n", i%5, x, row, x+18, row+10, text(name))
	}
}

// span writes a duration with three digits at most.
func span(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

func text(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
