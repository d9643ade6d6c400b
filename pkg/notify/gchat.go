package notify

import (
	"fmt"
	"html"
	"net/url"
)

// gchat sends a card, https://developers.google.com/workspace/chat/api/reference/rest/v1/cards-v1. Its texts are HTML.
func gchat(_ Receiver, address *url.URL, a Alert) (message, error) {
	const grey = "<font color=#848484><strong>%s</strong></font>"
	sections := []any{gchatSection(fmt.Sprintf(grey, html.EscapeString(a.Message)))}
	for _, f := range a.Fields {
		sections = append(sections, gchatSection(html.EscapeString(f.Name)+"<br>"+fmt.Sprintf(grey, html.EscapeString(f.Value))))
	}
	return message{address: address, body: object{"cards": []any{object{
		"header":   object{"title": "Flagger", "subtitle": a.Source(), "imageUrl": "https://flagger.app/favicon.png"},
		"sections": sections,
	}}}}, nil
}

func gchatSection(text string) any {
	return object{"widgets": []any{object{"textParagraph": object{"text": text}}}}
}
