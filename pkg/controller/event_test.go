package controller

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func eventOwner(name string) *v1beta1.Canary {
	return &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "test", UID: "7d2b"}}
}

// B-24: no message is folded or dropped, however alike and however many.
func TestB24_EveryEventIsThere(t *testing.T) {
	client := kubefake.NewClientset()
	e := events{client: client, clock: clocktesting.NewFakeClock(time.Unix(0, 0))}
	for i := range int64(60) {
		if err := e.create(context.Background(), eventOwner("podinfo"), event{kind: "Normal", message: "again", sequence: i}); err != nil {
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
	e := events{client: client, clock: clocktesting.NewFakeClock(time.Unix(0, 0))}
	for range 2 {
		if err := e.create(context.Background(), eventOwner("podinfo"), event{kind: "Normal", message: "once", sequence: 7}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := client.CoreV1().Events("test").List(context.Background(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d events, %v", len(list.Items), err)
	}
}

func TestEventNames(t *testing.T) {
	if got, want := eventName(eventOwner("podinfo"), event{sequence: 7}), "podinfo.00000007db0c4424"; got != want {
		t.Errorf("the name of an event is %s, was %s: after an upgrade events would be told twice", got, want)
	}
	var names []string
	for i := range int64(300) {
		names = append(names, eventName(eventOwner("podinfo"), event{sequence: i}))
	}
	if !slices.IsSorted(names) {
		t.Error("names do not sort in the order of the events")
	}
	reborn := eventOwner("podinfo")
	reborn.UID = "other"
	if eventName(reborn, event{sequence: 7}) == eventName(eventOwner("podinfo"), event{sequence: 7}) {
		t.Error("the events of a Canary that was made again are those of the old one")
	}
	long := eventName(eventOwner(strings.Repeat("a", 235)+"."+strings.Repeat("b", 17)), event{sequence: 1})
	if problems := validation.IsDNS1123Subdomain(long); len(problems) > 0 {
		t.Errorf("%s: %v", long, problems)
	}
}
