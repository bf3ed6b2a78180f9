package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/keyledger/keyledger/events"
)

// envBrowser turns the tests in a browser on: they take some seconds. Set to "install", it
// lets root install Debian's chromium where none is found.
const envBrowser = "KEYLEDGER_BROWSER"

// browserPatience is how long a test in a browser may take.
const browserPatience = 2 * time.Minute

// chromium finds the browser, or skips the test with what is missing.
func chromium(t *testing.T) string {
	t.Helper()
	wish := os.Getenv(envBrowser)
	if wish == "" {
		t.Skip(envBrowser + " is not set: make report-browser runs this")
	}
	if path := findChromium(); path != "" {
		return path
	}
	apt, err := exec.LookPath("apt-get")
	if wish != "install" || os.Geteuid() != 0 || err != nil {
		t.Skip("chromium is missing: apt-get install chromium")
	}
	for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "chromium"}} {
		cmd := exec.CommandContext(t.Context(), apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("chromium is missing and cannot be installed (apt-get %s: %v): %s", args[0], err, out)
		}
	}
	path := findChromium()
	if path == "" {
		t.Fatal("chromium was installed and is not there")
	}
	return path
}

func findChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// browser is a page in headless Chromium, and what it complained of or asked for.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex // over the rest
	complaints []string
	requests   []string
}

// openBrowser starts Chromium without a network.
func openBrowser(t *testing.T) *browser {
	ctx, cancel := context.WithTimeout(context.Background(), browserPatience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, chromedp.ExecPath(chromium(t)), chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox,
		chromedp.NoFirstRun, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1160, 900), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND"))
	t.Cleanup(cancel)
	b := &browser{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(b.listen))
	t.Cleanup(cancel)
	// It ends before its directory is removed.
	t.Cleanup(func() {
		if err := chromedp.Cancel(b.ctx); err != nil {
			t.Errorf("end the browser: %v", err)
		}
	})
	b.do()
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	return b
}

// listen notes what happens. It is called by the loop that reads from the browser.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complain := func(format string, args ...any) { b.complaints = append(b.complaints, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		complain("console.%s", e.Type)
	case *runtime.EventExceptionThrown:
		complain("exception: %s", e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		complain("%s: %s", e.Entry.Level, e.Entry.Text)
	case *page.EventJavascriptDialogOpening:
		complain("dialog: %s", e.Message)
		go chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// evaluate is the value of an expression on the page.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// open opens a report's file. The page may ask for itself and nothing else, and must not
// complain.
func (b *browser) open(path string) {
	b.t.Helper()
	address := (&url.URL{Scheme: "file", Path: path}).String()
	b.do(chromedp.Navigate(address))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.complaints {
		b.t.Errorf("%s: %s", filepath.Base(path), text)
	}
	if len(b.requests) != 1 || b.requests[0] != address {
		b.t.Errorf("%s: the browser asked for %q", filepath.Base(path), b.requests)
	}
	b.complaints, b.requests = nil, nil
}

// media sets what the page is shown on.
func (b *browser) media(kind, colours string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Media: kind, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: colours}},
	})
}

// overlaps is pairs of labels of one axis that stand on each other, and what stands out of
// its picture.
const overlaps = `[...document.querySelectorAll("svg.chart")].flatMap(svg => {
	const out = [], box = svg.getBoundingClientRect();
	for (const axis of [".time", ".amount"]) {
		const labels = [...svg.querySelectorAll(axis)].map(e => ({text: e.textContent, r: e.getBoundingClientRect()}));
		labels.forEach((a, i) => {
			if (a.r.left < box.left - 1 || a.r.right > box.right + 1 || a.r.top < box.top - 1 || a.r.bottom > box.bottom + 1) out.push(a.text + " stands out");
			labels.slice(i + 1).forEach(b => {
				if (a.r.left < b.r.right && b.r.left < a.r.right && a.r.top < b.r.bottom && b.r.top < a.r.bottom) out.push(a.text + " on " + b.text);
			});
		});
	}
	for (const e of svg.querySelectorAll("rect")) {
		const r = e.getBoundingClientRect();
		if (!(r.height > 0 && r.width > 0 && r.top >= box.top - 1 && r.bottom <= box.bottom + 1)) out.push("a bar stands out: " + e.textContent);
	}
	return out;
})`

// faint is texts whose contrast to what is behind them is less than WCAG 2.2 (1.4.3) asks
// of small text: 4.5.
const faint = `(() => {
	const light = c => { const [r, g, b] = c.match(/[\d.]+/g).map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
	return [...document.querySelectorAll("h1, h2, h3, p, li, th, td, dt, dd, summary, small, code, text")].filter(e => {
		const style = getComputedStyle(e), a = light(e.tagName === "text" ? style.fill : style.color), b = light(behind(e));
		return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
	}).map(e => e.tagName + " " + e.textContent.slice(0, 40));
})()`

// TestReportInABrowser: the page loads nothing, runs nothing and complains of nothing,
// whatever the names in it; nothing in it overlaps; it can be read in light and dark.
func TestReportInABrowser(t *testing.T) {
	b := openBrowser(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "report.html")
	write(t, path, exampleReport())
	b.open(path)
	for selector, want := range map[string]float64{
		"h1": 1, "svg.chart": 6, "#live-requests rect": 7 * 29, "#live-refusals tbody tr": 4, "#live-top tbody tr": 9,
		"#keys tbody tr": 9, "#webhooks .narrow tbody tr": 3, "#basis dd": 4, "#test": 0, "#empty": 0, "details[open]": 0,
		"script, img, link, iframe, object, [style], [onerror]": 0,
	} {
		if got := evaluate[float64](b, fmt.Sprintf("document.querySelectorAll(%q).length", selector)); got != want {
			t.Errorf("%s: %v, not %v", selector, got, want)
		}
	}
	if got := evaluate[[]string](b, `[document.querySelector("h1").textContent, document.title]`); got[0] != "Acme "+hostile || got[1] != "Acme "+hostile+": usage report" {
		t.Errorf("the title is %q", got)
	}
	if got := evaluate[[]string](b, `[...document.querySelectorAll("svg.chart")].filter(s => !s.querySelector("title").textContent || s.querySelector("desc").textContent.length < 40).map(s => s.outerHTML.slice(0, 80))`); len(got) > 0 {
		t.Errorf("without a description: %q", got)
	}
	background := map[string]string{}
	for _, colours := range []string{"light", "dark"} {
		b.media("screen", colours)
		background[colours] = evaluate[[]string](b, `[getComputedStyle(document.body).backgroundColor]`)[0]
		if got := evaluate[[]string](b, faint); len(got) > 0 {
			t.Errorf("hard to read when %s: %q", colours, got)
		}
		b.screenshot(filepath.Join(dir, colours+".png"))
	}
	if background["light"] == background["dark"] {
		t.Errorf("light and dark are both %s", background["light"])
	}
	b.fits()
	b.media("print", "dark")
	if got := evaluate[[]string](b, `[getComputedStyle(document.body).backgroundColor]`)[0]; got != "rgb(255, 255, 255)" {
		t.Errorf("printed on %s", got)
	}
	if got := evaluate[float64](b, `Math.min(...[...document.querySelectorAll("details table")].map(e => e.getBoundingClientRect().height))`); got < 50 {
		t.Errorf("printed, a table of numbers is %v high", got)
	}
}

// fits checks that nothing overlaps or stands out, on screens of several widths.
func (b *browser) fits() {
	b.t.Helper()
	for _, width := range []int64{1160, 720, 390} {
		b.do(chromedp.EmulateViewport(width, 900))
		if got := evaluate[[]string](b, overlaps); len(got) > 0 {
			b.t.Errorf("%d wide: %q", width, got)
		}
		if got := evaluate[float64](b, `document.documentElement.scrollWidth`); got > float64(width) {
			b.t.Errorf("%d wide: the page is %v", width, got)
		}
	}
}

// TestReportSpansInABrowser: labels have room, however long a time a report is about.
func TestReportSpansInABrowser(t *testing.T) {
	b := openBrowser(t)
	for name, length := range map[string]events.Time{"minutes": 5 * 60_000, "hours": 47 * milliHour, "days": 119 * milliDay, "months": 400 * milliDay, "years": 4000 * milliDay} {
		d := exampleReport()
		d.From = d.To - length
		d.setBy()
		for i := range d.Environments[0].Balances {
			points := d.Environments[0].Balances[i].Points
			for j := range points {
				points[j].At = d.From + length*events.Time(j)/events.Time(len(points)-1)
			}
		}
		path := filepath.Join(t.TempDir(), name+".html")
		write(t, path, d)
		b.open(path)
		b.fits()
	}
}

// TestEmptyReportInABrowser: a page about nothing says so.
func TestEmptyReportInABrowser(t *testing.T) {
	b := openBrowser(t)
	path := filepath.Join(t.TempDir(), "empty.html")
	d := exampleReport()
	d.Environments, d.Keys, d.Endpoints = []environmentData{{Name: "live"}, {Name: "test"}}, nil, nil
	write(t, path, d)
	b.open(path)
	if got := evaluate[[]string](b, `[document.querySelector("#empty").innerText]`)[0]; !strings.Contains(got, "no requests, credits, keys or webhook endpoints") {
		t.Errorf("it says %q", got)
	}
	if got := evaluate[float64](b, `document.querySelectorAll("svg, table, .tiles").length`); got != 0 {
		t.Errorf("%v pictures of nothing", got)
	}
}

// screenshot writes a picture of the whole page, which must not be all of one colour.
func (b *browser) screenshot(path string) {
	b.t.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if len(picture) < 50_000 {
		b.t.Errorf("%s has only %d bytes", filepath.Base(path), len(picture))
	}
}

func write(t *testing.T, path string, d *reportData) {
	t.Helper()
	if err := writeNew(path, false, newPage(d).render); err != nil {
		t.Fatal(err)
	}
}
