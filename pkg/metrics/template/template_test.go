package template

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"text/template"
)

const size = 64 << 10

// The values that templates may use in these tests.
const (
	target  = "podinfo"
	special = "<a href=\"x\">'\\&\x00\x01\u00a0é\u200b\U0001F600\xff = %"
)

func variables() map[string]string {
	return map[string]string{"direction": "inbound", "code": "5..", "empty": "", "Ünder_1": "x"}
}

func shout(text string) string { return strings.ToUpper(text) + "!" }

func ours(text string) (string, error) {
	return Render(text, map[string]Func{
		"target": Value(target), "special": Value(special), "yes": Value(true), "no": Value(false),
		"variables": Value(variables()), "none": Value(map[string]string{}), "nothing": Value(map[string]string(nil)),
		"shout": OfText(shout),
	}, Limits{Budget: 100_000, Size: size})
}

// theirs is the same by text/template, which has no limits.
func theirs(text string) (string, error) {
	var out strings.Builder
	t, err := template.New("query").Option("missingkey=error").Funcs(template.FuncMap{
		"target": func() string { return target }, "special": func() string { return special },
		"yes": func() bool { return true }, "no": func() bool { return false },
		"variables": variables, "none": func() map[string]string { return map[string]string{} },
		"nothing": func() map[string]string { return nil },
		"shout":   shout,
	}).Parse(text)
	if err != nil {
		return "", err
	}
	if err := t.Execute(&out, nil); err != nil {
		return "", err
	}
	return out.String(), nil
}

// limited is whether an error is about limits, which text/template does not have.
func limited(err error) bool {
	return errors.Is(err, errBudget) || err != nil && strings.Contains(err.Error(), "longer than 65536 bytes")
}

func compare(t *testing.T, text string) {
	t.Helper()
	got, err := ours(text)
	if limited(err) {
		// It could keep text/template busy for ever.
		return
	}
	want, wantErr := theirs(text)
	if got != want {
		t.Errorf("%q:\ngot  %q\nwant %q", text, got, want)
	}
	if message(err) != message(wantErr) {
		t.Errorf("%q:\ngot  error %s\nwant error %s", text, message(err), message(wantErr))
	}
}

func message(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

func TestRendersAsTextTemplate(t *testing.T) {
	for what, texts := range examples() {
		t.Run(what, func(t *testing.T) {
			for _, text := range texts {
				if _, err := ours(text); limited(err) {
					t.Errorf("%q: %v", text, err)
				}
				compare(t, text)
			}
		})
	}
}

// Values of all types, which operators and functions get in all combinations.
func operands() []string {
	return []string{`nil`, `.`, `yes`, `false`, `0`, `1`, `-1`, `0x10`, `'a'`, `18446744073709551615`, `1.5`, `-1e3`, `2i`, `""`, `"a"`,
		`target`, `special`, `(index "a" 0)`, `(index "\x00" 0)`, `variables`, `none`, `nothing`, `variables.code`, `variables.nope`, `(1)`,
		`$`, `$.x`, `.x`, `target.x`, `(target).x.y`}
}

func TestFunctionsTreatAllValuesAsTextTemplate(t *testing.T) {
	for _, function := range []string{"and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery",
		"eq", "ne", "lt", "le", "gt", "ge", "call", "shout", "target", "if", "with", "range", "range $x :=", "range $x, $y :=", "", "$x :=",
		`printf "%v %d %q" 1`, `slice "abc"`, `index variables`, `index "abc"`, `slice "abc" 1`, `slice "abc" 1 2`, `slice "abc" 1 2 3`,
		`template "x"`, `block "x"`, `1 |`} {
		end := ""
		switch word, _, _ := strings.Cut(function, " "); word {
		case "if", "with", "range":
			end = "{{.}}{{else}}none{{end}}"
		case "block":
			end = "{{.}}{{$}}{{end}}"
		case "template":
			end = `{{define "x"}}{{.}}{{$}}{{end}}`
		}
		for _, a := range operands() {
			compare(t, "{{"+function+" "+a+"}}"+end)
			compare(t, "{{"+a+" | "+function+"}}")
			for _, b := range operands() {
				compare(t, "{{"+function+" "+a+" "+b+"}}"+end)
				compare(t, "{{"+a+" | "+function+" "+b+"}}")
			}
		}
	}
}

func FuzzRender(f *testing.F) {
	for _, texts := range examples() {
		for _, text := range texts {
			f.Add(text)
		}
	}
	f.Fuzz(compare)
}

func TestRefusesWhatTakesTooLong(t *testing.T) {
	const long, text, out = "takes too long to render", "makes a text longer than 65536 bytes", "the query is longer than 65536 bytes"
	for name, tc := range map[string]struct{ template, says string }{
		"endless":               {`{{range 1000000000000}}{{end}}`, long},
		"endless and continued": {`{{range 1000000000000}}{{continue}}{{end}}`, long},
		"loops in loops":        {`{{range 1000000}}{{range 1000000}}{{range 1000000}}{{end}}{{end}}{{end}}`, long},
		"else in loops":         {`{{range 1000000}}{{range 0}}{{else}}{{end}}{{end}}`, long},
		"calls itself":          {`{{template "query"}}`, long},
		"calls each other":      {`{{define "a"}}{{template "b"}}{{end}}{{define "b"}}{{template "a"}}{{end}}{{template "a"}}`, long},
		"forks":                 {`{{define "a"}}{{template "a"}}{{template "a"}}{{end}}{{template "a"}}`, long},
		"deep":                  {`{{define "x"}}` + strings.Repeat("{{if 1}}", 3000) + `{{template "x"}}` + strings.Repeat("{{end}}", 3000) + `{{end}}{{template "x"}}`, long},
		"many arguments":        {`{{range 9000}}{{if eq 0` + strings.Repeat(" 1", 20000) + `}}{{end}}{{end}}`, long},
		"many commands":         {`{{range 9000}}{{if 1` + strings.Repeat("|not", 15000) + `}}{{end}}{{end}}`, long},
		"many parentheses":      {`{{range 9000}}{{if ` + strings.Repeat("(", 9000) + "1" + strings.Repeat(")", 9000) + `}}{{end}}{{end}}`, long},
		"many nodes":            {`{{range 9000}}` + strings.Repeat("{{if 1}}{{end}}", 4000) + `{{end}}`, long},
		"wide again and again":  {`{{range 100000}}{{$x := printf "%*d" 60000 1}}{{end}}`, long},

		"doubles a text":                 {`{{$x := target}}{{range 100}}{{$x = printf "%s%s" $x $x}}{{end}}`, text},
		"prints it twice":                {`{{$x := target}}{{range 100}}{{$x = print $x $x}}{{end}}`, text},
		"escapes an escape":              {`{{$x := "\\"}}{{range 100}}{{$x = js $x}}{{end}}`, text},
		"escapes an escape for HTML":     {`{{$x := "<"}}{{range 100}}{{$x = html $x $x}}{{end}}`, text},
		"escapes an escape for URLs":     {`{{$x := "%"}}{{range 100}}{{$x = urlquery $x $x}}{{end}}`, text},
		"wide":                           {`{{printf "%1000000000d" 1}}`, text},
		"wide by an argument":            {`{{printf "%*d" 1000000000 1}}`, text},
		"wide by a negative argument":    {`{{printf "%-*d" -1000000000 1}}`, text},
		"wide by a byte":                 {`{{printf "` + strings.Repeat("%*d", 9000) + `" (index "\xff" 0) 1}}`, text},
		"precise":                        {`{{printf "%.100000000f" 1.5}}`, text},
		"wide after an unfinished verb":  {`{{printf "%5+%999999d" 1}}`, text},
		"wide in each part":              {`{{printf "%400000v" variables}}`, text},
		"wide in both parts":             {`{{printf "%400000v" 1i}}`, text},
		"the same in many verbs":         {`{{$x := printf "%60000d" 1}}{{printf "` + strings.Repeat("%[1]s", 10000) + `" $x}}`, text},
		"many arguments without a verb":  {`{{$x := printf "%60000d" 1}}{{printf "" ` + strings.Repeat(" $x", 10000) + `}}`, text},
		"many arguments are a long text": {`{{$x := printf "%30000d" 1}}{{print $x $x $x}}`, text},

		"long when put together": {`{{$x := printf "%40000d" 1}}{{$x}}{{$x}}`, out},
		"long with a text":       {`{{printf "%60000d" 1}}` + strings.Repeat("x", 6000), out},
		"long to begin with":     {strings.Repeat("x", size+1), out},
		"too long to parse":      {strings.Repeat("{{if 1}}", 100000), out},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ours(tc.template)
			if err == nil || !strings.Contains(err.Error(), tc.says) || got != "" {
				t.Errorf("got %d bytes, %v; want an error with %q", len(got), err, tc.says)
			}
		})
	}
}

// What is refused for its length must not have been there: it could be gigabytes.
func TestRefusedTextsAreNotMade(t *testing.T) {
	for _, text := range []string{
		`{{printf "%*d" 900000 1}}`,
		`{{printf "` + strings.Repeat("%60000[1]v", 12) + `" variables}}`,
		`{{printf "` + strings.Repeat("%60000[1]v", 12) + `" 1i}}`,
		`{{$x := printf "%60000d" 1}}{{printf "` + strings.Repeat("%[1]s", 1000) + `" $x}}`,
		`{{$x := printf "%60000d" 1}}{{printf ""` + strings.Repeat(" $x", 1000) + `}}`,
		`{{$x := printf "%60000d" 1}}{{print` + strings.Repeat(" $x", 1000) + `}}`,
		`{{$x := printf "%60000d" 1}}{{html` + strings.Repeat(" $x", 1000) + `}}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ours(text)
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; err == nil || made > 1<<20 {
			t.Errorf("%.40s: took %d bytes, %.200s", text, made, message(err))
		}
	}
}

// Only the budget is about the whole of a rendering, so no place is to blame. Other errors name the place.
func TestErrorsOfLimitsNameThePlaceOfATextOnly(t *testing.T) {
	for template, want := range map[string]string{
		`{{template "query"}}`: errBudget.Error(),
		`{{$x := printf "%60000d" 1}}{{range 90}}{{print $x}}{{$x = html $x}}{{end}}`: "the query is longer than 65536 bytes",
		"\n {{printf \"%999999d\" 1}}": `template: query:2:3: executing "query" at <printf "%999999d" 1>: error calling printf: the query makes a text longer than 65536 bytes`,
	} {
		if _, err := ours(template); message(err) != want {
			t.Errorf("%q: got %s, want %s", template, message(err), want)
		}
	}
}

// With a budget without end, it is the depth that ends the recursion, as in text/template.
func TestDepthIsLimited(t *testing.T) {
	const endless = `{{define "x"}}{{template "x"}}{{end}}{{template "x"}}`
	_, err := Render(endless, nil, Limits{Budget: 1 << 40, Size: size})
	_, want := theirs(endless)
	if message(err) != message(want) {
		t.Errorf("got %s, want %s", message(err), message(want))
	}
}

// A map with many keys costs as much as there is to sort, even if the loop is left at once.
func TestSortingIsPaid(t *testing.T) {
	many := make(map[string]string)
	for i := range 2000 {
		many[strings.Repeat("x", i)] = ""
	}
	_, err := Render(`{{range 1000}}{{range many}}{{break}}{{end}}{{end}}`, map[string]Func{"many": Value(many)}, Limits{Budget: 100_000, Size: size})
	if !errors.Is(err, errBudget) {
		t.Errorf("got %v, want %v", err, errBudget)
	}
}

// A function of the caller takes the place of a built-in one.
func TestFunctionsMayBeReplaced(t *testing.T) {
	got, err := Render(`{{or}} {{len "x"}}`, map[string]Func{"or": Value("replaced"), "len": OfText(shout)}, Limits{Budget: 1000, Size: size})
	if got != "replaced X!" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
