package simulate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"flagger.app/flagger/pkg/rollout"
)

// Behavior is how the pods of one template behave.
type Behavior struct {
	// Startup is how long a pod takes to get ready.
	Startup time.Duration
	// Broken pods never get ready.
	Broken bool
}

// Strategy is how a workload replaces its pods. The zero value starts all new ones beside the old ones.
type Strategy struct {
	// Recreate stops all old pods before the first new one is started.
	Recreate bool
	// Surge is by how many percent there may be more pods, Missing by how many less.
	Surge, Missing int32
	// RoundUp rounds what may be missing up, as for a DaemonSet.
	RoundUp bool
}

// scaled is how many pods more and less there may be, as Kubernetes rounds that.
func (s Strategy) scaled(pods int32) (surge, missing int32) {
	if s == (Strategy{}) {
		return pods, 0
	}
	missing = s.Missing * pods / 100
	if s.RoundUp {
		missing = (s.Missing*pods + 99) / 100
	}
	surge = (s.Surge*pods + 99) / 100
	if surge == 0 && missing == 0 {
		missing = 1
	}
	return surge, min(missing, pods)
}

// pod is one replica. A zero readyAt means never.
type pod struct {
	template string
	readyAt  time.Time
	never    bool
}

func (p pod) ready(now time.Time) bool { return !p.never && !now.Before(p.readyAt) }

// deployment is a Deployment reduced to what the rules can see. Its template is a name that stands for the whole.
type deployment struct {
	name       string
	exists     bool
	template   string
	generation int64
	counter    int
	replicas   int32
	pods       []pod
	// incarnation counts the objects of this name.
	incarnation int
	// progressedAt is when the last pod of the newest template got ready, or the template changed.
	progressedAt time.Time
	strategy     Strategy
	// faulty pods of the newest template never get ready here, whatever the template.
	faulty bool
	// patient makes the Deployment controller never report it stuck, as when few enough pods are missing.
	patient bool
	// copyOf is the recorded origin of a primary, written the template that the record is about.
	copyOf, written string
	// paused makes the Deployment controller leave the pods at the template that they had when it was set.
	paused bool
	held   string
	// selector is the label that pods are selected by, which stays what it is. Empty stands for the usual one.
	selector string
	// lag is how late the Deployment controller hears that the pods went of a workload that the operator scaled to zero: until staleUntil it
	// counts stale in the place of those that there are.
	lag        time.Duration
	stale      []pod
	staleUntil time.Time
}

// reported are the pods that the Deployment controller counts.
func (d *deployment) reported(now time.Time) *deployment {
	if !now.Before(d.staleUntil) {
		return d
	}
	seen := *d
	seen.pods = d.stale
	return &seen
}

// stopping is whether pods are counted of a workload that is to have none.
func (d *deployment) stopping(now time.Time) bool {
	return d.exists && d.replicas == 0 && len(d.reported(now).pods) > 0
}

func (d *deployment) setTemplate(now time.Time, template string) {
	if d.template == template {
		return
	}
	d.template = template
	d.generation++
	if !d.paused {
		d.counter++
	}
	d.progressedAt = now
}

// pause sets spec.paused. What was changed meanwhile is rolled out, and counted as a revision, when it is taken back.
func (d *deployment) pause(now time.Time, paused bool) {
	if d.paused == paused || !d.exists {
		return
	}
	if paused {
		d.held = d.template
	} else if d.held != d.template {
		d.counter++
	}
	d.paused = paused
	d.generation++
	d.progressedAt = now
}

// rolled is the template that new pods get.
func (d *deployment) rolled() string {
	if d.paused {
		return d.held
	}
	return d.template
}

func (d *deployment) scale(now time.Time, replicas int32) {
	if d.replicas == replicas || !d.exists {
		return
	}
	d.replicas = replicas
	d.generation++
	d.progressedAt = now
	for int32(len(d.pods)) > replicas {
		d.pods = d.pods[:len(d.pods)-1]
	}
}

// scaleToZero is how the operator does it, which is heard of late. Nobody can tell that of what others do.
func (d *deployment) scaleToZero(now time.Time) {
	if d.replicas > 0 && !now.Before(d.staleUntil) {
		d.stale, d.staleUntil = slices.Clone(d.pods), now.Add(d.lag)
	}
	d.scale(now, 0)
}

// reconcile does what the controller of the workload does.
func (d *deployment) reconcile(now time.Time, behaviors map[string]Behavior) {
	if !d.exists {
		return
	}
	isOld := func(p pod) bool { return p.template != d.rolled() }
	if d.strategy.Recreate && d.count(isOld) > 0 {
		d.pods = slices.DeleteFunc(d.pods, isOld)
		d.progressedAt = now
	}
	surge, missing := d.strategy.scaled(d.replicas)
	for changed := true; changed; {
		changed = false
		fresh := d.count(func(p pod) bool { return p.template == d.rolled() })
		if fresh < d.replicas && int32(len(d.pods)) < d.replicas+surge {
			b := behaviors[d.rolled()]
			d.pods = append(d.pods, pod{template: d.rolled(), readyAt: now.Add(b.Startup), never: b.Broken || d.faulty})
			changed = true
		}
		changed = d.removeOld(now, d.replicas-missing) || changed
	}
}

// removeOld takes a pod of an older template away if enough others are left: first those that are not ready.
func (d *deployment) removeOld(now time.Time, least int32) bool {
	unreadyFresh := d.count(func(p pod) bool { return p.template == d.rolled() && !p.ready(now) })
	for _, ready := range []bool{false, true} {
		allowed := int32(len(d.pods))-unreadyFresh > least
		if ready {
			allowed = d.available(now) > least
		}
		at := slices.IndexFunc(d.pods, func(p pod) bool { return p.template != d.rolled() && p.ready(now) == ready })
		if at >= 0 && allowed {
			d.pods = slices.Delete(d.pods, at, at+1)
			d.progressedAt = now
			return true
		}
	}
	return false
}

// evict takes pods away, as a drained node or one that is lost does. The controller makes new ones.
func (d *deployment) evict(n int) {
	d.pods = d.pods[min(n, len(d.pods)):]
}

// stopsFirst is whether the update to a copy of the target may leave no pod ready.
func (d *deployment) stopsFirst(target *deployment) bool {
	if d.otherSelector(target) != "" {
		return true
	}
	for _, s := range []Strategy{d.strategy, target.strategy} {
		if _, missing := s.scaled(d.replicas); s.Recreate || missing >= d.replicas {
			return true
		}
	}
	return false
}

// otherSelector is what the pods of a primary are selected by if a copy of the target needs something else.
func (d *deployment) otherSelector(target *deployment) string {
	if !d.exists || !target.exists || d.selector == target.selector {
		return ""
	}
	return "label " + d.selector
}

func (d *deployment) count(match func(pod) bool) int32 {
	var n int32
	for _, p := range d.pods {
		if match(p) {
			n++
		}
	}
	return n
}

func (d *deployment) available(now time.Time) int32 {
	return d.count(func(p pod) bool { return p.ready(now) })
}

// nextChange is when the readiness of a pod or the deadline changes something. Zero means never.
func (d *deployment) nextChange(now time.Time, deadline time.Duration) time.Time {
	var next time.Time
	consider := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	consider(d.staleUntil)
	for _, p := range d.pods {
		if !p.never {
			consider(p.readyAt)
		}
	}
	if d.exists && d.replicas > 0 && d.count(func(p pod) bool { return p.template == d.template && p.ready(now) }) < d.replicas {
		consider(d.progressedAt.Add(deadline))
	}
	return next
}

// workload is the fact that the rules get.
func (d *deployment) workload(now time.Time, deadline time.Duration) rollout.Workload {
	if !d.exists {
		return rollout.Workload{Name: d.name, Kind: "Deployment"}
	}
	counter := strconv.Itoa(d.counter)
	if d.paused {
		counter = ""
	}
	return rollout.Workload{
		Exists:    true,
		Paused:    d.paused,
		Name:      d.name,
		Kind:      "Deployment",
		Replicas:  d.replicas,
		Available: d.reported(now).available(now),
		Stopping:  d.stopping(now),
		Health:    d.reported(now).health(now, deadline),
		Revision: rollout.Revision{
			Fingerprint: d.template,
			UID:         fmt.Sprintf("uid-%s-%d", d.name, d.incarnation),
			Generation:  d.generation,
			Counter:     counter,
			FlaggerHash: flaggerHash(d.template),
		},
	}
}

// flaggerHash is how Flagger names a template, whatever form our own hash of it has.
func flaggerHash(template string) string {
	name, _, _ := strings.Cut(template, " ")
	return "flagger-" + name
}

// originOf is what a primary counts as a copy of: what is recorded about its template, or the target if that is the same.
func (d *deployment) originOf(target *deployment) string {
	switch d.template {
	case d.written:
		return d.copyOf
	case target.template:
		return target.template
	}
	return ""
}

// health follows contract section 3.8 as far as the toy can express it.
func (d *deployment) health(now time.Time, deadline time.Duration) rollout.Health {
	const wait = "waiting for rollout to finish: "
	fresh := d.count(func(p pod) bool { return p.template == d.template })
	ready := d.count(func(p pod) bool { return p.template == d.template && p.ready(now) })
	old := d.count(func(p pod) bool { return p.template != d.template })
	switch {
	case d.replicas == 0:
		return rollout.Health{State: rollout.Waiting, Reason: wait + "scaled to zero"}
	case !d.patient && !d.paused && ready < d.replicas && !now.Before(d.progressedAt.Add(deadline)):
		return rollout.Health{State: rollout.Stuck, Since: d.progressedAt.Add(deadline),
			Reason: fmt.Sprintf("deployment %q exceeded its progress deadline", d.name)}
	case fresh < d.replicas:
		return rollout.Health{State: rollout.Waiting, Reason: fmt.Sprintf(wait+"%d out of %d new replicas have been updated", fresh, d.replicas)}
	case old > 0:
		return rollout.Health{State: rollout.Waiting, Reason: fmt.Sprintf(wait+"%d old replicas are pending termination", old)}
	case ready < d.replicas:
		return rollout.Health{State: rollout.Waiting, Reason: fmt.Sprintf(wait+"%d of %d (readyThreshold 100%%) updated replicas are available", ready, d.replicas)}
	}
	return rollout.Health{State: rollout.Ready}
}
