package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/kube"
)

const (
	// eventReason is the reason of every event, as users filter for it. Events are created one by one and not through a
	// recorder, which would fold and drop messages that share a reason.
	eventReason = "Synced"
	// eventSource is the component that events come from.
	eventSource = "flagger"
	// RuleAnnotation on an event names the rule that decided what the event tells.
	RuleAnnotation = "flagger.app/rule"
	// MetricAnnotation on an event names the metric that it is about, with the others the verdict on it: see MetricVerdict.
	MetricAnnotation  = "flagger.app/metric"
	OutcomeAnnotation = "flagger.app/outcome"
	ValueAnnotation   = "flagger.app/value"
	PrimaryAnnotation = "flagger.app/primary-value"
	BoundAnnotation   = "flagger.app/bound"
	QueryAnnotation   = "flagger.app/query"
	// maxEventName is the limit of the API server for names of objects.
	maxEventName = 253
)

// Event is one thing to tell about a Canary.
type Event struct {
	// Type is Normal or Warning. Rule names what decided what the message tells, if anything did.
	Type, Message, Rule string
	// Verdict on the metric that it is about, nil if it is about none.
	Verdict *v1beta1.MetricVerdict
	// Sequence and Part tell events of one Canary apart. An event with the same two is the same event.
	Sequence int64
	Part     string
}

// Events creates the events of Canaries.
type Events struct {
	Client kube.Events
	Clock  clock.PassiveClock
}

// Create creates an event. One that exists already was told before; nobody sees it twice.
func (e *Events) Create(ctx context.Context, c *v1beta1.Canary, what Event) error {
	now := metav1.NewTime(e.Clock.Now())
	err := e.Client.CreateEvent(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:        eventName(c, what),
			Namespace:   c.Namespace,
			Annotations: what.annotations(),
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion:      v1beta1.SchemeGroupVersion.String(),
			Kind:            v1beta1.CanaryKind,
			Namespace:       c.Namespace,
			Name:            c.Name,
			UID:             c.UID,
			ResourceVersion: c.ResourceVersion,
		},
		Reason:         eventReason,
		Message:        what.Message,
		Type:           what.Type,
		Source:         corev1.EventSource{Component: eventSource},
		FirstTimestamp: now,
		LastTimestamp:  now,
		Count:          1,
	})
	switch {
	case err == nil, apierrors.IsAlreadyExists(err):
		return nil
	case namespaceGone(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		// The namespace is going away and takes the Canary along: there is nobody left to tell.
		return nil
	default:
		return fmt.Errorf("event of canary %s/%s: %w", c.Namespace, c.Name, err)
	}
}

func (e Event) annotations() map[string]string {
	all := map[string]string{RuleAnnotation: e.Rule}
	if v := e.Verdict; v != nil {
		all[MetricAnnotation], all[OutcomeAnnotation], all[ValueAnnotation] = v.Name, v.Outcome, v.Value
		all[PrimaryAnnotation], all[BoundAnnotation], all[QueryAnnotation] = v.Primary, v.Bound, v.Query
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

// namespaceGone tells a namespace that does not exist from a server that does not know events for a moment.
func namespaceGone(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == "namespaces"
}

// refused is whether the API server does not want an event, as for want of RBAC.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// eventName derives the name of an event from the Canary, its sequence number and part, so that telling again after a crash
// meets the event that exists. Events sort by name in the order they were decided, within a second as well.
func eventName(c *v1beta1.Canary, what Event) string {
	sum := sha256.Sum256([]byte(string(c.UID) + "/" + what.Part))
	suffix := fmt.Sprintf(".%08x%s", what.Sequence, hex.EncodeToString(sum[:4]))
	name := c.Name
	if over := len(name) + len(suffix) - maxEventName; over > 0 {
		name = strings.TrimRight(name[:len(name)-over], ".-")
	}
	return name + suffix
}
