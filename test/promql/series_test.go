package promql

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// side is whose requests a series counts.
type side int

const (
	nobody side = iota
	primary
	canary
)

// export is what one mesh or ingress exports, read from a file in testdata. Lines that begin with "#:" say what its labels mean:
//
//	#: from where the series come from
//	#: recorded a file of series that a real system exported in the suite of data planes, below pkg/metrics/testdata/series
//	#: ingress the name of the user's Ingress in it
//	#: code the label with the status code of the answers
//	#: unit the unit of durations, s or ms; default ms
//	#: buckets the buckets of a series whose label le is "*"
//	#: canary, primary what only the series of that side have in them
//	#: together why the two sides are not told apart
type export struct {
	from, code, together string
	// ingress is the name of the user's Ingress. Default: podinfo.
	ingress string
	seconds bool
	series  []series
}

type series struct {
	labels labels.Labels
	side   side
}

func readExport(t *testing.T, file string) export {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var (
		e                 export
		buckets, recorded []string
		marks             = map[side]string{}
		metrics           = parser.NewParser(parser.Options{})
		lines             = bufio.NewScanner(f)
	)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, value, ok := directive(line); ok {
			switch name {
			case "from":
				e.from = value
			case "recorded":
				recorded = append(recorded, recordedLines(t, value)...)
			case "ingress":
				e.ingress = value
			case "code":
				e.code = value
			case "unit":
				e.seconds = value == "s"
			case "buckets":
				buckets = strings.Fields(value)
			case "canary":
				marks[canary] = value
			case "primary":
				marks[primary] = value
			case "together":
				e.together = value
			default:
				t.Fatalf("%s: unknown directive %q", file, name)
			}
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		recorded = append(recorded, expand(line, buckets)...)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, text := range recorded {
		parsed, err := metrics.ParseMetric(text)
		if err != nil {
			t.Fatalf("%s: %q: %v", file, text, err)
		}
		e.series = append(e.series, series{parsed, sideOf(text, marks)})
	}
	return e
}

// recordedLines are the series of a file, of all its cases as if they were one: each case was played in a namespace of its own.
func recordedLines(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../pkg/metrics/testdata/series", file))
	if err != nil {
		t.Fatal(err)
	}
	var namespaces []string
	for _, what := range []string{"bad", "slow"} {
		for _, whose := range []string{"canary", "primary"} {
			for _, join := range []string{"-", "_"} {
				namespaces = append(namespaces, what+join+whose, "test")
			}
		}
	}
	seen := map[string]bool{}
	var all []string
	for line := range strings.Lines(strings.NewReplacer(namespaces...).Replace(string(raw))) {
		text := withoutValue(strings.TrimSpace(line))
		if text == "" || strings.HasPrefix(text, "#") || seen[text] {
			continue
		}
		seen[text] = true
		all = append(all, text)
	}
	return all
}

func directive(line string) (name, value string, ok bool) {
	text, ok := strings.CutPrefix(line, "#: ")
	name, value, _ = strings.Cut(text, " ")
	return name, value, ok
}

// withoutValue drops the value, and the time, that a recorded line ends in.
func withoutValue(line string) string { return valueAfterLabels.ReplaceAllString(line, "}") }

var valueAfterLabels = regexp.MustCompile(`}\s+[-+.eE0-9NaInf ]+$`)

func expand(line string, buckets []string) []string {
	const any = `le="*"`
	if !strings.Contains(line, any) {
		return []string{line}
	}
	var all []string
	for _, le := range buckets {
		all = append(all, strings.Replace(line, any, fmt.Sprintf("le=%q", le), 1))
	}
	return all
}

func sideOf(text string, marks map[side]string) side {
	switch {
	case strings.Contains(text, marks[primary]):
		return primary
	case strings.Contains(text, marks[canary]):
		return canary
	default:
		return nobody
	}
}

// exports returns all files in testdata by their names, which are those of the observers.
func exports(t *testing.T) map[string]export {
	t.Helper()
	files, err := filepath.Glob("testdata/*.prom")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]export{}
	for _, file := range files {
		all[strings.TrimSuffix(filepath.Base(file), ".prom")] = readExport(t, file)
	}
	return all
}

// requests are those that a side answers between two scrapes.
type requests struct {
	ok, failed float64
	// milliseconds is how long each takes.
	milliseconds float64
	// unseen are the scrapes at the beginning that find no series of the side.
	unseen int
	// restarts is the scrape before which all counters begin anew. 0 means never.
	restarts int
}

// per is how much a series grows between two scrapes.
func (r requests) per(e export, l labels.Labels) float64 {
	n := r.ok + r.failed
	if code := l.Get(e.code); code != "" {
		n = r.ok
		if strings.HasPrefix(code, "5") {
			n = r.failed
		}
	}
	duration := r.milliseconds
	if e.seconds {
		duration /= 1000
	}
	name := l.Get(model.MetricNameLabel)
	switch {
	case strings.HasSuffix(name, "_sum"):
		return n * duration
	case l.Has(labels.BucketLabel):
		if le, err := strconv.ParseFloat(l.Get(labels.BucketLabel), 64); err == nil && le < duration {
			return 0
		}
	}
	return n
}
