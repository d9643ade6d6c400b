package workload

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = u.UnmarshalJSON(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// deploys is a target whose pods read what refs, a part of a pod spec, name.
func deploys(t *testing.T, refs string) *unstructured.Unstructured {
	t.Helper()
	u := target(t)
	extra := map[string]any{}
	if err := yaml.Unmarshal([]byte(refs), &extra); err != nil {
		t.Fatal(err)
	}
	spec := mapAt(u.Object, podSpecPath()...)
	for field, value := range extra {
		spec[field] = value
	}
	return u
}

const fromSettings = `
containers:
- name: podinfod
  image: podinfo:1
  envFrom: [{configMapRef: {name: settings}}]
volumes:
- name: token
  secret: {secretName: token}`

const settingsYAML = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: test, labels: {team: shop, app: x}, annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}}
data: {a: one}
binaryData: {logo: AAEC}`

const tokenYAML = `
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: test}
type: Opaque
data: {key: Zmlyc3Q=}`

// bench is a cluster with a target that reads a ConfigMap and a Secret.
type bench struct {
	*testing.T
	client *fake.FakeDynamicClient
	kind   *deployment
}

func newBench(t *testing.T, objects ...*unstructured.Unstructured) *bench {
	t.Helper()
	lists := map[schema.GroupVersionResource]string{
		deploymentKind().ref("", "").Resource: "DeploymentList", revisionsResource(): "ControllerRevisionList",
		configMapsResource(): "ConfigMapList", secretsResource(): "SecretList",
	}
	for _, s := range scalers() {
		lists[s.resource] = s.kind + "List"
	}
	var list []runtime.Object
	for _, o := range objects {
		list = append(list, o)
	}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, list...)
	options := Options{TrackConfigs: true, IncludeLabelPrefix: []string{"team"}}
	_, d := cluster()
	d.client, d.options = client, NewKinds(client, nil, options).options
	return &bench{t, client, d}
}

// live is what a cache of this cluster holds.
func (b *bench) live() router.Live {
	return liveFunc(func(ref router.Ref) (*unstructured.Unstructured, error) {
		u := b.find(ref)
		if u == nil {
			return nil, nil
		}
		return Summarize(u), nil
	})
}

func (b *bench) find(ref router.Ref) *unstructured.Unstructured {
	b.Helper()
	u, err := b.client.Resource(ref.Resource).Namespace("test").Get(b.Context(), ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return u
}

func (b *bench) config(kind, name string) *unstructured.Unstructured {
	return b.find(configKey{kind, name}.ref("test"))
}

func (b *bench) store(ref router.Ref, u *unstructured.Unstructured) {
	b.Helper()
	resource := b.client.Resource(ref.Resource).Namespace("test")
	var err error
	if b.find(ref) == nil {
		_, err = resource.Create(b.Context(), u, metav1.CreateOptions{})
	} else {
		_, err = resource.Update(b.Context(), u, metav1.UpdateOptions{})
	}
	if err != nil {
		b.Fatal(err)
	}
}

// change sets a value of the ConfigMap.
func (b *bench) change(value string) {
	b.Helper()
	u := b.config(configMapKind, "settings").DeepCopy()
	b.store(configKey{configMapKind, "settings"}.ref("test"), set(b.T, u, value, "data", "a"))
}

func (b *bench) observe(c *v1beta1.Canary) Observation {
	b.Helper()
	o, problem := b.kind.Observe(c, b.live(), now)
	if problem != nil {
		b.Fatalf("problem: %+v", problem)
	}
	return o
}

// promote makes the primary the copy of what the target is now.
func (b *bench) promote(c *v1beta1.Canary) {
	b.Helper()
	if err := b.kind.EnsurePrimary(b.Context(), c, b.observe(c).Target.Revision); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) primaryOf(c *v1beta1.Canary) *unstructured.Unstructured {
	return b.find(deploymentKind().ref("test", PrimaryName(c)))
}

func TestConfigRefs(t *testing.T) {
	spec := mapAt(deploys(t, `
volumes:
- {name: a, configMap: {name: v-map, optional: true}}
- {name: b, secret: {secretName: v-secret}}
- {name: c, projected: {sources: [{configMap: {name: p-map}}, {secret: {name: p-secret, optional: true}}, {serviceAccountToken: {path: t}}]}}
- {name: d, emptyDir: {}}
imagePullSecrets: [{name: pull}]
containers:
- name: main
  env:
  - {name: A, valueFrom: {configMapKeyRef: {name: e-map, key: a}}}
  - {name: B, valueFrom: {secretKeyRef: {name: e-secret, key: a, optional: true}}}
  - {name: C, value: plain}
  envFrom: [{configMapRef: {name: f-map}}, {secretRef: {name: f-secret}}]
initContainers:
- name: init
  envFrom: [{configMapRef: {name: v-map}}, {secretRef: {name: i-secret, optional: true}}]
`).Object, podSpecPath()...)
	want := map[configKey]bool{
		{configMapKind, "v-map"}: true, {secretKind, "v-secret"}: true, {configMapKind, "p-map"}: true, {secretKind, "p-secret"}: false,
		{configMapKind, "e-map"}: true, {secretKind, "e-secret"}: false, {configMapKind, "f-map"}: true, {secretKind, "f-secret"}: true,
		{secretKind, "i-secret"}: false,
	}
	if diff := cmp.Diff(want, mandatory(spec)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	names := map[string]string{}
	for key := range want {
		names[key.String()] = key.name + "-primary"
	}
	renameConfigs(spec, names)
	for key := range mandatory(spec) {
		if len(key.name) < 8 || key.name[len(key.name)-8:] != "-primary" {
			t.Errorf("%s was not renamed", key)
		}
	}
}

func TestWhatIsTracked(t *testing.T) {
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: token, namespace: test}\ndata: {a: YQ==}\ntype: "
	const annotated = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: test, annotations: {flagger.app/config-tracking: %s}}\n"
	for name, c := range map[string]struct {
		object string
		want   bool
	}{
		"ConfigMap":              {settingsYAML, true},
		"opted out":              {fmt.Sprintf(annotated, "disabled"), false},
		"opted in":               {fmt.Sprintf(annotated, "enabled"), true},
		"Opaque":                 {secret + "Opaque", true},
		"basic auth":             {secret + "kubernetes.io/basic-auth", true},
		"ssh auth":               {secret + "kubernetes.io/ssh-auth", true},
		"TLS":                    {secret + "kubernetes.io/tls", true},
		"service account token":  {secret + "kubernetes.io/service-account-token", false},
		"type of somebody else":  {secret + "example.com/vault", false},
		"registry configuration": {secret + "kubernetes.io/dockerconfigjson", false},
	} {
		t.Run(name, func(t *testing.T) {
			u := object(t, c.object)
			if got := trackable(u); got != c.want {
				t.Errorf("trackable = %v", got)
			}
			if got := trackable(Summarize(u)); got != c.want {
				t.Errorf("trackable when summarized = %v", got)
			}
		})
	}
}

func TestD04_CachesHoldNoContents(t *testing.T) {
	for _, text := range []string{settingsYAML, tokenYAML} {
		u := object(t, text)
		s := Summarize(u)
		for _, field := range []string{"data", "binaryData", "stringData"} {
			if s.Object[field] != nil {
				t.Errorf("%s keeps %s", u.GetKind(), field)
			}
		}
		if len(s.GetAnnotations()) != 0 {
			t.Errorf("%s keeps annotations %v", u.GetKind(), s.GetAnnotations())
		}
		if digestOf(s) != digestOf(u) || Summarize(s) != s {
			t.Errorf("%s: the summary has another digest", u.GetKind())
		}
	}
	if u := target(t); Summarize(u) != u {
		t.Error("a Deployment was summarized")
	}
}

func TestMissingConfig(t *testing.T) {
	for name, c := range map[string]struct {
		refs, says string
	}{
		"mandatory": {fromSettings, `GetTargetConfigs failed: configmap settings.test get query error: configmaps "settings" not found`},
		"optional":  {"volumes: [{name: a, configMap: {name: settings, optional: true}}]", ""},
	} {
		b := newBench(t, deploys(t, c.refs), object(t, tokenYAML))
		o, problem := b.kind.Observe(canary(), b.live(), now)
		if c.says == "" {
			if problem != nil || o.Target.Revision.Configs == nil || len(o.Target.Revision.Configs) != 0 {
				t.Errorf("%s: %+v, configs %v", name, problem, o.Target.Revision.Configs)
			}
			continue
		}
		if problem == nil || problem.Reason != rollout.ReasonConfigNotFound || problem.Unknown || problem.Message[:len(c.says)] != c.says {
			t.Errorf("%s: problem = %+v", name, problem)
		}
		if o.Target.Revision.Configs != nil {
			t.Errorf("%s: what is left of the configs is taken for all of them: %v", name, o.Target.Revision.Configs)
		}
	}
}

func TestUnreadableConfigIsUnknown(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings))
	failing := liveFunc(func(ref router.Ref) (*unstructured.Unstructured, error) {
		if ref.Kind == "ConfigMap" {
			return nil, errors.New("etcd is away")
		}
		return b.live().Get(ref)
	})
	_, problem := b.kind.Observe(canary(), failing, now)
	if problem == nil || !problem.Unknown || problem.Message != "GetTargetConfigs failed: configmap settings.test get query error: etcd is away" {
		t.Errorf("problem = %+v", problem)
	}
}

func TestErrorOfCopyingConfigs(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	broken := errors.New("etcd is away")
	b.client.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, broken })
	err := b.kind.EnsurePrimary(t.Context(), canary(), b.observe(canary()).Target.Revision)
	const want = "createPrimaryDeployment failed: CreatePrimaryConfigs failed: creating configmap settings-primary.test failed: etcd is away"
	if !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestA12_CopyIsTotal(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	for _, key := range []configKey{{configMapKind, "settings"}, {secretKind, "token"}} {
		source, copied := b.config(key.kind, key.name), b.config(key.kind, key.name+"-primary")
		if copied == nil {
			t.Fatalf("no copy of %s", key)
		}
		for _, field := range contentFields() {
			if diff := cmp.Diff(source.Object[field], copied.Object[field]); diff != "" {
				t.Errorf("%s %s (-source +copy):\n%s", key, field, diff)
			}
		}
		if owner := metav1.GetControllerOf(copied); owner == nil || owner.Name != "podinfo" || owner.Kind != "Canary" {
			t.Errorf("%s is controlled by %v", key, owner)
		}
	}
	copied := b.config(configMapKind, "settings-primary")
	if diff := cmp.Diff(map[string]string{"team": "shop"}, copied.GetLabels()); diff != "" {
		t.Errorf("labels:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{copyOfAnnotation: "settings"}, copied.GetAnnotations()); diff != "" {
		t.Errorf("annotations:\n%s", diff)
	}
	got := mandatory(mapAt(b.primaryOf(canary()).Object, podSpecPath()...))
	want := map[configKey]bool{{configMapKind, "settings-primary"}: true, {secretKind, "token-primary"}: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the primary reads (-want +got):\n%s", diff)
	}
	b.client.ClearActions()
	b.promote(canary())
	if got := writes(b.client); len(got) != 0 {
		t.Errorf("a promotion done twice writes %v", got)
	}
}

func TestA12_BinaryDataIsAChange(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	before := b.observe(canary()).Target.Revision.Configs
	u := b.config(configMapKind, "settings")
	b.store(configKey{configMapKind, "settings"}.ref("test"), set(t, u, "AAED", "binaryData", "logo"))
	if cmp.Equal(before, b.observe(canary()).Target.Revision.Configs) {
		t.Error("the revision is the same")
	}
}

// Nodes keep the content of an immutable object for as long as a pod uses it, so a new content needs a new name.
func TestA12_ImmutableCopyIsReplacedUnderAnotherName(t *testing.T) {
	frozen := set(t, object(t, settingsYAML), true, "immutable")
	b := newBench(t, deploys(t, fromSettings), frozen, object(t, tokenYAML))
	b.promote(canary())
	first := b.config(configMapKind, "settings-primary")
	if first.Object["immutable"] != true {
		t.Fatal("the copy is not immutable")
	}
	b.change("two")
	b.promote(canary())
	if diff := cmp.Diff(first, b.config(configMapKind, "settings-primary")); diff != "" {
		t.Errorf("the copy that running pods use changed:\n%s", diff)
	}
	name := "settings-" + digestOf(b.config(configMapKind, "settings")).all[:8] + "-primary"
	if u := b.config(configMapKind, name); u == nil || stringAt(u.Object, "data", "a") != "two" {
		t.Errorf("%s = %v", name, u)
	}
	if _, ok := mandatory(mapAt(b.primaryOf(canary()).Object, podSpecPath()...))[configKey{configMapKind, name}]; !ok {
		t.Errorf("the primary does not read %s", name)
	}
}

func TestA12_SecretOfAnotherTypeIsCopied(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	next := set(t, object(t, tokenYAML), "kubernetes.io/basic-auth", "type")
	b.store(configKey{secretKind, "token"}.ref("test"), set(t, next, "bmV4dA==", "data", "username"))
	b.promote(canary())
	name := "token-" + digestOf(next).all[:8] + "-primary"
	if u := b.config(secretKind, name); u == nil || stringAt(u.Object, "type") != "kubernetes.io/basic-auth" {
		t.Errorf("%s = %v", name, u)
	}
}

func TestA18_NoPromotionChangesTheCopyOfAnotherCanary(t *testing.T) {
	other := canary()
	other.Name, other.UID, other.Spec.TargetRef.Name = "web", "web-uid", "web"
	web := deploys(t, fromSettings)
	web.SetName("web")
	b := newBench(t, deploys(t, fromSettings), web, object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	b.promote(other)
	first := b.config(configMapKind, "settings-primary")
	b.change("two")
	b.promote(other)
	if diff := cmp.Diff(first, b.config(configMapKind, "settings-primary")); diff != "" {
		t.Errorf("the copy of the other Canary changed:\n%s", diff)
	}
	if u := b.config(configMapKind, "settings-web-primary"); u == nil || stringAt(u.Object, "data", "a") != "two" {
		t.Errorf("own copy = %v", u)
	}
}

// Flagger leaves one copy for all, with an owner reference for each Canary.
func TestA18_CopySharedByFlaggerIsLeftAlone(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	shared := b.config(configMapKind, "settings-primary")
	shared.SetOwnerReferences(append(shared.GetOwnerReferences(), metav1.OwnerReference{Kind: "Canary", Name: "web", UID: "web-uid"}))
	b.store(configKey{configMapKind, "settings-primary"}.ref("test"), shared)
	b.change("two")
	b.promote(canary())
	if got := stringAt(b.config(configMapKind, "settings-primary").Object, "data", "a"); got != "one" {
		t.Errorf("the shared copy has %q", got)
	}
	if u := b.config(configMapKind, "settings-podinfo-primary"); u == nil {
		t.Error("no copy of its own")
	}
}

func TestIncidentB17_AnObjectOfTheUserIsNotOverwritten(t *testing.T) {
	users := object(t, settingsYAML)
	users.SetName("settings-primary")
	b := newBench(t, deploys(t, fromSettings), users, object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	if diff := cmp.Diff(users, b.config(configMapKind, "settings-primary")); diff != "" {
		t.Errorf("changed:\n%s", diff)
	}
}

func TestIncidentB17_WhatIsPromotedIsWhatWasAnalyzed(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	b.change("analyzed")
	analyzed := b.observe(canary()).Target.Revision
	b.change("later")
	b.client.ClearActions()
	if err := b.kind.EnsurePrimary(t.Context(), canary(), analyzed); !errors.Is(err, ErrMoved) {
		t.Errorf("error = %v, want ErrMoved", err)
	}
	if got := writes(b.client); len(got) != 0 {
		t.Errorf("writes = %v", got)
	}
}

func TestChangedConfigIsACopyOfNoneUntilPromoted(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	id := idOf(mapAt(b.primaryOf(canary()).Object, "spec", "template"))
	b.change("two")
	o := b.observe(canary())
	if cmp.Equal(o.Target.Revision.Configs, o.Primary.CopyConfigs) {
		t.Error("the primary counts as a copy of the changed ConfigMap")
	}
	// A copy that was written by a process that died right after it says nothing about what the pods were started with.
	if _, err := b.kind.copies().ensure(t.Context(), canary(), o.Target.Revision); err != nil {
		t.Fatal(err)
	}
	if o := b.observe(canary()); cmp.Equal(o.Target.Revision.Configs, o.Primary.CopyConfigs) {
		t.Error("pods that were not started anew count as a copy")
	}
	b.promote(canary())
	if o := b.observe(canary()); !cmp.Equal(o.Target.Revision.Configs, o.Primary.CopyConfigs) {
		t.Errorf("after the promotion the primary has %v", o.Primary.CopyConfigs)
	}
	if idOf(mapAt(b.primaryOf(canary()).Object, "spec", "template")) == id {
		t.Error("the pods were not started anew")
	}
}

func TestRebuiltPrimaryTakesNoNewerConfigs(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	promoted := b.observe(canary()).Target.Revision
	c := canary()
	c.Status.Rollout = &v1beta1.RolloutStatus{Promoted: &v1beta1.RevisionRef{Fingerprint: promoted.Fingerprint, Configs: promoted.Configs}}
	b.change("failed")
	drop := func(ref router.Ref) {
		if err := b.client.Resource(ref.Resource).Namespace("test").Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	drop(deploymentKind().ref("test", "podinfo-primary"))
	if err := b.kind.EnsurePrimary(t.Context(), c, promoted); err != nil {
		t.Fatal(err)
	}
	if got := stringAt(b.config(configMapKind, "settings-primary").Object, "data", "a"); got != "one" {
		t.Errorf("the copy has %q", got)
	}
	if o := b.observe(c); !cmp.Equal(o.Primary.CopyConfigs, promoted.Configs) {
		t.Errorf("the rebuilt primary has %v", o.Primary.CopyConfigs)
	}

	// Without the copy there is nothing to rebuild it from: that is an error for the user, not a reason to try again.
	drop(deploymentKind().ref("test", "podinfo-primary"))
	drop(configKey{configMapKind, "settings-primary"}.ref("test"))
	err := b.kind.EnsurePrimary(t.Context(), c, promoted)
	if err == nil || errors.Is(err, ErrMoved) {
		t.Errorf("error = %v", err)
	}
}

// Flagger copies no binaryData and records nothing on the primary. The data decides whether anything changed since.
func TestAdoptsTheCopiesOfFlagger(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	primary, ref := b.primaryOf(canary()), deploymentKind().ref("test", "podinfo-primary")
	primary.SetAnnotations(nil)
	b.store(ref, set(t, primary, "random", "spec", "template", "metadata", "annotations", idAnnotation))
	copied := b.config(configMapKind, "settings-primary")
	delete(copied.Object, "binaryData")
	copied.SetAnnotations(nil)
	b.store(configKey{configMapKind, "settings-primary"}.ref("test"), copied)
	if got, want := digestOf(copied).data, fingerprint.FlaggerData(map[string]string{"a": "one"}); got != want {
		t.Fatalf("checksum %s, Flagger has %s", got, want)
	}
	o := b.observe(canary())
	if o.Primary.Copy != o.Target.Revision.Fingerprint || !cmp.Equal(o.Primary.CopyConfigs, o.Target.Revision.Configs) {
		t.Errorf("copy of %s with %v", o.Primary.Copy, o.Primary.CopyConfigs)
	}
	b.change("two")
	if o := b.observe(canary()); cmp.Equal(o.Primary.CopyConfigs, o.Target.Revision.Configs) {
		t.Error("a ConfigMap that was changed before the takeover counts as promoted")
	}
}

func TestUntrackedConfigsAreNotCopied(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.kind.options.TrackConfigs = false
	o := b.observe(canary())
	if o.Target.Revision.Configs != nil {
		t.Errorf("configs = %v, want nil", o.Target.Revision.Configs)
	}
	b.promote(canary())
	if b.config(configMapKind, "settings-primary") != nil {
		t.Error("copied")
	}
}

// Secrets of types that are not tracked are known by their metadata alone. One that pods read is there, and no part of a revision.
func TestSecretOfAnotherTypeIsThere(t *testing.T) {
	podSpec := mapAt(deploys(t, fromSettings).Object, podSpecPath()...)
	token := Outline(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "token", Namespace: "test"}})
	for name, test := range map[string]struct {
		token *unstructured.Unstructured
		want  rollout.ProblemReason
	}{"outlined": {token: token}, "missing": {want: rollout.ReasonConfigNotFound}} {
		configs, _, problem := observeConfigs("test", mandatory(podSpec), liveFunc(func(ref router.Ref) (*unstructured.Unstructured, error) {
			if ref.Name == "token" {
				return test.token, nil
			}
			return Summarize(object(t, settingsYAML)), nil
		}))
		switch {
		case test.want == "" && (problem != nil || len(configs) != 1):
			t.Errorf("%s: configs %v, problem %v", name, configs, problem)
		case test.want != "" && (problem == nil || problem.Reason != test.want):
			t.Errorf("%s: problem %v", name, problem)
		}
	}
}
