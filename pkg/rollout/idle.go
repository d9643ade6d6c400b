package rollout

import (
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// An autoscaler may mean a workload to be without pods while nobody asks anything of it. Nobody can tell such a workload from one
// that lost its pods, or whether a new version of it starts. So as long as a rollout is under way both sides have pods: the
// autoscaler of the primary, which is ours, gets a least number of one, and that of the target is told to keep what it has. At
// rest both are as their user wants them.

// KeepsPrimaryUp is whether the autoscaler of a primary has to leave it at least one pod in the present phase.
func KeepsPrimaryUp(phase v1beta1.CanaryPhase) bool {
	return phase == "" || phase == v1beta1.CanaryPhaseInitializing || UnderWay(phase)
}

// raisePrimary gives a primary its pods for a rollout, once its autoscaler won't take them away again.
func (p *pass) raisePrimary() {
	if p.f.Scaler.Wanted && p.f.Scaler.InPlace && p.f.Primary.Exists && p.f.Primary.Replicas == 0 && KeepsPrimaryUp(p.next.Phase) {
		p.do(RaisePrimary{})
	}
}

// takenDown is whether the autoscaler of the target has taken away the pods of a canary that nobody asks anything of.
func (p *pass) takenDown() bool {
	return p.f.Target.Replicas == 0 && p.f.Scaler.AdmitsZero && p.f.Scaler.Pausable && !p.f.Scaler.Paused
}

// letScale gives the autoscaler of a canary that serves, when its rollout is over, the say over its pods again.
func (p *pass) letScale() {
	if p.canaryServes() && p.f.Scaler.Held {
		p.do(ScaleTargetUp{})
	}
}
