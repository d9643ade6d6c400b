package workload

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

// Kinds knows every kind of target.
type Kinds struct {
	client  dynamic.Interface
	options Options
	kinds   []kind
}

// kind is one entry of the registry.
type kind struct {
	name string
	// matches tells kinds of the same name apart, by the apiVersion of the targetRef.
	matches func(apiVersion string) bool
	// resources are those that Observe reads.
	resources []router.Ref
	// build is nil for a kind that is not served.
	build func(dynamic.Interface, Options) Target
}

// NewKinds returns the registry of kinds. The client is used for writes and for the reads directly before them.
func NewKinds(client dynamic.Interface, options Options) *Kinds {
	if len(options.SelectorLabels) == 0 {
		options.SelectorLabels = []string{"app", "name", "app.kubernetes.io/name"}
	}
	return &Kinds{client: client, options: options, kinds: kinds()}
}

func kinds() []kind {
	anyVersion := func(string) bool { return true }
	knative := func(v string) bool { return strings.HasPrefix(v, "serving.knative.dev/") }
	return []kind{
		{
			name: "Deployment", matches: anyVersion, resources: []router.Ref{deploymentRef("", "")},
			build: func(c dynamic.Interface, o Options) Target { return &deployment{client: c, options: o} },
		},
		{name: "DaemonSet", matches: anyVersion},
		{name: "Service", matches: knative},
		{name: "Service", matches: func(v string) bool { return !knative(v) }},
	}
}

// For returns the kind that a Canary targets.
func (k *Kinds) For(c *v1beta1.Canary) (Target, *rollout.Problem) {
	ref := c.Spec.TargetRef
	for _, candidate := range k.kinds {
		if candidate.name == ref.Kind && candidate.matches(ref.APIVersion) && candidate.build != nil {
			return candidate.build(k.client, k.options), nil
		}
	}
	return nil, invalid("spec.targetRef.kind: %s %s is not served: use one of %s",
		ref.APIVersion, ref.Kind, strings.Join(k.Names(), ", "))
}

// Names lists the kinds that are served.
func (k *Kinds) Names() []string {
	var names []string
	for _, candidate := range k.kinds {
		if candidate.build != nil {
			names = append(names, candidate.name)
		}
	}
	return names
}

// Resources lists what Observe reads, so that informers can be started for it.
func (k *Kinds) Resources() []router.Ref {
	var refs []router.Ref
	for _, candidate := range k.kinds {
		if candidate.build != nil {
			refs = append(refs, candidate.resources...)
		}
	}
	return refs
}

func deploymentRef(namespace, name string) router.Ref {
	return router.Ref{Resource: deploymentsResource(), Kind: "Deployment", Namespace: namespace, Name: name}
}

func deploymentsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
}

// invalid is a problem that the author of the Canary, or of its target, has to mend.
func invalid(format string, args ...any) *rollout.Problem {
	return &rollout.Problem{Reason: rollout.ReasonInvalidSpec, Message: fmt.Sprintf(format, args...)}
}
