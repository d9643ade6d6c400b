package workload

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// Kinds knows every kind of target.
type Kinds struct {
	client    dynamic.Interface
	live      router.Live
	options   Options
	kinds     []kind
	templates *knownTemplates
}

// kind is one entry of the registry.
type kind struct {
	name string
	// matches tells kinds of the same name apart.
	matches func(*v1beta1.Canary) bool
	// resources are those that Observe reads.
	resources []router.Ref
	// common kinds are watched from the start, others when the first Canary of the kind appears: they may not be
	// installed.
	common bool
	build  func(*Kinds, Options) Target
}

// NewKinds returns the registry of kinds. The client is used for writes and for the reads directly before them; live, which may be nil,
// is a cache that takes the place of a read where the write makes sure of what was read.
func NewKinds(client dynamic.Interface, live router.Live, options Options) *Kinds {
	if len(options.SelectorLabels) == 0 {
		options.SelectorLabels = []string{"app", "name", "app.kubernetes.io/name"}
	}
	return &Kinds{client: client, live: live, options: options, kinds: kinds(), templates: newKnownTemplates()}
}

// Forget drops what is kept of the workloads of a Canary that is gone.
func (k *Kinds) Forget(c types.UID) {
	k.templates.forget(c)
}

func kinds() []kind {
	anyVersion := func(*v1beta1.Canary) bool { return true }
	return []kind{
		{
			name: "Deployment", matches: anyVersion, common: true, resources: []router.Ref{deploymentKind().ref("", "")},
			build: func(k *Kinds, o Options) Target {
				return &deployment{podKind: deploymentKind(), client: k.client, live: k.live, options: o, templates: k.templates}
			},
		},
		{
			name: "DaemonSet", matches: anyVersion, resources: []router.Ref{daemonSetKind().ref("", "")},
			build: func(k *Kinds, o Options) Target {
				return &daemonSet{&deployment{podKind: daemonSetKind(), client: k.client, live: k.live, options: o, templates: k.templates}}
			},
		},
		{
			name: "Service", matches: (*v1beta1.Canary).IsKnative, resources: []router.Ref{knativeServiceRef("", ""), knativeRevisionRef("", "")},
			build: func(k *Kinds, _ Options) Target { return &knativeService{client: k.client} },
		},
		{
			name: "Service", matches: (*v1beta1.Canary).IsCoreService, resources: []router.Ref{services.Ref("", "")},
			build: func(k *Kinds, o Options) Target { return &coreService{client: k.client, options: o} },
		},
	}
}

// For returns the kind that a Canary targets.
func (k *Kinds) For(c *v1beta1.Canary) (Target, *rollout.Problem) {
	ref := c.Spec.TargetRef
	if found := k.find(c); found != nil {
		options := k.options
		if c.HasOwnPrimary() {
			// Its pods read what those of the target read: there are no copies that a promotion would change.
			options.TrackConfigs = false
		}
		return found.build(k, options), nil
	}
	if slices.Contains(k.Names(), ref.Kind) {
		return nil, invalid("spec.targetRef.apiVersion: %s %s is not served: set %s", ref.APIVersion, ref.Kind, v1beta1.KnativeAPIVersion)
	}
	return nil, invalid("spec.targetRef.kind: %s %s is not served: use one of %s",
		ref.APIVersion, ref.Kind, strings.Join(k.Names(), ", "))
}

func (k *Kinds) find(c *v1beta1.Canary) *kind {
	for i := range k.kinds {
		if k.kinds[i].name == c.Spec.TargetRef.Kind && k.kinds[i].matches(c) {
			return &k.kinds[i]
		}
	}
	return nil
}

// Names lists the kinds that are served.
func (k *Kinds) Names() []string {
	var names []string
	for i := range k.kinds {
		names = append(names, k.kinds[i].name)
	}
	return slices.Compact(names)
}

// Resources lists what to watch whatever kinds of targets there are.
func (k *Kinds) Resources() []router.Ref {
	var refs []router.Ref
	for i := range k.kinds {
		if k.kinds[i].common {
			refs = append(refs, k.kinds[i].resources...)
		}
	}
	return refs
}

// ResourcesFor lists what Observe reads for a Canary, so that informers can be started for it.
func (k *Kinds) ResourcesFor(c *v1beta1.Canary) []router.Ref {
	if found := k.find(c); found != nil {
		return found.resources
	}
	return nil
}

// invalid is a problem that the author of the Canary, or of its target, has to mend.
func invalid(format string, args ...any) *rollout.Problem {
	return &rollout.Problem{Reason: rollout.ReasonInvalidSpec, Message: fmt.Sprintf(format, args...)}
}
