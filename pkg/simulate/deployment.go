package simulate

import (
	"fmt"
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
	// faulty pods of the newest template never get ready here, whatever the template.
	faulty bool
	// patient makes the Deployment controller never report it stuck, as when few enough pods are missing.
	patient bool
	// copyOf is the recorded origin of a primary, written the template that the record is about.
	copyOf, written string
	// paused makes the Deployment controller leave the pods at the template that they had when it was set.
	paused bool
	held   string
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

// reconcile does what the Deployment controller does: it starts pods of the newest template beside the old ones and takes
// an old one away for each new one that is ready.
func (d *deployment) reconcile(now time.Time, behaviors map[string]Behavior) {
	if !d.exists {
		return
	}
	template := d.rolled()
	fresh := d.count(func(p pod) bool { return p.template == template })
	for ; fresh < d.replicas; fresh++ {
		b := behaviors[template]
		d.pods = append(d.pods, pod{template: template, readyAt: now.Add(b.Startup), never: b.Broken || d.faulty})
	}
	ready := d.count(func(p pod) bool { return p.template == template && p.ready(now) })
	old := d.count(func(p pod) bool { return p.template != template })
	for old > 0 && old+ready > d.replicas {
		d.removeOld()
		old--
		d.progressedAt = now
	}
}

func (d *deployment) removeOld() {
	for i := range d.pods {
		if d.pods[i].template != d.rolled() {
			d.pods = append(d.pods[:i:i], d.pods[i+1:]...)
			return
		}
	}
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
		Available: d.available(now),
		Health:    d.health(now, deadline),
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
