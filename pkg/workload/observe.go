package workload

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

// counterAnnotation is where the Deployment controller counts the revisions of a Deployment.
const counterAnnotation = "deployment.kubernetes.io/revision"

// deployment is the kind Deployment of apps/v1, and what daemonSet shares with it.
type deployment struct {
	podKind
	client dynamic.Interface
	// live is a cache of what client reads, nil for none. What is taken from it is either written under a condition or read again.
	live    router.Live
	options Options
	// templates are what is known of templates from earlier passes, nil for nothing.
	templates *knownTemplates
}

// Observe implements Target.
func (d *deployment) Observe(c *v1beta1.Canary, live router.Live, now time.Time) (Observation, *rollout.Problem) {
	o := Observation{
		Target:  d.absent(c.Namespace, c.Spec.TargetRef.Name),
		Primary: d.absent(c.Namespace, PrimaryName(c)),
	}
	primary, err := live.Get(d.ref(c.Namespace, PrimaryName(c)))
	if err != nil {
		return o, d.readFailed(c.Namespace, PrimaryName(c), err)
	}
	target, err := live.Get(d.ref(c.Namespace, c.Spec.TargetRef.Name))
	if err != nil {
		return o, d.readFailed(c.Namespace, c.Spec.TargetRef.Name, err)
	}
	var first problems
	var problem *rollout.Problem
	if primary != nil {
		first.add(o.observe(d.podKind, d.templates.of(c, primary), &o.Primary, primary, primaryLimits(c), now))
		o.Primary.Orphaned = !c.HasOwnPrimary() && orphaned(c, primary)
		if c.HasOwnPrimary() {
			o.PrimaryPodLabels = podLabels(primary)
		}
	}
	if target == nil {
		first.add(targetNotFound(c))
		return o, first.problem
	}
	if primary == nil && c.HasOwnPrimary() {
		first.add(missingPrimary(c))
	}
	first.add(o.observe(d.podKind, d.templates.of(c, target), &o.Target, target, targetLimits(c), now))
	o.Primary.StopsFirst = primary != nil && d.stopsFirst(c, target, primary)
	known := d.templates.of(c, target)
	o.Target.Revision.FlaggerHash = known.flaggerHash(d.podKind, target)
	if d.options.TrackConfigs {
		o.Target.Revision.Configs, o.Target.Revision.FlaggerConfigs, problem = observeConfigs(c.Namespace, known.mandatoryConfigs(target), live)
		first.add(problem)
	}
	o.Selector, problem = d.selector(c, target)
	first.add(problem)
	o.PodLabels = podLabels(target)
	if !c.HasOwnPrimary() {
		o.Port, problem = checkPorts(c, target, primary)
		first.add(problem)
		o.Ports = discoveredPorts(c, target)
	}
	if primary != nil && (c.HasOwnPrimary() || o.Selector.Label != "") {
		first.add(o.checkPrimary(c, target, primary))
		first.add(d.observeCopy(c, &o, target, primary, live))
	}
	return o, first.problem
}

// observeCopy finds out which revision of the target the primary is a copy of: the recorded one, or the present one if the primary
// equals what would be made of it, as it does when Flagger made it. It is empty when it is neither.
func (d *deployment) observeCopy(c *v1beta1.Canary, o *Observation, target, primary *unstructured.Unstructured,
	live router.Live) *rollout.Problem {
	configs := o.Target.Revision.Configs
	known := d.templates.of(c, primary)
	o.Primary.Copy = known.recordedCopy(primary, o.Primary.Revision.Fingerprint)
	recorded := o.Primary.Copy != ""
	o.Primary.CopyRecorded = recorded
	if !recorded && d.sameTemplate(c, target, primary, o.selectorOfPrimary(), namesIn(c, known.mandatoryConfigs(primary), configs)) {
		o.Primary.Copy = o.Target.Revision.Fingerprint
	}
	o.Primary.Edited = edited(primary, o.Primary.Copy)
	if !d.options.TrackConfigs || o.Primary.Copy == "" {
		return nil
	}
	var problem *rollout.Problem
	o.Primary.CopyConfigs, problem = configsOfCopy(c, known, primary, o.Primary.Copy, recorded, configs, live)
	return problem
}

// Refers implements Referrer.
func (d *deployment) Refers(c *v1beta1.Canary, live router.Live) ([]router.Ref, error) {
	if !d.options.TrackConfigs {
		return nil, nil
	}
	target, err := live.Get(d.ref(c.Namespace, c.Spec.TargetRef.Name))
	if err != nil || target == nil {
		return nil, err
	}
	return configResources(d.templates.of(c, target).mandatoryConfigs(target)), nil
}

// problems keeps the first one.
type problems struct{ problem *rollout.Problem }

func (p *problems) add(problem *rollout.Problem) {
	if p.problem == nil {
		p.problem = problem
	}
}

func (k podKind) absent(namespace, name string) rollout.Workload {
	return rollout.Workload{
		Name: name, Kind: k.kind,
		Health: waiting(fmt.Sprintf("waiting for rollout to finish: %s %s.%s does not exist", k.noun(), name, namespace)),
	}
}

// observe fills in what is known of one of the two workloads.
func (o *Observation) observe(k podKind, known *knownTemplate, w *rollout.Workload, d *unstructured.Unstructured, limits healthLimits,
	now time.Time) *rollout.Problem {
	health, recheck := k.health(d, limits, now)
	if !recheck.IsZero() && (o.RecheckAt.IsZero() || recheck.Before(o.RecheckAt)) {
		o.RecheckAt = recheck
	}
	*w = rollout.Workload{
		Exists: true, Name: d.GetName(), Kind: k.kind,
		Revision: rollout.Revision{
			UID: string(d.GetUID()), Generation: d.GetGeneration(), Counter: counterOf(d),
		},
		Paused:    boolAt(d.Object, "spec", "paused"),
		Stopping:  k.stopping(d),
		Replicas:  int32(k.replicas(d)),
		Available: int32(intAt(d.Object, 0, "status", k.available)),
		Health:    health,
	}
	hash, err := known.fingerprint(d)
	if err != nil {
		return &rollout.Problem{Reason: rollout.ReasonReadFailed, Message: err.Error(), Unknown: true}
	}
	w.Revision.Fingerprint = hash
	return nil
}

// counterOf is the number of the revision that a Deployment asks for. Its controller counts a template only when it rolls it out:
// neither while the Deployment is paused nor before it has seen the last change of it does the number say anything.
func counterOf(d *unstructured.Unstructured) string {
	if boolAt(d.Object, "spec", "paused") || intAt(d.Object, 0, "status", "observedGeneration") < d.GetGeneration() {
		return ""
	}
	return annotationAt(d, counterAnnotation)
}

func podLabels(d *unstructured.Unstructured) map[string]string {
	labels, _, err := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "labels")
	if err != nil {
		return nil
	}
	return labels
}

// templateFingerprint identifies the pod template of a workload as the server stores it.
func templateFingerprint(d *unstructured.Unstructured) (string, error) {
	hash, err := fingerprint.Template(d.Object)
	if err != nil {
		return "", fmt.Errorf("%s: fingerprint: %w", described(d), err)
	}
	return hash, nil
}

// hashForFlagger is empty where Flagger would have no hash: it reads types of a version of Kubernetes, and fails at what they
// can't hold.
func hashForFlagger(hash string, err error) string {
	if err != nil {
		return ""
	}
	return hash
}

// checkOwner tells of a primary that something else controls.
func checkOwner(c *v1beta1.Canary, primary *unstructured.Unstructured) *rollout.Problem {
	owner := metav1.GetControllerOf(primary)
	if owner == nil || owner.UID == c.UID || (owner.Kind == "Canary" && owner.Name == c.Name) {
		return nil
	}
	return invalid("spec.targetRef.name: %s, which would be the primary, belongs to %s %s: rename the target or "+
		"remove one of the two", described(primary), owner.Kind, owner.Name)
}

func targetNotFound(c *v1beta1.Canary) *rollout.Problem {
	name, kind := c.Spec.TargetRef.Name, c.Spec.TargetRef.Kind
	noun := strings.ToLower(kind)
	return &rollout.Problem{
		Reason: rollout.ReasonTargetNotFound,
		Message: fmt.Sprintf("%s %s.%s get query error: %ss.apps %q not found: create the %s or correct "+
			"spec.targetRef.name", noun, name, c.Namespace, noun, name, kind),
	}
}

func (k podKind) readFailed(namespace, name string, err error) *rollout.Problem {
	return &rollout.Problem{
		Reason: rollout.ReasonReadFailed, Unknown: true,
		Message: fmt.Sprintf("%s %s.%s get query error: %v", k.noun(), name, namespace, err),
	}
}
