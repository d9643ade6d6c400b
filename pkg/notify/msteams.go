package notify

import (
	"net/url"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// teamsCard is the card of connectors, which Microsoft retires,
// https://learn.microsoft.com/outlook/actionable-messages/message-card-reference.
type teamsCard struct {
	Type       string         `json:"@type"`
	Context    string         `json:"@context"`
	ThemeColor string         `json:"themeColor"`
	Summary    string         `json:"summary"`
	Sections   []teamsSection `json:"sections"`
}

type teamsSection struct {
	ActivityTitle    string      `json:"activityTitle"`
	ActivitySubtitle string      `json:"activitySubtitle"`
	Facts            []teamsFact `json:"facts"`
}

type teamsFact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// msteams tells connectors from workflows by the host, which for workflows is one of Azure Logic Apps or Power Automate.
func msteams(_ Receiver, address *url.URL, a Alert) (message, error) {
	host := address.Hostname()
	if strings.HasSuffix(host, ".logic.azure.com") || strings.HasSuffix(host, ".api.powerplatform.com") {
		return message{address: address, body: adaptiveCard(a)}, nil
	}
	card := teamsCard{
		Type: "MessageCard", Context: "http://schema.org/extensions", ThemeColor: "0076D7", Summary: a.Source(),
		Sections: []teamsSection{{ActivityTitle: a.Message, ActivitySubtitle: a.Source(), Facts: []teamsFact{}}},
	}
	if a.Severity == v1beta1.SeverityError {
		card.ThemeColor = "FF0000"
	}
	for _, f := range a.Fields {
		card.Sections[0].Facts = append(card.Sections[0].Facts, teamsFact(f))
	}
	return message{address: address, body: card}, nil
}

type object = map[string]any

// adaptiveCard is what a workflow posts, https://adaptivecards.io/explorer/ version 1.4.
func adaptiveCard(a Alert) any {
	color := "Accent"
	switch a.Severity {
	case v1beta1.SeverityError:
		color = "Attention"
	case v1beta1.SeverityWarn:
		color = "Warning"
	case v1beta1.SeverityInfo:
	}
	body := []any{
		object{"type": "TextBlock", "text": a.Message, "weight": "Bolder", "size": "Medium", "wrap": true, "color": color},
		object{"type": "TextBlock", "text": a.Source(), "isSubtle": true, "spacing": "None"},
	}
	if len(a.Fields) > 0 {
		facts := make([]any, len(a.Fields))
		for i, f := range a.Fields {
			facts[i] = object{"title": f.Name, "value": f.Value}
		}
		body = append(body, object{"type": "FactSet", "facts": facts})
	}
	return object{"type": "message", "attachments": []any{object{
		"contentType": "application/vnd.microsoft.card.adaptive",
		"content": object{
			"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body,
		},
	}}}
}
