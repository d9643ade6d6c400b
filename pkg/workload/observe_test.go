package workload

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

func TestObserve(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	primary := get(t, client, "podinfo-primary")
	set(t, primary, "primary-uid", "metadata", "uid")
	o, problem := d.Observe(canary(), live{"podinfo": target(t), "podinfo-primary": primary}, now)
	if problem != nil {
		t.Fatalf("problem = %+v", problem)
	}
	hash := revisionOf(t, target(t)).Fingerprint
	want := Observation{
		Target: rollout.Workload{
			Exists: true, Name: "podinfo", Kind: "Deployment", Replicas: 3, Available: 3,
			Revision: rollout.Revision{
				Fingerprint: hash, UID: "5f4dcc3b-5aa7-4d0e-a5d6-1d8327deb882", Generation: 7, FlaggerHash: "55d7df6586",
			},
			Paused: true,
			Health: rollout.Health{State: rollout.Ready},
		},
		Primary: rollout.Workload{
			Exists: true, Name: "podinfo-primary", Kind: "Deployment", Replicas: 3,
			Revision: rollout.Revision{Fingerprint: revisionOf(t, primary).Fingerprint, UID: "primary-uid"},
			Health:   waiting("waiting for rollout to finish: 0 out of 3 new replicas have been updated"),
			Copy:     hash, CopyRecorded: true,
		},
		Selector:  Selector{Label: "app", Value: "podinfo"},
		PodLabels: map[string]string{"app": "podinfo", "helm.toolkit.fluxcd.io/name": "apps", "track": "stable", "version": "v2"},
		Ports: []Port{
			{Name: "http", Number: 9898, Protocol: corev1.ProtocolTCP},
			{Name: "http-metrics", Number: 9797, Protocol: corev1.ProtocolTCP},
		},
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// The renderer of the Services takes the ports as they are.
	if got := services.Port(o.Ports[1]); got.Number != 9797 {
		t.Errorf("port = %+v", got)
	}
}

func TestObserveChangesNoCachedObject(t *testing.T) {
	objects := live{"podinfo": target(t), "podinfo-primary": flaggerPrimary(t, target(t))}
	before := live{"podinfo": objects["podinfo"].DeepCopy(), "podinfo-primary": objects["podinfo-primary"].DeepCopy()}
	_, d := cluster()
	d.Observe(canary(), objects, now)
	if diff := cmp.Diff(before, objects); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

// New pods with the old content are no other revision, whoever asked for them, and a promotion leaves them alone.
func TestA20_RestartedPrimaryIsStillTheCopy(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	primary := set(t, get(t, client, "podinfo-primary"), "2026-01-01T00:00:00Z", podAnnotations("kubectl.kubernetes.io/restartedAt")...)
	put(t, client, primary)
	o, problem := d.Observe(canary(), live{"podinfo": withImage(t, target(t), "podinfo:next"), "podinfo-primary": primary}, now)
	if want := revisionOf(t, target(t)).Fingerprint; problem != nil || o.Primary.Copy != want {
		t.Errorf("copy of %q, want %q; problem %+v", o.Primary.Copy, want, problem)
	}
	before := revisionOf(t, primary)
	ensure(t, d, canary(), target(t))
	if after := revisionOf(t, get(t, client, "podinfo-primary")); after.Fingerprint != before.Fingerprint {
		t.Error("the pods are started once more")
	}
}

// What the primary is a copy of must be true whatever happened to either of the two.
func TestCopyOfThePrimary(t *testing.T) {
	promoted := revisionOf(t, target(t)).Fingerprint
	next := withImage(t, target(t), "podinfo:next")
	ours := func(t *testing.T) *unstructured.Unstructured {
		client, d := cluster(target(t))
		ensure(t, d, canary(), target(t))
		return get(t, client, "podinfo-primary")
	}
	tests := []struct {
		name    string
		target  *unstructured.Unstructured
		primary *unstructured.Unstructured
		want    string
	}{
		{"recorded", target(t), ours(t), promoted},
		{"recorded, and the target moved on", next, ours(t), promoted},
		{"edited by hand", next, withImage(t, ours(t), "podinfo:hotfix"), ""},
		{"edited by hand, target unchanged", target(t), withImage(t, ours(t), "podinfo:hotfix"), ""},
		{"edited by hand to what the target is now", next, withImage(t, ours(t), "podinfo:next"), revisionOf(t, next).Fingerprint},
		{"made by Flagger", target(t), flaggerPrimary(t, target(t)), promoted},
		{"made by Flagger, and the target moved on", next, flaggerPrimary(t, target(t)), ""},
		{"made by hand, without an id", set(t, target(t), "copied", podAnnotations(idAnnotation)...), withoutID(t), revisionOf(t,
			set(t, target(t), "copied", podAnnotations(idAnnotation)...)).Fingerprint},
		{"restarted by hand", target(t), set(t, flaggerPrimary(t, target(t)), "now",
			podAnnotations("kubectl.kubernetes.io/restartedAt")...), promoted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, d := cluster()
			o, problem := d.Observe(canary(), live{"podinfo": tt.target, "podinfo-primary": tt.primary}, now)
			if problem != nil {
				t.Fatalf("problem = %+v", problem)
			}
			if o.Primary.Copy != tt.want {
				t.Errorf("copy of %q, want %q", o.Primary.Copy, tt.want)
			}
			if want := strings.HasPrefix(tt.name, "recorded"); o.Primary.CopyRecorded != want {
				t.Errorf("recorded: %t, want %t", o.Primary.CopyRecorded, want)
			}
			if changed := strings.HasPrefix(tt.name, "edited by hand") && tt.want == ""; o.Primary.Edited != changed {
				t.Errorf("edited: %t", o.Primary.Edited)
			}
		})
	}
}

func podAnnotations(key string) []string {
	return []string{"spec", "template", "metadata", "annotations", key}
}

func withoutID(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	primary := flaggerPrimary(t, target(t))
	unstructured.RemoveNestedField(primary.Object, podAnnotations(idAnnotation)...)
	return primary
}

func TestRecheckIsTheEarlierOfTheTwo(t *testing.T) {
	unready := func(age time.Duration) *unstructured.Unstructured {
		obj := withCounts(counts{1, 1, 1, 0}, conditionOf("Progressing", "True", "", age),
			conditionOf("Available", "False", "MinimumReplicasUnavailable", age))
		obj.SetLabels(nil)
		full := target(t)
		full.Object["status"] = obj.Object["status"]
		full.SetGeneration(2)
		return set(t, full, int64(1), "spec", "replicas")
	}
	_, d := cluster()
	for _, ages := range [][2]time.Duration{{3 * time.Minute, time.Minute}, {time.Minute, 3 * time.Minute}} {
		o, _ := d.Observe(canary(), live{"podinfo": unready(ages[0]), "podinfo-primary": unready(ages[1])}, now)
		if want := now.Add(7 * time.Minute); !o.RecheckAt.Equal(want) {
			t.Errorf("look again at %v, want %v: 10 minutes after the first went away", o.RecheckAt, want)
		}
	}
}

func TestB27_ProblemsNameFieldAndRemedy(t *testing.T) {
	longValue := strings.Repeat("x", 56)
	labeled := func(value string) *unstructured.Unstructured {
		return set(t, target(t), map[string]any{"app": value}, "spec", "selector", "matchLabels")
	}
	longName := canary()
	longName.Spec.TargetRef.Name = strings.Repeat("x", 246)
	tests := []struct {
		name   string
		c      *v1beta1.Canary
		target *unstructured.Unstructured
		reason rollout.ProblemReason
		want   string
	}{
		{"no target", canary(), nil, rollout.ReasonTargetNotFound,
			`deployment podinfo.test get query error: deployments.apps "podinfo" not found: create the Deployment or correct ` +
				"spec.targetRef.name"},
		{"no selector label", canary(),
			set(t, target(t), map[string]any{"component": "x"}, "spec", "selector", "matchLabels"), rollout.ReasonInvalidSpec,
			"getSelectorLabel failed: deployment podinfo.test spec.selector.matchLabels must contain one of " +
				"[app name app.kubernetes.io/name]: add one of them to the Deployment, or name one that it has in the operator's " +
				"flag -selector-labels"},
		{"label value too long", canary(), labeled(longValue), rollout.ReasonInvalidSpec,
			"deployment podinfo.test: the pods of the primary would get the label app=" + longValue + "-primary, which is not " +
				"valid (must be no more than 63 bytes): use a value of at most 55 characters in spec.selector.matchLabels"},
		{"label value empty", canary(), labeled(""), rollout.ReasonInvalidSpec,
			"deployment podinfo.test: label app in spec.selector.matchLabels is empty, so the pods of the primary can't be told " +
				"apart: give it a value"},
		{"name too long", longName, target(t), rollout.ReasonInvalidSpec,
			"spec.targetRef.name: the primary would be named " + longName.Spec.TargetRef.Name + "-primary, which is longer than " +
				"the 253 characters that a name may have: use a target whose name has at most 245"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, d := cluster()
			_, problem := d.Observe(tt.c, live{tt.c.Spec.TargetRef.Name: tt.target}, now)
			want := &rollout.Problem{Reason: tt.reason, Message: tt.want}
			if diff := cmp.Diff(want, problem); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestFailedReadIsUnknown(t *testing.T) {
	_, d := cluster()
	for _, name := range []string{"podinfo", "podinfo-primary"} {
		_, problem := d.Observe(canary(), liveFunc(func(ref router.Ref) (*unstructured.Unstructured, error) {
			if ref.Name == name {
				return nil, errors.New("cache is not filled")
			}
			return target(t), nil
		}), now)
		want := &rollout.Problem{
			Reason: rollout.ReasonReadFailed, Unknown: true,
			Message: "deployment " + name + ".test get query error: cache is not filled",
		}
		if diff := cmp.Diff(want, problem); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// A target that somebody deletes leaves the primary observed: it serves.
func TestPrimaryIsObservedWithoutTarget(t *testing.T) {
	_, d := cluster()
	o, problem := d.Observe(canary(), live{"podinfo-primary": flaggerPrimary(t, target(t))}, now)
	if problem == nil || problem.Reason != rollout.ReasonTargetNotFound {
		t.Errorf("problem = %+v", problem)
	}
	if !o.Primary.Exists || o.Primary.Replicas != 3 || o.Target.Exists || o.Target.Health.State != rollout.Waiting {
		t.Errorf("observation = %+v", o)
	}
}

func TestSelectorLabel(t *testing.T) {
	tests := []struct {
		name        string
		matchLabels map[string]any
		candidates  []string
		want        Selector
	}{
		{"the first candidate wins", map[string]any{"app": "a", "name": "b"}, []string{"name", "app"}, Selector{"name", "b"}},
		{"a later candidate", map[string]any{"app.kubernetes.io/name": "c", "x": "y"}, []string{"app", "app.kubernetes.io/name"},
			Selector{"app.kubernetes.io/name", "c"}},
		{"the value need not be the name", map[string]any{"app": strings.Repeat("v", 55)}, []string{"app"},
			Selector{"app", strings.Repeat("v", 55)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, problem := selectorOf(set(t, target(t), tt.matchLabels, "spec", "selector", "matchLabels"), tt.candidates)
			if problem != nil || got != tt.want {
				t.Errorf("selector = %+v, problem %+v, want %+v", got, problem, tt.want)
			}
		})
	}
}

func TestServicePort(t *testing.T) {
	const noSuch = "no container of deployment podinfo.test declares "
	both := " (it has http=9898, http-metrics=9797)"
	tests := []struct {
		name   string
		port   int32
		target intstr.IntOrString
		ports  []any
		// primary is the name that the primary declares the port 9898 under, empty without a primary.
		primary string
		// refused and note are how the messages begin, empty for none.
		refused, note string
		unknown       string
	}{
		{name: "port itself", port: 9898},
		{name: "target port by number", port: 80, target: intstr.FromInt32(9797)},
		{name: "target port by name", port: 80, target: intstr.FromString("http")},
		{name: "a name that something may add to the pods", port: 80, target: intstr.FromString("grpc"), unknown: "grpc",
			note: "spec.service.targetPort: " + noSuch + `a TCP port named "grpc"` + both},
		{name: "and that the primary has not either", port: 80, target: intstr.FromString("grpc"), primary: "http", unknown: "grpc",
			note: "spec.service.targetPort: " + noSuch + `a TCP port named "grpc"`},
		{name: "a name that only the primary declares", port: 80, target: intstr.FromString("web"), primary: "web",
			refused: "spec.service.targetPort: " + noSuch + `a TCP port named "web" any more` + both},
		{name: "number in quotes", port: 80, target: intstr.FromString("9898"),
			refused: `spec.service.targetPort: "9898" is no name that a port can have`},
		{name: "name where nothing is declared", port: 80, target: intstr.FromString("http"), ports: []any{}, unknown: "http",
			note: "spec.service.targetPort: " + noSuch + `a TCP port named "http" (it declares no ports)`},
		{name: "undeclared number", port: 80, target: intstr.FromInt32(8080),
			note: "spec.service.targetPort: " + noSuch + "the TCP port 8080" + both},
		{name: "undeclared port", port: 80, note: "spec.service.port: " + noSuch + "the TCP port 80"},
		{name: "number where nothing is declared", port: 80, ports: []any{}},
		{name: "undeclared number with a primary", port: 80, primary: "http", note: "spec.service.port: " + noSuch + "the TCP port 80"},
		{name: "another protocol", port: 53, ports: []any{map[string]any{"containerPort": int64(53), "protocol": "UDP"}},
			note: "spec.service.port: " + noSuch + "the TCP port 53 (it has 53/UDP)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, obj := canary(), target(t)
			c.Spec.Service = v1beta1.CanaryService{Port: tt.port, TargetPort: tt.target}
			if tt.ports != nil {
				listAt(obj.Object, podSpec("containers")...)[0].(map[string]any)["ports"] = tt.ports
			}
			objects := live{"podinfo": obj}
			if tt.primary != "" {
				primary := flaggerPrimary(t, obj)
				listAt(primary.Object, podSpec("containers")...)[0].(map[string]any)["ports"] = []any{
					map[string]any{"containerPort": int64(9898), "name": tt.primary}}
				objects["podinfo-primary"] = primary
			}
			_, d := cluster()
			o, problem := d.Observe(c, objects, now)
			switch {
			case tt.refused == "" && problem != nil:
				t.Errorf("refused: %+v", problem)
			case tt.refused != "" && (problem == nil || !strings.HasPrefix(problem.Message, tt.refused)):
				t.Errorf("problem = %+v, want %s", problem, tt.refused)
			}
			if !strings.HasPrefix(o.Port.Undeclared, tt.note) || (tt.note == "") != (o.Port.Undeclared == "") || o.Port.Name != tt.unknown {
				t.Errorf("port = %+v, want name %q and note %s", o.Port, tt.unknown, tt.note)
			}
		})
	}
}

func TestServicePortOfASidecar(t *testing.T) {
	for restart, undeclared := range map[string]bool{"Always": false, "": true} {
		c, obj := canary(), target(t)
		c.Spec.Service.TargetPort = intstr.FromString("proxy")
		set(t, obj, []any{map[string]any{
			"name": "proxy", "restartPolicy": restart,
			"ports": []any{map[string]any{"name": "proxy", "containerPort": int64(15000)}},
		}}, podSpec("initContainers")...)
		_, d := cluster()
		o, problem := d.Observe(c, live{"podinfo": obj}, now)
		if problem != nil || (o.Port.Undeclared != "") != undeclared {
			t.Errorf("restartPolicy %q: problem %+v, port %+v", restart, problem, o.Port)
		}
		if len(o.Ports) != 2 {
			t.Errorf("restartPolicy %q: ports = %+v, want those of the containers", restart, o.Ports)
		}
	}
}

func TestB17_DiscoveredPorts(t *testing.T) {
	port := func(number int64, name, protocol string) map[string]any {
		p := map[string]any{"containerPort": number}
		if name != "" {
			p["name"] = name
		}
		if protocol != "" {
			p["protocol"] = protocol
		}
		return p
	}
	container := func(name string, ports ...any) any { return map[string]any{"name": name, "ports": ports} }
	obj := set(t, target(t), []any{
		container("app", port(9898, "", ""), port(53, "", "UDP"), port(53, "dns", "TCP"), port(9797, "metrics", "")),
		container("side-"+strings.Repeat("s", 58), port(8080, "", "")),
		container("third", port(8081, "metrics", ""), port(9898, "again", ""), port(8082, "http", "")),
		container("istio-proxy", port(15090, "envoy-prom", "")),
		container("envoy", port(15000, "admin", "")),
	}, podSpec("containers")...)
	want := []Port{
		{"tcp-app-0", 9898, corev1.ProtocolTCP},
		{"udp-app-1", 53, corev1.ProtocolUDP},
		{"dns", 53, corev1.ProtocolTCP},
		{"metrics", 9797, corev1.ProtocolTCP},
		{"tcp-side-" + strings.Repeat("s", 52) + "-0", 8080, corev1.ProtocolTCP},
		// The names are taken, by another container and by service.port.
		{"tcp-third-0", 8081, corev1.ProtocolTCP},
		{"tcp-third-2", 8082, corev1.ProtocolTCP},
	}
	if diff := cmp.Diff(want, discoveredPorts(canary(), obj)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestKinds(t *testing.T) {
	kinds := NewKinds(nil, nil, Options{})
	for ref, want := range map[v1beta1.LocalObjectReference]string{
		{APIVersion: "apps/v1", Kind: "Deployment"}:             "deployments.apps",
		{APIVersion: "apps/v1", Kind: "DaemonSet"}:              "daemonsets.apps",
		{APIVersion: "v1", Kind: "Service"}:                     "services",
		{APIVersion: "serving.knative.dev/v1", Kind: "Service"}: "services.serving.knative.dev",
	} {
		c := canary()
		c.Spec.TargetRef = ref
		got, problem := kinds.For(c)
		if got == nil || problem != nil || kinds.ResourcesFor(c)[0].Resource.GroupResource().String() != want {
			t.Errorf("%s %s: %T of %v, %+v", ref.APIVersion, ref.Kind, got, kinds.ResourcesFor(c), problem)
		}
	}
	for ref, want := range map[v1beta1.LocalObjectReference]string{
		{APIVersion: "batch/v1", Kind: "Job"}: "spec.targetRef.kind: batch/v1 Job is not served: use one of Deployment, DaemonSet, Service",
		{APIVersion: "serving.knative.dev/v1beta1", Kind: "Service"}: "spec.targetRef.apiVersion: serving.knative.dev/v1beta1 Service is not " +
			"served: set serving.knative.dev/v1",
	} {
		c := canary()
		c.Spec.TargetRef = ref
		got, problem := kinds.For(c)
		if got != nil || problem == nil || problem.Message != want || problem.Reason != rollout.ReasonInvalidSpec || kinds.ResourcesFor(c) != nil {
			t.Errorf("%s %s: %v, %+v", ref.APIVersion, ref.Kind, got, problem)
		}
	}
	if diff := cmp.Diff([]router.Ref{deploymentKind().ref("", "")}, kinds.Resources()); diff != "" {
		t.Error(diff)
	}
}

// The Deployment controller counts a template when it rolls it out, and not before.
func TestIncidentB11_CounterIsThatOfTheTemplate(t *testing.T) {
	for name, c := range map[string]struct {
		paused   bool
		observed int64
		want     string
	}{
		"rolled out":       {false, 7, "4"},
		"paused":           {true, 7, ""},
		"not yet observed": {false, 6, ""},
	} {
		obj := set(t, target(t), c.paused, "spec", "paused")
		set(t, obj, c.observed, "status", "observedGeneration")
		_, d := cluster(obj)
		o, problem := d.Observe(canary(), live{"podinfo": obj}, now)
		if problem != nil || o.Target.Revision.Counter != c.want || o.Target.Paused != c.paused {
			t.Errorf("%s: counter %q, paused %t, problem %+v", name, o.Target.Revision.Counter, o.Target.Paused, problem)
		}
	}
}

// A takeover starts no rollout because of what tools have put on the primary alone.
func TestIncidentB8_MarksOfToolsAreNoRevision(t *testing.T) {
	const restarted = "kubectl.kubernetes.io/restartedAt"
	promoted := func(obj *unstructured.Unstructured) string { return revisionOf(t, obj).Fingerprint }
	annotated := func(obj *unstructured.Unstructured, key, value string) *unstructured.Unstructured {
		return set(t, obj.DeepCopy(), value, podAnnotations(key)...)
	}
	reloaded := func(obj *unstructured.Unstructured) *unstructured.Unstructured {
		obj = obj.DeepCopy()
		containers := listAt(obj.Object, podSpec("containers")...)
		first := containers[0].(map[string]any)
		first["env"] = append(listAt(first, "env"), map[string]any{"name": "STAKATER_PODINFO_CONFIG_PRIMARY_CONFIGMAP", "value": "3f1a"})
		return set(t, obj, containers, podSpec("containers")...)
	}
	plain := target(t)
	once := annotated(plain, restarted, "2096-01-01T00:00:00Z")
	for name, c := range map[string]struct {
		target, primary *unstructured.Unstructured
		copied          bool
	}{
		"restarted":                           {plain, annotated(flaggerPrimary(t, plain), restarted, "2096-01-02T00:00:00Z"), true},
		"restarted later than the target":     {once, annotated(flaggerPrimary(t, once), restarted, "2096-01-02T00:00:00Z"), true},
		"the target was restarted since":      {annotated(plain, restarted, "2096-01-03T00:00:00Z"), annotated(flaggerPrimary(t, plain), restarted, "2096-01-02T00:00:00Z"), false},
		"only the target was restarted":       {once, flaggerPrimary(t, plain), false},
		"reloaded, by a variable":             {plain, reloaded(flaggerPrimary(t, plain)), true},
		"reloaded, by an annotation":          {plain, annotated(flaggerPrimary(t, plain), "reloader.stakater.com/last-reloaded-from", "{}"), true},
		"only the target was reloaded":        {reloaded(plain), flaggerPrimary(t, plain), false},
		"Wave, of copies with other names":    {annotated(plain, "wave.pusher.com/config-hash", "a"), annotated(flaggerPrimary(t, plain), "wave.pusher.com/config-hash", "b"), true},
		"redeployed in Rancher":               {plain, annotated(flaggerPrimary(t, plain), "cattle.io/timestamp", "now"), true},
		"annotated by somebody":               {plain, annotated(flaggerPrimary(t, plain), "example.com/note", "x"), true},
		"annotated otherwise than the target": {annotated(plain, "example.com/note", "y"), annotated(flaggerPrimary(t, plain), "example.com/note", "x"), false},
		"another image":                       {plain, withImage(t, flaggerPrimary(t, plain), "podinfo:hotfix"), false},
	} {
		_, d := cluster()
		o, problem := d.Observe(canary(), live{"podinfo": c.target, "podinfo-primary": c.primary}, now)
		if problem != nil || (o.Primary.Copy == promoted(c.target)) != c.copied {
			t.Errorf("%s: copy of %q, problem %+v", name, o.Primary.Copy, problem)
		}
	}
}

// What is recorded leaves out the same, and a primary of Flagger that is recorded at last keeps its pods.
func TestIncidentB8_RecordsLeaveMarksOut(t *testing.T) {
	client, d := cluster(target(t), set(t, flaggerPrimary(t, target(t)), "2096-01-02T00:00:00Z", podAnnotations("kubectl.kubernetes.io/restartedAt")...))
	before := revisionOf(t, get(t, client, "podinfo-primary"))
	ensure(t, d, canary(), target(t))
	primary := get(t, client, "podinfo-primary")
	if after := revisionOf(t, primary); after.Fingerprint != before.Fingerprint {
		t.Error("the pods are started once more")
	}
	set(t, primary, "{}", podAnnotations("reloader.stakater.com/last-reloaded-from")...)
	o, problem := d.Observe(canary(), live{"podinfo": withImage(t, target(t), "podinfo:next"), "podinfo-primary": primary}, now)
	if want := revisionOf(t, target(t)).Fingerprint; problem != nil || o.Primary.Copy != want || !o.Primary.CopyRecorded || o.Primary.Edited {
		t.Errorf("primary %+v, problem %+v", o.Primary, problem)
	}
}

// What is kept of a template is of one version of one workload.
func TestKnownTemplatesAreOfOneVersion(t *testing.T) {
	d, c := newKnownTemplates(), &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{UID: "canary"}}
	workload := func(uid, version, image string) *unstructured.Unstructured {
		u := target(t)
		u.SetUID(types.UID(uid))
		u.SetResourceVersion(version)
		u.SetGeneration(int64(len(image)))
		set(t, u, image, "spec", "template", "metadata", "annotations", "image")
		return u
	}
	uncounted := workload("a", "2", "another")
	uncounted.SetGeneration(0)
	for name, u := range map[string]*unstructured.Unstructured{
		"another generation": workload("a", "2", "other"),
		"no generation":      uncounted,
		"another workload":   workload("b", "1", "two"),
		"no version":         workload("a", "", "four"),
	} {
		first := workload("a", "1", "one")
		if _, err := d.of(c, first).fingerprint(first); err != nil {
			t.Fatal(err)
		}
		want, err := templateFingerprint(u)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.of(c, u).fingerprint(u); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if d.forget(c.UID); len(d.seen) != 0 {
		t.Errorf("kept of a Canary that is gone: %v", d.seen)
	}
	u := workload("a", "1", "one")
	first := d.of(c, u)
	if d.of(c, u) != first {
		t.Error("the same version is computed again")
	}
	if _, err := first.fingerprint(u); err != nil {
		t.Fatal(err)
	}
	if next := d.of(c, workload("a", "2", "one")); next.template != first.template {
		t.Error("the template of the same generation is computed again")
	}
}
