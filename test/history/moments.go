package history

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

// State is one version of an object as the API server stored it.
type State struct {
	// Version is the resource version, by which the versions of all objects are in order: one etcd counts for all.
	Version int64
	// Seen is when a watch told of it.
	Seen time.Time
	// Object is the whole object; Deleted is set for the last state of one that is gone.
	Object  *unstructured.Unstructured
	Deleted bool
}

// Subject names the objects that a history is about.
type Subject struct {
	// Canary and Target are the names of the Canary and of its Deployment.
	Canary, Target string
	// Configs are the tracked objects that the target reads, as configmap/<name> and secret/<name>. Their copies have the
	// usual names.
	Configs []string
}

// Moments turns recorded states into the line of situations, one for each state that changed something.
func Moments(states []State, s Subject) ([]Moment, error) {
	states = slices.Clone(states)
	slices.SortStableFunc(states, func(a, b State) int { return cmp.Compare(a.Version, b.Version) })
	line := line{subject: s, sources: map[string]string{}, copies: map[string]string{}}
	var moments []Moment
	for i := range states {
		relevant, err := line.apply(&states[i])
		if err != nil {
			return nil, fmt.Errorf("version %d of %s %s: %w", states[i].Version, states[i].Object.GetKind(), states[i].Object.GetName(), err)
		}
		if !relevant {
			continue
		}
		m := line.moment(&states[i])
		if n := len(moments); n == 0 || changed(&moments[n-1], &m) {
			moments = append(moments, m)
		}
	}
	return moments, nil
}

func changed(a, b *Moment) bool {
	return !a.Target.Equal(b.Target) || !a.Primary.Equal(b.Primary) || !a.Status.equal(&b.Status) || a.Skip != b.Skip
}

// line is the present situation.
type line struct {
	subject         Subject
	target, primary string
	sources, copies map[string]string
	status          Status
	skip            bool
}

// moment is the situation by itself, which later states do not change.
func (l *line) moment(s *State) Moment {
	return Moment{
		Version: s.Version, At: s.Seen, Status: l.status, Skip: l.skip,
		Target:  Content{Template: l.target, Configs: maps.Clone(l.sources)},
		Primary: Content{Template: l.primary, Configs: maps.Clone(l.copies)},
	}
}

// apply takes one state in, and reports whether it is of an object that the history is about.
func (l *line) apply(s *State) (bool, error) {
	name := s.Object.GetName()
	switch kind := s.Object.GetKind(); kind {
	case "Deployment":
		return l.deployment(s, name)
	case "ConfigMap", "Secret":
		return l.config(s, strings.ToLower(kind)+"/", name), nil
	case "Canary":
		if name != l.subject.Canary {
			return false, nil
		}
		c := &v1beta1.Canary{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.Object.Object, c); err != nil {
			return false, err
		}
		l.status, l.skip = statusOf(&c.Status), c.SkipAnalysis()
		return true, nil
	default:
		return false, nil
	}
}

func (l *line) deployment(s *State, name string) (bool, error) {
	object, into := s.Object.Object, &l.target
	switch name {
	case l.subject.Target:
	case l.subject.Target + v1beta1.PrimarySuffix:
		object, into = l.asTarget(s.Object), &l.primary
	default:
		return false, nil
	}
	*into = ""
	if s.Deleted {
		return true, nil
	}
	var err error
	*into, err = fingerprint.Template(object)
	return true, err
}

// asTarget undoes what tells the template of a primary from that of its target: the annotation that starts its pods anew,
// the value of the selector label and the names of the copied configs.
func (l *line) asTarget(primary *unstructured.Unstructured) map[string]any {
	own := map[string]string{}
	selector, _, _ := unstructured.NestedStringMap(primary.Object, "spec", "selector", "matchLabels")
	for _, value := range selector {
		own[value] = strings.TrimSuffix(value, v1beta1.PrimarySuffix)
	}
	for _, config := range l.subject.Configs {
		_, name, _ := strings.Cut(config, "/")
		own[name+v1beta1.PrimarySuffix] = name
	}
	object := primary.DeepCopy().Object
	unstructured.RemoveNestedField(object, "spec", "template", "metadata", "annotations", "flagger-id")
	if left, _, _ := unstructured.NestedMap(object, "spec", "template", "metadata", "annotations"); len(left) == 0 {
		unstructured.RemoveNestedField(object, "spec", "template", "metadata", "annotations")
	}
	renamed, _ := rename(object, own).(map[string]any)
	return renamed
}

// rename replaces strings that are equal to a key of own.
func rename(value any, own map[string]string) any {
	switch v := value.(type) {
	case string:
		if other, ok := own[v]; ok {
			return other
		}
	case map[string]any:
		for key := range v {
			v[key] = rename(v[key], own)
		}
	case []any:
		for i := range v {
			v[i] = rename(v[i], own)
		}
	}
	return value
}

func (l *line) config(s *State, prefix, name string) bool {
	into, key := l.sources, prefix+name
	if !slices.Contains(l.subject.Configs, key) {
		into, key = l.copies, prefix+strings.TrimSuffix(name, v1beta1.PrimarySuffix)
		if key == prefix+name || !slices.Contains(l.subject.Configs, key) {
			return false
		}
	}
	delete(into, key)
	if !s.Deleted {
		into[key] = checksum(s.Object)
	}
	return true
}

func checksum(u *unstructured.Unstructured) string {
	if u.GetKind() == "Secret" {
		return fingerprint.Data(decoded(u, "data"), nil)
	}
	data, _, _ := unstructured.NestedStringMap(u.Object, "data")
	return fingerprint.Data(data, decoded(u, "binaryData"))
}

func decoded(u *unstructured.Unstructured, field string) map[string][]byte {
	texts, _, _ := unstructured.NestedStringMap(u.Object, field)
	out := map[string][]byte{}
	for key, text := range texts {
		// The API server stores nothing that can't be decoded.
		out[key], _ = base64.StdEncoding.DecodeString(text)
	}
	return out
}

func statusOf(s *v1beta1.CanaryStatus) Status {
	out := Status{
		Phase: s.Phase, FailedChecks: s.FailedChecks,
		Step: Step{Weight: s.CanaryWeight, Iteration: s.Iterations},
	}
	if r := s.Rollout; r != nil {
		out.Run, out.Target, out.Promoted = r.Run, contentOf(r.Target), contentOf(r.Promoted)
		if r.NextCheckAt != nil {
			out.Due = r.NextCheckAt.Time
		}
	}
	return out
}

func contentOf(ref *v1beta1.RevisionRef) Content {
	if ref == nil {
		return Content{}
	}
	return Content{Template: ref.Fingerprint, Configs: ref.Configs}
}
