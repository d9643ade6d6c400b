package outbox

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/kube/kubetest"
)

func eventOwner(name string) *v1beta1.Canary {
	return &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "test", UID: "7d2b"}}
}

// B-24: no message is folded or dropped, however alike and however many.
func TestB24_EveryEventIsThere(t *testing.T) {
	client := kubefake.NewClientset()
	e := Events{Client: kubetest.Client{Interface: client}, Clock: clocktesting.NewFakeClock(time.Unix(0, 0))}
	for i := range int64(60) {
		if err := e.Create(context.Background(), eventOwner("podinfo"), Event{Type: "Normal", Message: "again", Sequence: i}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := client.CoreV1().Events("test").List(context.Background(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 60 {
		t.Fatalf("%d events, %v", len(list.Items), err)
	}
}

func TestEventToldTwiceIsOneEvent(t *testing.T) {
	client := kubefake.NewClientset()
	e := Events{Client: kubetest.Client{Interface: client}, Clock: clocktesting.NewFakeClock(time.Unix(0, 0))}
	for range 2 {
		if err := e.Create(context.Background(), eventOwner("podinfo"), Event{Type: "Normal", Message: "once", Sequence: 7}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := client.CoreV1().Events("test").List(context.Background(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d events, %v", len(list.Items), err)
	}
}

// What decided a check can be read from its event, without a look at the metrics server.
func TestEventHasTheVerdict(t *testing.T) {
	client := kubefake.NewClientset()
	e := Events{Client: kubetest.Client{Interface: client}, Clock: clocktesting.NewFakeClock(time.Unix(0, 0))}
	verdict := &v1beta1.MetricVerdict{Name: "errors", Outcome: "fail", Value: "7", Bound: "<= 5", Query: "sum(x)"}
	if err := e.Create(context.Background(), eventOwner("podinfo"), Event{Type: "Warning", Message: "Halt", Rule: "analysis", Verdict: verdict}); err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().Events("test").List(context.Background(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d events, %v", len(list.Items), err)
	}
	want := map[string]string{
		"flagger.app/rule": "analysis", "flagger.app/metric": "errors", "flagger.app/outcome": "fail", "flagger.app/value": "7",
		"flagger.app/bound": "<= 5", "flagger.app/query": "sum(x)",
	}
	if got := list.Items[0].Annotations; !maps.Equal(got, want) {
		t.Errorf("annotations %v, want %v", got, want)
	}
}

func TestEventsOfANamespaceThatIsGoneAreNoFailure(t *testing.T) {
	client := kubefake.NewClientset()
	client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "test")
	})
	e := Events{Client: kubetest.Client{Interface: client}, Clock: clocktesting.NewFakeClock(time.Unix(0, 0))}
	if err := e.Create(t.Context(), eventOwner("podinfo"), Event{Message: "last words"}); err != nil {
		t.Error(err)
	}
}

func TestEventNames(t *testing.T) {
	if got, want := eventName(eventOwner("podinfo"), Event{Sequence: 7}), "podinfo.00000007db0c4424"; got != want {
		t.Errorf("the name of an event is %s, was %s: after an upgrade events would be told twice", got, want)
	}
	var names []string
	for i := range int64(300) {
		names = append(names, eventName(eventOwner("podinfo"), Event{Sequence: i}))
	}
	if !slices.IsSorted(names) {
		t.Error("names do not sort in the order of the events")
	}
	reborn := eventOwner("podinfo")
	reborn.UID = "other"
	if eventName(reborn, Event{Sequence: 7}) == eventName(eventOwner("podinfo"), Event{Sequence: 7}) {
		t.Error("the events of a Canary that was made again are those of the old one")
	}
	long := eventName(eventOwner(strings.Repeat("a", 235)+"."+strings.Repeat("b", 17)), Event{Sequence: 1})
	if problems := validation.IsDNS1123Subdomain(long); len(problems) > 0 {
		t.Errorf("%s: %v", long, problems)
	}
}
