package controller

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/controller/outbox"
	"flagger.app/flagger/pkg/controller/workqueue"
	"flagger.app/flagger/pkg/rollout"
)

// reportUndecodable tells the author of a Canary that does not fit our types. No retry can help, only an edit, so the only
// failure is that of telling.
func (c *Controller) reportUndecodable(ctx context.Context, key string, cause cache.UndecodableError) error {
	return c.reportBroken(ctx, key, rollout.ReasonInvalidSpec, fmt.Sprintf("the Canary can't be read: %v", cause))
}

// reportPanic tells of a pass that went wrong in a way nobody foresaw.
func (c *Controller) reportPanic(ctx context.Context, key string, p *workqueue.PanicError) {
	if err := c.reportBroken(ctx, key, rollout.ReasonInternalError, messageOf(p)); err != nil {
		c.logger(key).Error("telling of a panic failed", zap.Error(err))
	}
}

func messageOf(p *workqueue.PanicError) string {
	return fmt.Sprintf("internal error: %s; the log of the operator has the details", firstLine(fmt.Sprint(p.Value)))
}

// reasonOutdatedCRD is the reason of the Healthy condition while the API server does not store our record of a rollout.
const reasonOutdatedCRD rollout.ProblemReason = "OutdatedCRD"

// reportUnstored tells of a status that was not stored, and returns why.
func (c *Controller) reportUnstored(ctx context.Context, v *view, cause error) error {
	var told error
	switch {
	case errors.Is(cause, cache.ErrOutdatedCRD):
		told = c.reportBroken(ctx, v.key, reasonOutdatedCRD, cache.ErrOutdatedCRD.Error())
	case apierrors.IsInvalid(cause), apierrors.IsForbidden(cause), apierrors.IsRequestEntityTooLargeError(cause):
		// What the status can't say, an event can. Its name follows from its text, so it is one however often this is tried.
		message := v.memory.words.of(aboutStatus, shortened(cause.Error()), v.canary.Generation, v.started)
		told = c.publisher.Events.Create(ctx, v.canary, outbox.Event{
			Type: corev1.EventTypeWarning, Message: message, Sequence: v.canary.Generation, Part: "status/" + message,
		})
	}
	return errors.Join(cause, told)
}

// reportBroken puts a message into the Healthy condition and an event without decoding the Canary. It writes once per
// message.
func (c *Controller) reportBroken(ctx context.Context, key string, reason rollout.ProblemReason, message string) error {
	u, err := c.canaries.Object(key)
	if err != nil || u == nil {
		return err
	}
	conditions, changed := withUnhealthy(u, reason, message, metav1.NewTime(c.Clock.Now()))
	if !changed {
		return nil
	}
	c.logger(key).Error(message, zap.String("reason", string(reason)))
	owner := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{
		Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
	}}
	told := c.publisher.Events.Create(ctx, owner, outbox.Event{
		Type: corev1.EventTypeWarning, Message: message, Sequence: u.GetGeneration(), Part: string(reason) + "/" + message,
	})
	within, end := c.Tracer.Write(ctx, u.GetNamespace(), u.GetName(), "Status")
	err = c.canaries.PatchStatus(within, u, map[string]any{"conditions": conditions})
	end(err)
	if err != nil {
		return err
	}
	return told
}

// withUnhealthy returns the conditions with Healthy false, and whether that is news.
func withUnhealthy(u *unstructured.Unstructured, reason rollout.ProblemReason, message string, now metav1.Time) ([]any, bool) {
	// What is not a list of objects can't be kept: the API server would refuse to store it.
	old, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	wanted := map[string]any{
		"type":               string(v1beta1.HealthyType),
		"status":             string(corev1.ConditionFalse),
		"reason":             string(reason),
		"message":            message,
		"lastUpdateTime":     now.UTC().Format("2006-01-02T15:04:05Z"),
		"lastTransitionTime": now.UTC().Format("2006-01-02T15:04:05Z"),
	}
	conditions := []any{}
	for _, item := range old {
		condition, ok := item.(map[string]any)
		if !ok {
			continue
		}
		if condition["type"] != wanted["type"] {
			conditions = append(conditions, condition)
			continue
		}
		if condition["status"] == wanted["status"] && condition["reason"] == wanted["reason"] && condition["message"] == message {
			return nil, false
		}
	}
	return append(conditions, wanted), true
}

// keyParts splits a key; a key without a namespace can't occur, since Canaries are namespaced.
func keyParts(key string) (namespace, name string) {
	parsed, err := toolscache.ParseObjectName(key)
	if err != nil {
		return "", key
	}
	return parsed.Namespace, parsed.Name
}
