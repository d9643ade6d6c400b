package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// listed are the names in the first column of the tables of a page that is written from the code.
func listed(page, name string) map[string]bool {
	all := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| \\**`("+name+")`\\** ").FindAllStringSubmatch(page, -1) {
		all[row[1]] = true
	}
	return all
}

// fields are the paths of all fields of the API, as in spec.analysis.match.
func fields(reference string) map[string]bool {
	all := map[string]bool{}
	for _, section := range strings.Split(reference, "\n### ")[1:] {
		head, rest, _ := strings.Cut(section, "\n")
		_, path, _ := strings.Cut(head, " ")
		path = strings.NewReplacer("[]", "", ".*", "").Replace(path)
		all[path] = true
		for name := range listed(rest, `\w+`) {
			all[path+"."+name] = true
		}
	}
	return all
}

// ofOtherProjects are names of that look which belong to somebody else, with a dash for whatever follows.
func ofOtherProjects() []string {
	return []string{
		"--full", "--set", "--skip-crds", "--binary", "--debug", "-source-poll-timeout", "-enable-prometheus-metrics", "-serve-route-metrics", "-update",
		"-canaryupstream-", "status.supportedFeatures", "status.parents", "status.value", "spec.traffic", "spec.paused", "spec.replicas",
		"spec.preserveUnknownFields",
		// A Rollout of 2018 has these.
		"spec.canary.name", "spec.canary.host", "spec.primary.name", "spec.primary.host", "spec.virtualService.name",
	}
}

// known are the names that there are.
type known struct {
	flags, metrics, fields, values map[string]bool
}

func everything(t *testing.T, all map[string]string) known {
	t.Helper()
	k := known{
		flags:   listed(all["../docs/flags.md"]+all["../docs/load-tester.md"], `-[a-z_-]+`),
		metrics: listed(all["../docs/metrics.md"]+all["../docs/load-tester.md"], `(?:flagger|workqueue)_[a-z_]+`),
		values:  listed(all["../docs/reference/chart-values.md"], `[\w.]+`),
		fields:  fields(all["../docs/reference/api.md"]),
	}
	if len(k.flags) < 40 || len(k.metrics) < 15 || len(k.values) < 100 || len(k.fields) < 200 {
		t.Fatalf("%d flags, %d metrics, %d values, %d fields", len(k.flags), len(k.metrics), len(k.values), len(k.fields))
	}
	return k
}

var (
	flagName   = regexp.MustCompile(`^--?[a-z][a-z_-]+`)
	fieldName  = regexp.MustCompile(`^(?:spec|status|analysis)(?:\.[a-zA-Z]+)+`)
	valueName  = regexp.MustCompile(`^[a-zA-Z]+(?:\.[a-zA-Z]+)+(=.*)?$`)
	metricName = regexp.MustCompile(`\b(?:flagger|workqueue)_[a-z_]+`)
	ofHist     = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// lacks is what kind of name a piece of code on a page seems to be that does not exist, empty if it is none or exists.
func (k known) lacks(code string) string {
	if name := flagName.FindString(code); name != "" && !k.flags[name] && !slices.Contains(ofOtherProjects(), name) {
		return "flag"
	}
	name := fieldName.FindString(code)
	if after, found := strings.CutPrefix(name, "analysis."); found {
		name = "spec.analysis." + after
	}
	if name != "" && !k.fields[strings.Replace(name, "spec.canaryAnalysis", "spec.analysis", 1)] && !slices.Contains(ofOtherProjects(), name) {
		return "field"
	}
	name, _, _ = strings.Cut(valueName.FindString(code), "=")
	top, _, _ := strings.Cut(name, ".")
	if name == "" || !k.hasValue(func(value string) bool { return strings.HasPrefix(value, top+".") }) {
		return ""
	}
	// It may be a part of a value, or the value a part of it.
	if !k.hasValue(func(value string) bool {
		return strings.HasPrefix(value+".", name+".") || strings.HasPrefix(name, value+".")
	}) {
		return "value"
	}
	return ""
}

func (k known) hasValue(is func(string) bool) bool {
	for value := range k.values {
		if is(value) {
			return true
		}
	}
	return false
}

// Flags, metrics, fields and values of charts that pages name exist. That those which exist are on a page is what generates it.
func TestNamesExist(t *testing.T) {
	all := pages(t)
	k := everything(t, all)
	for path, text := range all {
		if path == "../docs/guarantees.md" || strings.Contains(path, "/hack/") || strings.HasSuffix(path, "CONTRIBUTING.md") {
			// They have names of tests and of tools.
			continue
		}
		for _, span := range inline.FindAllString(fenced.ReplaceAllString(text, ""), -1) {
			code := strings.Trim(span, "`")
			if what := k.lacks(code); what != "" {
				t.Errorf("%s: there is no %s %s", path, what, code)
			}
		}
		for _, name := range metricName.FindAllString(text, -1) {
			if !k.metrics[name] && !k.metrics[ofHist.ReplaceAllString(name, "")] {
				t.Errorf("%s: there is no metric %s", path, name)
			}
		}
	}
}

// What the test above is to find, it finds.
func TestNamesThatDoNotExistAreFound(t *testing.T) {
	k := known{
		flags: map[string]bool{"-port": true}, fields: map[string]bool{"spec.analysis.match": true},
		values: map[string]bool{"slack.url": true, "resources": true, "crd.create": true},
	}
	for code, want := range map[string]string{
		"-port=80": "", "-prot": "flag", "spec.analysis.match": "", "analysis.match": "", "analysis.mach": "field", "slack.url": "", "slack.uri": "value",
		"crd.create=true": "", "resources.limits": "", "strings.Cut": "", "slack.com/api": "",
	} {
		if got := k.lacks(code); got != want {
			t.Errorf("%s: %q, want %q", code, got, want)
		}
	}
}
