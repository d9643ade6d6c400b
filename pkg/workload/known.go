package workload

import (
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

// knownTemplates keeps what was computed of the templates of workloads from one pass to the next, by Canary and name. Most passes come of
// other objects, and what these take is most of the time that observing a workload takes.
type knownTemplates struct {
	mu   sync.Mutex
	seen map[types.UID]map[string]*knownTemplate
}

// knownTemplate is what is known of one version of a workload. What was not asked for is empty.
type knownTemplate struct {
	uid        types.UID
	version    string
	generation int64
	// mu guards the rest: passes of Canaries that depend on this one observe its workloads too.
	mu                sync.Mutex
	template, flagger string
	copies            []string
	configs           map[configKey]bool
	promoted          *map[string]string
}

func newKnownTemplates() *knownTemplates {
	return &knownTemplates{seen: map[types.UID]map[string]*knownTemplate{}}
}

// of returns what is known of a workload: nothing where it has no version, and of another version than the last no more than what is of
// the same generation.
func (d *knownTemplates) of(c *v1beta1.Canary, u *unstructured.Unstructured) *knownTemplate {
	uid, version := u.GetUID(), u.GetResourceVersion()
	if d == nil || uid == "" || version == "" || c.UID == "" {
		return &knownTemplate{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.seen[c.UID]
	if !ok {
		known = map[string]*knownTemplate{}
		d.seen[c.UID] = known
	}
	last, ok := known[u.GetName()]
	if ok && last.uid == uid && last.version == version {
		return last
	}
	if !ok && len(known) > 1 {
		// There are two, target and primary: others are of names that the Canary had before.
		clear(known)
	}
	next := &knownTemplate{uid: uid, version: version, generation: u.GetGeneration()}
	if ok && last.uid == uid {
		next.takeOver(last)
	}
	known[u.GetName()] = next
	return next
}

// takeOver keeps what is known of the template of another version. The API server counts the generations of a spec, and the most
// versions of a workload come of its status.
func (d *knownTemplate) takeOver(last *knownTemplate) {
	if d.generation == 0 || d.generation != last.generation {
		return
	}
	last.mu.Lock()
	defer last.mu.Unlock()
	d.template, d.flagger, d.copies, d.configs = last.template, last.flagger, last.copies, last.configs
}

func (d *knownTemplates) forget(canary types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, canary)
}

// fingerprint is templateFingerprint of the workload that it is about, as are the two others.
func (d *knownTemplate) fingerprint(u *unstructured.Unstructured) (hash string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.template == "" {
		d.template, err = templateFingerprint(u)
	}
	return d.template, err
}

func (d *knownTemplate) flaggerHash(k podKind, u *unstructured.Unstructured) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flagger == "" {
		d.flagger = hashForFlagger(k.flaggerHash(u.Object))
	}
	return d.flagger
}

// recordedCopy is recordedCopy with the forms of the template that are known.
func (d *knownTemplate) recordedCopy(primary *unstructured.Unstructured, templateFingerprint string) string {
	return recordedAs(primary, templateFingerprint, func() ([]string, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.copies != nil {
			return d.copies, nil
		}
		forms, err := fingerprint.Copy(primary.Object)
		d.copies = forms
		return forms, err
	})
}

// mandatoryConfigs is mandatory of the pods that it is about. Nobody may change what it returns.
func (d *knownTemplate) mandatoryConfigs(u *unstructured.Unstructured) map[configKey]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.configs == nil {
		d.configs = mandatory(mapAt(u.Object, podSpecPath()...))
	}
	return d.configs
}

// recordedConfigs is recordedConfigs of the primary that it is about.
func (d *knownTemplate) recordedConfigs(primary *unstructured.Unstructured) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.promoted == nil {
		configs := recordedConfigs(primary)
		d.promoted = &configs
	}
	return maps.Clone(*d.promoted)
}
