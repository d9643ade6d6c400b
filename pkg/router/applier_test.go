package router_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
)

var ctx = context.Background()

func thing(name string) router.Ref {
	return router.Ref{
		Resource: schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"},
		Kind:     "Thing", Namespace: "test", Name: name,
	}
}

func object(name string, spec map[string]any) router.Object {
	return router.Object{
		Ref:    thing(name),
		Wanted: router.NewObject(thing(name), nil, nil, spec),
		Owned:  [][]string{{"spec", "a"}, {"spec", "deep", "b"}},
	}
}

func put(t *testing.T, store *conformance.Store, ref router.Ref, annotations map[string]string, spec map[string]any) {
	t.Helper()
	if err := store.Put(ref, router.NewObject(ref, nil, annotations, spec)); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, store *conformance.Store, ref router.Ref) *unstructured.Unstructured {
	t.Helper()
	o, err := store.Get(ref)
	if err != nil || o == nil {
		t.Fatalf("%s: %v, %v", ref, o, err)
	}
	return o
}

func TestApplyWritesOnlyOwnedPaths(t *testing.T) {
	type fields = map[string]any
	tests := map[string]struct{ live, wanted, want fields }{
		"sets":           {fields{"x": "1"}, fields{"a": "2"}, fields{"x": "1", "a": "2"}},
		"removes":        {fields{"a": "1", "x": "1"}, fields{}, fields{"x": "1"}},
		"removes last":   {fields{"a": "1"}, nil, fields{}},
		"removes deep":   {fields{"deep": fields{"b": "1", "x": "1"}}, fields{}, fields{"deep": fields{"x": "1"}}},
		"replaces map":   {fields{"a": fields{"x": "1", "y": "1"}}, fields{"a": fields{"y": "2"}}, fields{"a": fields{"y": "2"}}},
		"replaces list":  {fields{"a": []any{"1", "2"}}, fields{"a": []any{"2"}}, fields{"a": []any{"2"}}},
		"map to scalar":  {fields{"a": fields{"x": "1"}}, fields{"a": "1"}, fields{"a": "1"}},
		"scalar to map":  {fields{"a": "1"}, fields{"a": fields{"x": "1"}}, fields{"a": fields{"x": "1"}}},
		"parent missing": {fields{}, fields{"deep": fields{"b": int64(1)}}, fields{"deep": fields{"b": int64(1)}}},
		"not ours":       {fields{"deep": fields{"x": "1"}}, fields{"deep": fields{"x": "2"}}, fields{"deep": fields{"x": "1"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			store := conformance.NewStore(nil)
			put(t, store, thing("x"), nil, test.live)
			applier := router.NewApplier(store, store)
			for range 2 {
				if err := applier.Apply(ctx, conformance.Podinfo(), []router.Object{object("x", test.wanted)}); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.want, get(t, store, thing("x")).Object["spec"]); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			if writes := store.Writes(); len(writes) > 1 {
				t.Errorf("writes %v, want one at the most", writes)
			}
		})
	}
}

func TestEqualNumbersAreNoDifference(t *testing.T) {
	store := conformance.NewStore(nil)
	put(t, store, thing("x"), nil, map[string]any{"a": int64(10)})
	changes, err := router.NewApplier(store, store).Diff(conformance.Podinfo(), []router.Object{
		object("x", map[string]any{"a": float64(10)}),
	})
	if err != nil || len(changes) > 0 {
		t.Errorf("Diff() = %v, %v; want nothing", changes, err)
	}
}

func Test10_OriginalIsKeptOnce(t *testing.T) {
	user := map[string]any{"a": "user", "x": "1"}
	tests := map[string]struct {
		annotations map[string]string
		want        string
	}{
		"first takeover":  {nil, `{"a":"user","x":"1"}`},
		"already kept":    {map[string]string{router.OriginalAnnotation: "first"}, "first"},
		"kept by kubectl": {map[string]string{router.KubectlAnnotation: "{}"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			store := conformance.NewStore(nil)
			put(t, store, thing("x"), test.annotations, user)
			applier := router.NewApplier(store, store)
			for _, value := range []string{"first step", "second step"} {
				wanted := object("x", map[string]any{"a": value})
				wanted.KeepOriginal = true
				if err := applier.Apply(ctx, conformance.Podinfo(), []router.Object{wanted}); err != nil {
					t.Fatal(err)
				}
			}
			if got := get(t, store, thing("x")).GetAnnotations()[router.OriginalAnnotation]; got != test.want {
				t.Errorf("original %q, want %q", got, test.want)
			}
		})
	}
}

func TestFailedReadChangesNothing(t *testing.T) {
	broken := errors.New("cache is not synced")
	store := conformance.NewStore(nil)
	applier := router.NewApplier(store, failing{broken})
	objects := []router.Object{object("x", map[string]any{"a": "1"})}
	if err := applier.Apply(ctx, conformance.Podinfo(), objects); !errors.Is(err, broken) || !strings.Contains(err.Error(), "Thing x.test") {
		t.Errorf("Apply(): %v, want the read error with the object", err)
	}
	if writes := store.Writes(); len(writes) > 0 {
		t.Errorf("writes %v, want none", writes)
	}
}

type failing struct{ err error }

func (f failing) Get(router.Ref) (*unstructured.Unstructured, error) { return nil, f.err }

func TestMissingScalerNamesItsField(t *testing.T) {
	resource := schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}
	ref := router.Ref{Resource: resource, Kind: "ScaledObject", Namespace: "test", Name: "x"}
	err := &router.WriteError{Ref: ref, Op: router.Create, Err: apierrors.NewGenericServerResponse(404, "post", resource.GroupResource(), "", "", 0, true)}
	if want := "install the CRD of scaledobjects.keda.sh, or set another spec.autoscalerRef"; !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %q, want it to end in %q", err, want)
	}
}

func TestWriteErrors(t *testing.T) {
	resource := schema.GroupResource{Group: "example.com", Resource: "things"}
	missing := apierrors.NewGenericServerResponse(404, "post", resource, "", "", 0, true)
	tests := map[string]struct {
		err   error
		want  string
		stale bool
	}{
		"missing CRD": {
			missing, "Thing x.test create error: the server could not find the requested resource (post things.example.com): " +
				"install the CRD of things.example.com, or set another spec.provider", false,
		},
		"missing namespace": {
			apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "test"),
			`Thing x.test create error: namespaces "test" not found`, false,
		},
		"exists": {
			apierrors.NewAlreadyExists(resource, "x"), `Thing x.test create error: things.example.com "x" already exists`, true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := fmt.Errorf("pass: %w", &router.WriteError{Ref: thing("x"), Op: router.Create, Err: test.err})
			if diff := cmp.Diff("pass: "+test.want, err.Error()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			if got := router.IsStale(err); got != test.stale {
				t.Errorf("IsStale() = %t, want %t", got, test.stale)
			}
		})
	}
}

// Somebody else who changes back what was written is told from a new state to write.
func TestIncidentB14_UndoneWritesAreCounted(t *testing.T) {
	store := conformance.NewStore(nil)
	applier := router.NewApplier(store, store)
	diff := func(value string) *router.Change {
		t.Helper()
		changes, err := applier.Diff(conformance.Podinfo(), []router.Object{object("x", map[string]any{"a": value})})
		if err != nil || len(changes) > 1 {
			t.Fatal(changes, err)
		}
		if len(changes) == 0 {
			return nil
		}
		return &changes[0]
	}
	apply := func(value string) {
		t.Helper()
		if err := applier.Apply(ctx, conformance.Podinfo(), []router.Object{object("x", map[string]any{"a": value})}); err != nil {
			t.Fatal(err)
		}
	}
	if got := diff("10"); got.Undone != 0 {
		t.Errorf("a state that was never written was undone: %+v", got)
	}
	apply("10")
	if got := diff("10"); got != nil {
		t.Errorf("change %+v of what is in place", got)
	}
	if got := diff("20"); got.Undone != 0 {
		t.Errorf("the next step was undone: %+v", got)
	}
	apply("20")
	last := 0
	for range 3 {
		put(t, store, thing("x"), nil, map[string]any{"a": "theirs"})
		got := diff("20")
		if got.Undone <= last || !slices.EqualFunc(got.Fields(), [][]string{{"spec", "a"}}, slices.Equal[[]string]) {
			t.Errorf("write %d of %v was undone, after write %d", got.Undone, got.Fields(), last)
		}
		if diff("20").Undone != got.Undone || diff("10").Undone != 0 {
			t.Error("a look at it counts, or another state does")
		}
		last = got.Undone
		apply("20")
	}
	store.Remove(thing("x"))
	if got := diff("20"); got.Op != router.Create || got.Undone <= last || got.Fields() != nil {
		t.Errorf("a deletion undid write %d, after write %d", got.Undone, last)
	}
	apply("20")
	if err := applier.Delete(ctx, conformance.Podinfo(), []router.Ref{thing("x")}); err != nil {
		t.Fatal(err)
	}
	if diff("20").Op != router.Create || diff("20").Undone != 0 {
		t.Errorf("our own deletion counts as somebody else's: %+v", diff("20"))
	}
}

// The applier remembers answers for live objects only: a cluster where Canaries come and go must not fill it.
func TestForgetsDeletedObjects(t *testing.T) {
	store := conformance.NewStore(nil)
	applier := router.NewApplier(store, store)
	for i := range 1000 {
		name := fmt.Sprintf("x-%d", i)
		if err := applier.Apply(ctx, conformance.Podinfo(), []router.Object{object(name, nil)}); err != nil {
			t.Fatal(err)
		}
		store.Remove(thing(name))
	}
	if got := router.Remembered(applier); got > 100 {
		t.Errorf("%d answers for no live object", got)
	}
}

func TestCheckAbilities(t *testing.T) {
	everything := router.Abilities{
		Routes: true, Weights: true, Mirror: true, MirrorWeight: true, Match: true, CanaryMatch: true,
		SessionAffinity: true, PrimaryCookie: true, TCP: true, RE2: true,
	}
	nothing := router.Abilities{Routes: true, Weights: true}
	kubernetes := router.Abilities{TCP: true}
	limited, pcre := everything, everything
	pcre.RE2 = false
	limited.MirrorWeight, limited.PrimaryCookie = false, false
	match := func(c *v1beta1.Canary) { c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{}} }
	mirror := func(c *v1beta1.Canary) { c.Spec.Analysis.Mirror, c.Spec.Analysis.MirrorWeight = true, 10 }
	affinity := func(c *v1beta1.Canary) {
		c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "a", PrimaryCookieName: "b"}
	}
	always := func(c *v1beta1.Canary) { c.Spec.Analysis.CanaryMatch = []v1beta1.AnalysisMatch{{}} }
	tcp := func(c *v1beta1.Canary) { c.Spec.Service.AppProtocol = "TCP" }
	// The look-ahead is that of an A/B test which many have copied from the time when Envoy took it.
	regex := func(c *v1beta1.Canary) {
		ahead := map[string]v1beta1.StringMatch{"user-agent": {Regex: "^(?!.*Chrome).*Safari.*"}, "cookie": {Regex: "^(.*?;)?(canary=always)(;.*)?$"}}
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: ahead}}
		c.Spec.Analysis.CanaryMatch = []v1beta1.AnalysisMatch{{QueryParams: map[string]v1beta1.StringMatch{"q": {Regex: `(a)\1`}}}}
		c.Spec.Service.Match = []v1beta1.HTTPMatchRequest{{URI: &v1beta1.StringMatch{Prefix: "/("}}, {URI: &v1beta1.StringMatch{Regex: "/("}}}
	}
	all := func(c *v1beta1.Canary) { match(c); mirror(c); affinity(c); tcp(c) }
	tests := map[string]struct {
		can   router.Abilities
		shape func(*v1beta1.Canary)
		want  []string
	}{
		"plain":               {nothing, func(*v1beta1.Canary) {}, nil},
		"no analysis":         {nothing, func(c *v1beta1.Canary) { c.Spec.Analysis = nil }, nil},
		"match":               {nothing, match, []string{"spec.analysis.match"}},
		"kubernetes match":    {kubernetes, match, nil},
		"A-11 mirror":         {nothing, mirror, nil},
		"kubernetes mirror":   {kubernetes, mirror, nil},
		"mirror weight":       {limited, mirror, nil},
		"affinity":            {nothing, affinity, nil},
		"primary cookie":      {limited, affinity, nil},
		"header and weights":  {nothing, always, []string{"spec.analysis.canaryMatch"}},
		"kubernetes header":   {kubernetes, always, []string{"spec.analysis.canaryMatch"}},
		"served header":       {everything, always, nil},
		"tcp":                 {nothing, tcp, []string{"spec.service.appProtocol"}},
		"kubernetes tcp":      {kubernetes, tcp, nil},
		"20 tcp with the lot": {everything, all, []string{"spec.analysis.match", "spec.analysis.mirror", "spec.analysis.sessionAffinity"}},
		"regular expressions": {everything, regex, []string{
			"spec.analysis.canaryMatch[0].queryParams[q].regex", "spec.analysis.match[0].headers[user-agent].regex", "spec.service.match[1].uri.regex",
		}},
		"regular expressions of PCRE": {pcre, regex, nil},
		"21 old analysis": {nothing, func(c *v1beta1.Canary) {
			match(c)
			c.Spec.CanaryAnalysis, c.Spec.Analysis = c.Spec.Analysis, nil
		}, []string{"spec.analysis.match"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := conformance.Podinfo()
			test.shape(c)
			var got []string
			for _, fault := range router.CheckAbilities(c, test.can) {
				got = append(got, fault.Field)
				if fault.Message == "" {
					t.Errorf("%s has no message", fault.Field)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestB20_Cookies(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Analysis.Interval = "not a duration"
	c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{
		CookieName: "a.b+c", PrimaryCookieName: "p", Domain: "example.com", Path: "/x",
	}
	pinned := router.AffinityOf(c, router.Traffic{Primary: 90, Canary: 10, Cookies: router.Cookies{
		Canary: "a.b+c=k(e)y", Primary: "p=v", Previous: "a.b+c=old",
	}})
	over := router.AffinityOf(c, router.Traffic{Primary: 100, Cookies: router.Cookies{
		Canary: "a.b+c=key", Previous: "a.b+c=old",
	}})
	tests := map[string]struct{ got, want string }{
		"canary lasts a day":             {pinned.SetCanary(), "a.b+c=k(e)y; Max-Age=86400; Domain=example.com; Path=/x"},
		"primary lasts a step":           {pinned.SetPrimary(), "p=v; Max-Age=60; Domain=example.com; Path=/x"},
		"patterns are literal":           {pinned.CanaryPattern(), `.*a\.b\+c.*k\(e\)y.*`},
		"deletion names path and domain": {over.Drop(), "a.b+c=old; Max-Age=-1; Domain=example.com; Path=/x"},
		"deletion is matched":            {over.PreviousPattern(), `.*a\.b\+c.*old.*`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("got %q, want %q", test.got, test.want)
			}
		})
	}
	if !pinned.Pinned() || !pinned.PrimaryPinned() || pinned.Dropping() || over.Pinned() || !over.Dropping() {
		t.Error("cookies are set while the canary has traffic and dropped when it has none")
	}
}
