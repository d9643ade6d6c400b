package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	fenced   = regexp.MustCompile("(?ms)^( *)(```|~~~).*?^ *(```|~~~)$")
	heading  = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	inline   = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	explicit = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
)

// pages are the Markdown files that a reader may come to, by their path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, root := range []string{"../README.md", "../CONTRIBUTING.md", "../charts", "../docs", "../hack/testbed/README.md"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
				return err
			}
			text, err := os.ReadFile(path)
			found[path] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// slug is the anchor of a heading, as GitHub and the site of make docs make it.
func slug(heading string) string {
	heading = linkText.ReplaceAllString(heading, "$1")
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

// anchors are those that links may name on a page. Of headings that read the same all but the first have a number.
func anchors(text string) map[string]bool {
	all, times := map[string]bool{}, map[string]int{}
	for _, h := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		s := slug(h[1])
		if n := times[s]; n > 0 {
			all[fmt.Sprintf("%s-%d", s, n)] = true
		} else {
			all[s] = true
		}
		times[s]++
	}
	for _, id := range explicit.FindAllStringSubmatch(text, -1) {
		all[id[1]] = true
	}
	return all
}

// brokenLinks lists the links of a page that lead nowhere. Those to other sites are not followed.
func brokenLinks(path, text string, pages map[string]string) []string {
	var broken []string
	prose := inline.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")
	for _, l := range link.FindAllStringSubmatch(prose, -1) {
		if strings.Contains(l[1], "://") || strings.HasPrefix(l[1], "mailto:") {
			continue
		}
		file, anchor, _ := strings.Cut(l[1], "#")
		target := path
		if file != "" {
			target = filepath.Join(filepath.Dir(path), file)
		}
		if _, err := os.Stat(target); err != nil {
			broken = append(broken, l[1])
		} else if page, ok := pages[target]; anchor != "" && (!ok || !anchors(page)[anchor]) {
			broken = append(broken, l[1])
		}
	}
	return broken
}

func TestLinks(t *testing.T) {
	all := pages(t)
	if len(all) < 20 {
		t.Fatalf("%d pages", len(all))
	}
	for path, text := range all {
		for _, l := range brokenLinks(path, text, all) {
			t.Errorf("%s: link %s leads nowhere", path, l)
		}
	}
}

// What the test above is to find, it finds.
func TestLinksThatLeadNowhereAreFound(t *testing.T) {
	all := map[string]string{"alerts.md": "# Alerts\n\n```\n# no heading\n```\n## A `b` c-d: e\n## A b c-d e\n"}
	page := "[a](alerts.md) [b](alerts.md#a-b-c-d-e) [c](alerts.md#a-b-c-d-e-1) [d](https://example.com/x) `[e](none.md)`\n" +
		"[f](none.md) [g](alerts.md#no-heading) [h](#none)\n"
	all["events.md"] = page
	if got := strings.Join(brokenLinks("events.md", page, all), " "); got != "none.md alerts.md#no-heading #none" {
		t.Errorf("found %q", got)
	}
}
