package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

// conformancePage is what the table is written to.
const conformancePage = "../../docs/conformance.md"

// realController is the controller of a mesh or ingress that reads, in a test of this suite, what the operator writes, without a data
// plane behind it.
type realController struct {
	provider, system string
	// features are those that the test goes through, by the names of the columns.
	features []string
	// test is its name.
	test string
}

// realControllers lists them.
func realControllers() []realController {
	return []realController{
		{provider: "apisix", system: "apisix-ingress-controller 1.8.4", features: []string{"weights", "A/B"}, test: "TestApisix"},
		// What leads the requests there stands in for a networking layer of Knative.
		{provider: "knative", system: "Knative Serving 0.47", features: []string{"weights"}, test: "TestKnativeServing"},
	}
}

// columns of the table: the features of providers, and the scenario of the conformance kit that each is.
func columns() []struct{ name, scenario string } {
	return []struct{ name, scenario string }{
		{"weights", "progressive"}, {"A/B", "ab-testing"}, {"header beside weights", "header-beside-weights"}, {"mirror", "mirror"}, {"mirror of a share", "mirror-weight"},
		{"sticky sessions", "affinity"}, {"sticky primary", "affinity-primary"}, {"TCP", "tcp"},
	}
}

// features are what the cases of this suite hold a data plane to.
func (p *dataPlane) features() []string {
	features := []string{"weights"}
	for _, f := range []struct {
		able bool
		name string
	}{
		{p.able.header || p.able.cookie, "A/B"}, {p.able.beside, "header beside weights"}, {p.able.mirror, "mirror"}, {p.able.share, "mirror of a share"}, {p.able.affinity, "sticky sessions"},
	} {
		if f.able {
			features = append(features, f.name)
		}
	}
	return features
}

// marks of the table.
const (
	apiOnly        = "API only"
	withController = "real controller"
	withDataPlane  = "real data plane"
)

// TestConformancePage compares docs/conformance.md with what the records of the conformance kit and the entries of this suite say.
func TestConformancePage(t *testing.T) {
	besideTheSources(t)
	got := conformanceOf(t)
	if conformance.Update() {
		if err := os.WriteFile(conformancePage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(conformancePage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-is +should be):\n%s\nrun make generate", conformancePage, diff)
	}
}

// TestRealControllersAreTested demands that the test of each real controller exists.
func TestRealControllersAreTested(t *testing.T) {
	besideTheSources(t)
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(raw)
	}
	for _, c := range realControllers() {
		if !strings.Contains(source.String(), "\nfunc "+c.test+"(") {
			t.Errorf("%s: there is no test %s", c.system, c.test)
		}
	}
}

// besideTheSources works in the folder of the package, as go test does. In a testbed the suite runs elsewhere.
func besideTheSources(t *testing.T) {
	t.Helper()
	if root := os.Getenv("ROOT"); root != "" {
		t.Chdir(filepath.Join(root, "test/e2e"))
	}
}

func conformanceOf(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`# Conformance

What each provider has been seen to do. This page is generated from the tests: ` + "`make generate`" + ` writes it, and a test fails when it is
not what they say.

- **` + withDataPlane + `**: real requests went through the real data plane of that system in the testbed, and the test looked at who answered
  them (` + "`make e2e-…`" + `).
- **` + withController + `**: the real controller of that system read the objects, and the test looked at what it made of them.
- **` + apiOnly + `**: the objects passed the [conformance kit](new-provider.md), with the CRDs of the system where the last column names them,
  and are compared with golden files.
- Empty: the provider can't, and a Canary that asks for it says so in its condition ` + "`Healthy`" + `.

| provider |`)
	for _, column := range columns() {
		fmt.Fprintf(&b, " %s |", column.name)
	}
	b.WriteString(" cases of the kit | CRDs |\n| --- |" + strings.Repeat(" --- |", len(columns())+2) + "\n")
	providers := registry.New(registry.Config{})
	for _, name := range providers.Names() {
		p, err := providers.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		record, err := conformance.ReadRecord(folderOf(p))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(row(p, name, record))
	}
	b.WriteString("\nReal systems behind these marks:\n\n")
	for _, p := range dataPlanes() {
		fmt.Fprintf(&b, "- data plane `%s`, provider `%s`: %s\n", p.name, p.provider, strings.Join(p.features(), ", "))
	}
	for _, c := range realControllers() {
		fmt.Fprintf(&b, "- controller %s (`%s`), provider `%s`: %s\n", c.system, c.test, c.provider, strings.Join(c.features, ", "))
	}
	return b.String()
}

// folderOf is where the package of a provider is.
func folderOf(p router.Provider) string {
	kind := reflect.TypeOf(p)
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	return filepath.Join("../..", strings.TrimPrefix(kind.PkgPath(), "flagger.app/flagger/"))
}

// sameProvider is whether two names stand for one provider, as gatewayapi and gatewayapi:v1 do.
func sameProvider(p router.Provider, name string) bool {
	other, err := registry.New(registry.Config{}).Provider(name)
	return err == nil && reflect.DeepEqual(p, other)
}

func row(p router.Provider, name string, record *conformance.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| `%s` |", name)
	for _, column := range columns() {
		mark := ""
		if record != nil && slices.Contains(record.Features, column.scenario) {
			mark = apiOnly
		}
		if slices.ContainsFunc(realControllers(), func(c realController) bool {
			return sameProvider(p, c.provider) && slices.Contains(c.features, column.name)
		}) {
			mark = withController
		}
		if slices.ContainsFunc(dataPlanes(), func(plane *dataPlane) bool {
			return sameProvider(p, plane.provider) && slices.Contains(plane.features(), column.name)
		}) {
			mark = withDataPlane
		}
		fmt.Fprintf(&b, " %s |", mark)
	}
	cases, crds := "", ""
	if record != nil {
		cases = fmt.Sprint(len(record.Cases))
		if len(record.CheckedCases) > 0 {
			cases, crds = fmt.Sprintf("%d, %d with the CRDs", len(record.Cases), len(record.CheckedCases)), record.Schemas
		}
	}
	fmt.Fprintf(&b, " %s | %s |\n", cases, crds)
	return b.String()
}
