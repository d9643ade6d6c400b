package cache

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Names of the indexes of Canaries.
const (
	byTarget  = "target"
	byService = "service"
	byScaler  = "scaler"
)

// targetOf identifies the workload that a Canary rolls out.
func targetOf(u *unstructured.Unstructured) string { return referredTo(u, "targetRef") }

// workloadsOf identifies the workloads of a user that a Canary writes to: the target, and the primary that it names.
func workloadsOf(u *unstructured.Unstructured) []string {
	all := []string{targetOf(u)}
	if _, named, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "primaryRef"); named {
		all = append(all, referredTo(u, "primaryRef"))
	}
	return all
}

func referredTo(u *unstructured.Unstructured, field string) string {
	kind, _, _ := unstructured.NestedString(u.Object, "spec", field, "kind")
	name, _, _ := unstructured.NestedString(u.Object, "spec", field, "name")
	return strings.Join([]string{u.GetNamespace(), kind, name}, "/")
}

// serviceOf identifies the Service that a Canary leads to its primary.
func serviceOf(u *unstructured.Unstructured) string {
	return u.GetNamespace() + "/" + serviceNameOf(u)
}

func serviceNameOf(u *unstructured.Unstructured) string {
	if name, _, _ := unstructured.NestedString(u.Object, "spec", "service", "name"); name != "" {
		return name
	}
	return targetNameOf(u)
}

func targetNameOf(u *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(u.Object, "spec", "targetRef", "name")
	return name
}

// scalersOf identifies the autoscaler that a Canary refers to, if any.
func scalersOf(u *unstructured.Unstructured) []string {
	if _, some, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "autoscalerRef"); !some {
		return nil
	}
	return []string{referredTo(u, "autoscalerRef")}
}

// Claims are what a Canary shares with no other: the workloads that it writes to, and the Service that it leads.
type Claims struct {
	uid       types.UID
	workloads []string
	service   string
}

// ClaimsOf returns the claims of a Canary. They stay the same while nobody changes its spec.
func ClaimsOf(u *unstructured.Unstructured) Claims {
	return Claims{u.GetUID(), workloadsOf(u), serviceOf(u)}
}

// Rivals returns the Canaries, oldest first, that roll out the same workload or lead the same Service.
func (s *Canaries) Rivals(c Claims) ([]*unstructured.Unstructured, error) {
	var found map[types.UID]*packed
	look := func(index, value string) error {
		items, err := s.informer.GetIndexer().ByIndex(index, value)
		for _, item := range items {
			if other, ok := item.(*packed); ok && other.uid != c.uid {
				if found == nil {
					found = map[types.UID]*packed{}
				}
				found[other.uid] = other
			}
		}
		return err
	}
	for _, value := range c.workloads {
		if err := look(byTarget, value); err != nil {
			return nil, err
		}
	}
	if err := look(byService, c.service); err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, other := range found {
		all = append(all, other.object())
	}
	slices.SortFunc(all, older)
	return all, nil
}

// LeadsService is whether another Canary leads the Service of a name.
func (s *Canaries) LeadsService(u *unstructured.Unstructured, name string) (bool, error) {
	return s.shared(u, byService, u.GetNamespace()+"/"+name)
}

// RefersToScaler is whether another Canary refers to an autoscaler.
func (s *Canaries) RefersToScaler(u *unstructured.Unstructured, scaler v1beta1.ScalerRef) (bool, error) {
	return s.shared(u, byScaler, strings.Join([]string{u.GetNamespace(), scaler.Kind, scaler.Name}, "/"))
}

// shared is whether an index has another Canary than this one under a value.
func (s *Canaries) shared(u *unstructured.Unstructured, index, value string) (bool, error) {
	items, err := s.informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(items, func(item any) bool {
		other, ok := item.(*packed)
		return ok && other.uid != u.GetUID()
	}), nil
}

// SharedPrimary is the name of a workload that both Canaries write to and that one of them, or both, names as its primary. It is
// empty if there is none.
func SharedPrimary(a, b *unstructured.Unstructured) string {
	if SameTarget(a, b) {
		return ""
	}
	for _, workload := range workloadsOf(a) {
		if slices.Contains(workloadsOf(b), workload) {
			return workload[strings.LastIndex(workload, "/")+1:]
		}
	}
	return ""
}

// SameTarget is whether two Canaries roll out the same workload.
func SameTarget(a, b *unstructured.Unstructured) bool { return targetOf(a) == targetOf(b) }

// Precedence orders two Canaries that want the same Service or workload. Age alone would let a slip in an older one stop one that
// has worked all along.
func Precedence(a, b *unstructured.Unstructured) int {
	name := serviceNameOf(a)
	if serviceNameOf(b) != name {
		name = targetNameOf(a)
	}
	if order := cmp.Compare(claim(b, name), claim(a, name)); order != 0 {
		return order
	}
	return older(a, b)
}

// claim is how good the right of a Canary to a name is: whoever was routed under it comes first, then whoever was never routed
// and has a target of that name.
func claim(u *unstructured.Unstructured, name string) int {
	routing, _, _ := unstructured.NestedSlice(u.Object, "status", "rollout", "routing")
	for _, item := range routing {
		if r, ok := item.(map[string]any); ok && r["service"] == name {
			return 2
		}
	}
	if len(routing) == 0 && targetNameOf(u) == name {
		return 1
	}
	return 0
}

// older orders Canaries by age, then by name.
func older(a, b *unstructured.Unstructured) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if order := at.Compare(bt.Time); order != 0 {
		return order
	}
	return strings.Compare(a.GetName(), b.GetName())
}
