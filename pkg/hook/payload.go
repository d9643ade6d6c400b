package hook

import (
	"strconv"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Payload is the body of a call.
type Payload struct {
	// Name and Namespace of the Canary.
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	// Phase of the Canary.
	Phase v1beta1.CanaryPhase `json:"phase"`
	// Checksum identifies the revision that the call is about.
	Checksum string `json:"checksum"`
	// Metadata is that of the webhook. Keys set here win over the webhook's.
	Metadata map[string]string `json:"metadata,omitempty"`

	// at is when an event happened.
	at time.Time
}

// Keys of the metadata of an event.
const (
	metadataMessage   = "eventMessage"
	metadataType      = "eventType"
	metadataTimestamp = "timestamp"
)

// EventPayload completes a payload for webhooks of type event: eventType is Normal or Warning, the timestamp is sent in
// milliseconds since 1970.
func EventPayload(p Payload, eventType, message string, at time.Time) Payload {
	p.at = at
	p.Metadata = map[string]string{
		metadataMessage:   message,
		metadataType:      eventType,
		metadataTimestamp: strconv.FormatInt(at.UnixMilli(), 10),
	}
	return p
}

// withMetadata adds the metadata of the webhook, without touching the maps of either.
func (p Payload) withMetadata(own *map[string]string) Payload {
	if own == nil {
		return p
	}
	merged := make(map[string]string, len(*own)+len(p.Metadata))
	for k, v := range *own {
		merged[k] = v
	}
	for k, v := range p.Metadata {
		merged[k] = v
	}
	p.Metadata = merged
	return p
}

// OfType lists the webhooks of a type that a Canary has, in their order.
func OfType(c *v1beta1.Canary, t v1beta1.HookType) []v1beta1.CanaryWebhook {
	analysis := c.GetAnalysis()
	if analysis == nil {
		return nil
	}
	var hooks []v1beta1.CanaryWebhook
	for i := range analysis.Webhooks {
		if h := &analysis.Webhooks[i]; h.GetType() == t {
			hooks = append(hooks, *h)
		}
	}
	return hooks
}
