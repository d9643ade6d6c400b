package demo

import (
	"context"
	"fmt"
	"os"
	"time"

	"sigs.k8s.io/yaml"

	"flagger.app/flagger/hack/testbed/internal/load"
)

// allowance is what a release may take beside its steps until the primary
// serves it to everybody: pods start, the primary is rolled, routes settle.
const allowance = 20 * time.Second

// startTimeout bounds what pods and routes need where no steps are waited for.
const startTimeout = 5 * time.Minute

// analysis is how the Canary of the demo moves traffic.
type analysis struct {
	Interval   string `json:"interval"`
	StepWeight int    `json:"stepWeight"`
	MaxWeight  int    `json:"maxWeight"`
	Threshold  int    `json:"threshold"`
}

// results collects what the checks are about.
type results struct {
	analysis analysis
	interval time.Duration
	noticed  time.Duration
	// serving is when all requests were led to the primary with the new version,
	// promotion when the pods of the canary had been drained as well.
	serving   time.Duration
	promotion time.Duration
	rollback  time.Duration
	onboarded load.Window
	promoted  load.Window
	taken     load.Window
	halted    bool
}

// steps is how many weights a promotion goes through.
func (a analysis) steps() int {
	if a.StepWeight == 0 {
		return 0
	}
	return (a.MaxWeight + a.StepWeight - 1) / a.StepWeight
}

func (r results) servingLimit() time.Duration {
	return time.Duration(r.analysis.steps())*r.interval + allowance
}

// readAnalysis takes interval and steps from the Canary of the demo.
func (d *demo) readAnalysis() error {
	content, err := os.ReadFile(d.manifest("canary.yaml"))
	if err != nil {
		return err
	}
	var canary struct {
		Spec struct {
			Analysis analysis `json:"analysis"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(content, &canary); err != nil {
		return fmt.Errorf("canary.yaml: %w", err)
	}
	d.results.analysis = canary.Spec.Analysis
	d.results.interval, err = time.ParseDuration(canary.Spec.Analysis.Interval)
	if err != nil {
		return fmt.Errorf("canary.yaml: spec.analysis.interval: %w", err)
	}
	return nil
}

// onboard creates the Canary, then points the gateway's route to what the
// operator made.
func (d *demo) onboard(ctx context.Context) error {
	d.out.chapter("The Canary is created")
	began := d.cfg.Clock.Now()
	if err := d.apply(ctx, "canary.yaml", true); err != nil {
		return err
	}
	if err := d.tracker.wait(ctx, d.cfg.Clock, startTimeout, "phase Initialized", inPhase("Initialized", "Failed")); err != nil {
		return err
	}
	if err := d.switchRoute(ctx); err != nil {
		return err
	}
	d.tracker.measure()
	if err := d.pause(ctx, calm); err != nil {
		return err
	}
	d.results.onboarded = d.load.Window(began, d.cfg.Clock.Now())
	d.out.step("  onboarding: %s requests, %d lost, P99 %s", thousands(d.results.onboarded.Sent),
		d.results.onboarded.Lost, milliseconds(d.results.onboarded.Latency.P99))
	return nil
}

// switchRoute points the gateway's route to the operator's object: for requests
// with a header first, then for all.
func (d *demo) switchRoute(ctx context.Context) error {
	if err := d.apply(ctx, d.route("preview.yaml"), true); err != nil {
		return err
	}
	// The Service leads to the primary as well, so an answer alone does not tell
	// that the preview is in force.
	if err := d.pause(ctx, settle); err != nil {
		return err
	}
	isPrimary := func(o load.Origin) bool { return o.Pod != "" && !isCanaryPod(o.Pod) }
	if err := d.waitServed(ctx, previewHeader, isPrimary); err != nil {
		return err
	}
	if err := d.apply(ctx, d.route("after.yaml"), true); err != nil {
		return err
	}
	return d.pause(ctx, settle)
}

// inPhase accepts the phase; the other one is an error at once.
func inPhase(phase, wrong string) func(view) (bool, error) {
	return func(v view) (bool, error) {
		for _, p := range v.phases {
			switch p.phase {
			case phase:
				return true, nil
			case wrong:
				return false, fmt.Errorf("want phase %s, but %s", phase, v.describe())
			}
		}
		return false, nil
	}
}

// release sets the image and returns when that was done, and how long the
// operator took to say that it noticed.
func (d *demo) release(ctx context.Context, version string) (began time.Time, noticed time.Duration, err error) {
	d.tracker.begin(version)
	began = d.cfg.Clock.Now()
	command, err := d.cluster.setImage(ctx, version)
	if err != nil {
		return began, 0, err
	}
	d.out.step("$ %s", command)
	err = d.tracker.wait(ctx, d.cfg.Clock, startTimeout, "the event New revision detected!", func(v view) (bool, error) {
		n, ok := v.find("New revision detected!")
		noticed = n.at.Sub(began)
		return ok, nil
	})
	return began, noticed, err
}

// releaseGood releases a version without faults, which is promoted.
func (d *demo) releaseGood(ctx context.Context) error {
	d.out.chapter("Release of %s, which is good", GoodVersion)
	began, noticed, err := d.release(ctx, GoodVersion)
	if err != nil {
		return err
	}
	d.results.noticed = noticed
	timeout := d.results.servingLimit() + startTimeout
	err = d.tracker.wait(ctx, d.cfg.Clock, timeout, "phase Succeeded", func(v view) (bool, error) {
		for _, p := range v.phases {
			if p.phase == "Finalising" {
				d.results.serving = p.from.Sub(began)
			}
		}
		return inPhase("Succeeded", "Failed")(v)
	})
	if err != nil {
		return err
	}
	ended := d.cfg.Clock.Now()
	d.results.promotion = ended.Sub(began)
	// Long enough for the pods that were scaled down to end.
	if err := d.pause(ctx, 2*calm); err != nil {
		return err
	}
	d.results.promoted = d.load.Window(ended, d.cfg.Clock.Now())
	return nil
}

// releaseFaulty releases a version that answers half of its requests with
// errors, which is taken back.
func (d *demo) releaseFaulty(ctx context.Context) error {
	d.out.chapter("Release of %s, which answers every other request with an error", FaultyVersion)
	began, _, err := d.release(ctx, FaultyVersion)
	if err != nil {
		return err
	}
	timeout := time.Duration(d.results.analysis.Threshold+1)*d.results.interval + startTimeout
	err = d.tracker.wait(ctx, d.cfg.Clock, timeout, "phase Failed", func(v view) (bool, error) {
		_, d.results.halted = v.find("Halt ")
		return inPhase("Failed", "Succeeded")(v)
	})
	if err != nil {
		return err
	}
	ended := d.cfg.Clock.Now()
	d.results.rollback = ended.Sub(began)
	if err := d.pause(ctx, 2*calm); err != nil {
		return err
	}
	d.results.taken = d.load.Window(ended, d.cfg.Clock.Now())
	return nil
}
