package browser_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/examples/browser"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/telemetry"
)

// relay starts an instance in dev mode on an address; "127.0.0.1:0" for any.
func relay(t *testing.T, addr string) *app.App {
	t.Helper()
	cfg := config.Dev()
	cfg.Listen = addr
	log, err := telemetry.NewLog(telemetry.LogOptions{Output: os.Stderr, Level: "error", Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(cfg, nil, app.Options{Log: log, Dev: true, Page: browser.Handler()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, a) })
	return a
}

func stop(t *testing.T, a *app.App) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// chromium starts a headless browser for the test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	bin, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: `make setup` installs it")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(bin), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1200, 800))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	return ctx
}

// page is one tab.
type page struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string // what the page said to its console that it should not; guarded by mu
}

func open(t *testing.T, ctx context.Context, address string, setup ...chromedp.Action) *page {
	t.Helper()
	tab, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	tab, cancel = context.WithTimeout(tab, 90*time.Second)
	t.Cleanup(cancel)
	p := &page{t: t, ctx: tab}
	chromedp.ListenTarget(tab, func(ev any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			p.errors = append(p.errors, ev.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			if ev.Type == runtime.APITypeError {
				p.errors = append(p.errors, fmt.Sprint(ev.Args))
			}
		}
	})
	p.run(append(setup, chromedp.Navigate(address), chromedp.WaitReady("body"))...)
	return p
}

func (p *page) run(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of an expression.
func eval[T any](p *page, js string) (v T) {
	p.t.Helper()
	p.run(chromedp.Evaluate(js, &v))
	return v
}

// until waits for an expression to be true.
func (p *page) until(js string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.Poll(js, nil, chromedp.WithPollingInterval(20*time.Millisecond))); err != nil {
		p.t.Fatalf("%s: %v\nthe page says: %s", js, err, eval[string](p, "document.body.innerText"))
	}
}

const said = `[...document.querySelectorAll('[data-test=message] .body')].map((e) => e.textContent).join('|')`

func (p *page) hears(text string) {
	p.t.Helper()
	p.until(said + `.includes(` + fmt.Sprintf("%q", text) + `)`)
}

func (p *page) clean() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errors) > 0 {
		p.t.Errorf("console: %s", strings.Join(p.errors, "\n"))
	}
}

func at(addr net.Addr, room, name string) string {
	return "http://" + addr.String() + "/#" + url.Values{"room": {room}, "name": {name}}.Encode()
}

const online = `document.getElementById('state').dataset.state === 'online'`

// shot keeps a picture of the page where RELAY_SCREENSHOTS says, to look at.
func (p *page) shot(name string) {
	dir := os.Getenv("RELAY_SCREENSHOTS")
	if dir == "" {
		return
	}
	var b []byte
	p.run(chromedp.CaptureScreenshot(&b))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), b, 0o644); err != nil {
		p.t.Error(err)
	}
}

func TestTwoPagesChat(t *testing.T) {
	a, ctx := relay(t, "127.0.0.1:0"), chromium(t)
	ann := open(t, ctx, "http://"+a.Addr().String()+"/")
	ann.shot("enter")
	// By keyboard alone: the name has the focus, Enter goes on.
	ann.run(chromedp.KeyEvent("Ann"), chromedp.KeyEvent(kb.Enter))
	ann.until(online)
	bob := open(t, ctx, at(a.Addr(), "lobby", "Bob"))
	bob.until(online)
	ann.until(`document.querySelector('[data-test=members]').innerText.includes('Bob') && document.querySelector('[data-test=count]').textContent === '2'`)
	ann.run(chromedp.KeyEvent("hello from the keyboard"), chromedp.KeyEvent(kb.Enter))
	bob.hears("hello from the keyboard")
	ann.until(`!document.querySelector('.pending') && document.querySelector('.own .meta').textContent !== 'sending'`)
	bob.run(chromedp.SendKeys("[data-test=text]", "x"))
	ann.until(`document.querySelector('[data-test=typing]').textContent.includes('Bob is writing')`)
	// What others write is text, whatever it looks like.
	evil := `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`
	bob.run(chromedp.SetValue("[data-test=text]", evil), chromedp.SendKeys("[data-test=text]", kb.Enter))
	ann.hears("<img src=x")
	if eval[bool](ann, "!!window.pwned || !!document.querySelector('#log img, #log script')") {
		t.Error("a message was taken for HTML")
	}
	bob.run(chromedp.SetValue("[data-test=text]", "Good morning! Shall we look at the numbers?"), chromedp.SendKeys("[data-test=text]", kb.Enter))
	ann.hears("numbers")
	ann.shot("chat-light")
	bob.run(chromedp.Click("#theme"))
	if got := eval[string](bob, "document.documentElement.dataset.theme"); got != "dark" {
		t.Errorf("theme %q", got)
	}
	bob.shot("chat-dark")
	bob.run(chromedp.Click("[data-test=dev]"))
	bob.until(`document.querySelector('[data-test=frames]').textContent.includes('"type":"joined"')`)
	bob.shot("frames")
	ann.clean()
	bob.clean()
}

func TestThePageComesBackAndCatchesUp(t *testing.T) {
	a, ctx := relay(t, "127.0.0.1:0"), chromium(t)
	ann, bob := open(t, ctx, at(a.Addr(), "r", "Ann")), open(t, ctx, at(a.Addr(), "r", "Bob"))
	ann.until(online)
	bob.until(online)
	// Bob's network goes; what is said meanwhile is there when it is back.
	bob.run(chromedp.Evaluate(`WebSocket.prototype.close.call(ws), wait = 1500`, nil))
	bob.until(`document.getElementById('state').textContent.startsWith('reconnecting')`)
	ann.run(chromedp.SendKeys("[data-test=text]", "said meanwhile"+kb.Enter))
	bob.until(online)
	bob.hears("said meanwhile")
	bob.until(`document.getElementById('log').innerText.includes('Caught up with 1 message')`)
	// The server restarts: both come back by themselves, and a message written
	// meanwhile is sent then.
	addr := a.Addr().String()
	stop(t, a)
	ann.until(`document.getElementById('state').textContent.startsWith('reconnecting')`)
	ann.run(chromedp.SendKeys("[data-test=text]", "written without a server"+kb.Enter))
	relay(t, addr)
	ann.until(online)
	bob.until(online)
	bob.hears("written without a server")
	ann.until(`!document.querySelector('.pending')`)
	ann.clean()
	bob.clean()
}

func TestThePageFitsAPhone(t *testing.T) {
	a, ctx := relay(t, "127.0.0.1:0"), chromium(t)
	p := open(t, ctx, at(a.Addr(), "a-room-with-a-name-that-is-rather-long-for-a-phone", "Ann"), emulation.SetDeviceMetricsOverride(390, 844, 2, true))
	p.until(online)
	p.run(chromedp.SendKeys("[data-test=text]", strings.Repeat("averyveryverylongword", 10)+kb.Enter))
	p.until(`document.querySelector('.own') && !document.querySelector('.pending')`)
	p.shot("phone")
	if w := eval[int](p, "document.documentElement.scrollWidth"); w > 390 {
		t.Errorf("the page is %d wide on a phone of 390", w)
	}
	if small := eval[string](p, `[...document.querySelectorAll('input, textarea')].filter((e) => parseFloat(getComputedStyle(e).fontSize) < 16).map((e) => e.id).join()`); small != "" {
		t.Errorf("a phone would zoom in on %s", small)
	}
	p.run(chromedp.Click("[data-test=people]"))
	p.until(`getComputedStyle(document.getElementById('side')).visibility === 'visible' && document.getElementById('members').innerText.includes('Ann')`)
	p.shot("phone-people")
	p.run(chromedp.KeyEvent(kb.Escape))
	p.until(`getComputedStyle(document.getElementById('side')).visibility === 'hidden'`)
	p.clean()
}

func TestTheSystemsDarkModeIsTaken(t *testing.T) {
	a, ctx := relay(t, "127.0.0.1:0"), chromium(t)
	p := open(t, ctx, "http://"+a.Addr().String()+"/", emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	if got := eval[string](p, "document.documentElement.dataset.theme"); got != "dark" {
		t.Errorf("theme %q", got)
	}
}

func TestThePageNeedsNothingFromOutside(t *testing.T) {
	for _, s := range []string{"http://", "https://", "//cdn", "@import", "innerHTML", "eval("} {
		if strings.Contains(string(browser.Page()), s) {
			t.Errorf("the page has %q in it", s)
		}
	}
	a := relay(t, "127.0.0.1:0")
	res, err := http.Get("http://" + a.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'; script-src 'sha256-") || strings.Contains(csp, "unsafe") {
		t.Errorf("CSP %q", csp)
	}
}
