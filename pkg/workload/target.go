package workload

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

// ErrMoved is returned by EnsurePrimary when the target is no longer at the revision asked for. Nothing was written.
var ErrMoved = errors.New("the target is at another revision by now")

// Options are the flags of the operator that workloads depend on.
type Options struct {
	// SelectorLabels are the candidates for the label that tells target and primary apart, the best first. Default:
	// app, name, app.kubernetes.io/name.
	SelectorLabels []string
	// IncludeLabelPrefix lists the prefixes of the labels of the target that its copies get; "*" stands for all. Default:
	// none.
	IncludeLabelPrefix []string
	// TrackConfigs makes the ConfigMaps and Secrets that pods read part of a revision. Default: false.
	TrackConfigs bool
}

// Referrer is a Target whose Observe reads more than what Kinds.Resources lists, depending on the Canary.
type Referrer interface {
	// Refers lists the resources that Observe is going to read for a Canary, without names. It reads nothing but live.
	Refers(c *v1beta1.Canary, live router.Live) ([]router.Ref, error)
}

// Target is one kind of workload. Implementations keep no state and are safe for concurrent use.
type Target interface {
	// Observe says what is known of the workloads of a Canary. It reads nothing but live. The problem, if there is one,
	// is the first that keeps the Canary from running as written; the observation holds whatever could be found out in
	// spite of it.
	Observe(c *v1beta1.Canary, live router.Live, now time.Time) (Observation, *rollout.Problem)
	// EnsurePrimary makes the primary the copy of the target at exactly this revision, and creates it if need be. It
	// writes nothing when the primary is that copy already, and nothing when the target is at another revision: the error
	// is then ErrMoved. Only a primary that does not exist is made from a stored revision in that case; if the revision
	// was promoted and is not stored, the error says so and is not ErrMoved.
	EnsurePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error
	// ScaleUp gives a target without pods as many as the primary has, or as its autoscaler wants at least. A target that
	// has pods is left alone.
	ScaleUp(ctx context.Context, c *v1beta1.Canary) error
	// ScaleToZero takes the pods of the target away.
	ScaleToZero(ctx context.Context, c *v1beta1.Canary) error
}

// Observation is what is known of the workloads of one Canary.
type Observation struct {
	Target, Primary rollout.Workload
	// Selector is what the Services select the pods of the target by. The pods of the primary have PrimaryValue instead.
	Selector Selector
	// PrimarySelector is the same for a primary that was made when the target had another selector, or under other Options. It is
	// empty when it is Selector.
	PrimarySelector Selector
	// Apart are labels of the pods of the target that pods of such a primary, which Selector selects as well, don't have.
	Apart map[string]string
	// PodLabels are the labels of the pods of the target, PrimaryPodLabels those of a primary
	// of the user's.
	PodLabels, PrimaryPodLabels map[string]string
	// Ports are the container ports for service.portDiscovery, with unique names and numbers, the one that service.port
	// leads to included.
	Ports []Port
	// Port is about the one that service.port leads to, as far as the templates tell.
	Port rollout.PortFact
	// RecheckAt is when the health of a workload changes by the passing of time alone, so that no event announces it. Zero
	// means never.
	RecheckAt time.Time
}

// Selector is the one label that tells the pods of target and primary apart.
type Selector struct {
	Label, Value string
}

// PrimaryValue is the value that the pods of the primary have.
func (s Selector) PrimaryValue() string { return s.Value + v1beta1.PrimarySuffix }

// Port is a port of a container.
type Port struct {
	Name     string
	Number   int32
	Protocol corev1.Protocol
}

// PrimaryName is the name of the primary workload of a Canary.
func PrimaryName(c *v1beta1.Canary) string {
	return c.GetPrimaryName()
}
