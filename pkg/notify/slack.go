package notify

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// slackMessage is that of incoming webhooks and of chat.postMessage, with an attachment,
// https://api.slack.com/reference/messaging/attachments. Discord and Rocket.Chat take it, too.
type slackMessage struct {
	Channel     string            `json:"channel"`
	Username    string            `json:"username"`
	IconURL     string            `json:"icon_url"`
	IconEmoji   string            `json:"icon_emoji"`
	Attachments []slackAttachment `json:"attachments"`

	// ThreadTS is the message of a bot that this one answers, ReplyBroadcast shows the answer in the channel as well,
	// https://api.slack.com/methods/chat.postMessage.
	ThreadTS       string `json:"thread_ts,omitempty"`
	ReplyBroadcast bool   `json:"reply_broadcast,omitempty"`
}

type slackAttachment struct {
	Color      string       `json:"color"`
	AuthorName string       `json:"author_name"`
	Text       string       `json:"text"`
	MrkdwnIn   []string     `json:"mrkdwn_in"`
	Fields     []slackField `json:"fields"`
}

type slackField struct {
	Title string `json:"title"`
	Value string `json:"value"`
	Short bool   `json:"short"`
}

func slackBody(r Receiver, a Alert, good, bad string) slackMessage {
	attachment := slackAttachment{Color: good, AuthorName: a.Source(), Text: a.Message, MrkdwnIn: []string{"text"}, Fields: []slackField{}}
	if a.Severity == v1beta1.SeverityError {
		attachment.Color = bad
	}
	for _, f := range a.Fields {
		attachment.Fields = append(attachment.Fields, slackField{Title: f.Name, Value: f.Value})
	}
	return slackMessage{Channel: r.Channel, Username: r.Username, IconEmoji: ":rocket:", Attachments: []slackAttachment{attachment}}
}

const slackType = "slack"

func slack(r Receiver, address *url.URL, a Alert) (message, error) {
	body := slackBody(r, a, "good", "danger")
	// What failed must not hide in a thread.
	body.ThreadTS, body.ReplyBroadcast = r.thread, r.thread != "" && a.Severity == v1beta1.SeverityError
	m := message{address: address, body: body}
	if r.Token != "" {
		m.sign = func(header http.Header, _ []byte) { header.Set("Authorization", "Bearer "+r.Token) }
		m.check = checkSlack
	}
	return m, nil
}

// checkSlack reads the answer to a bot, which has status 200 whatever happened.
func checkSlack(text []byte) error {
	var answer struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if json.Unmarshal(text, &answer) == nil && !answer.OK && answer.Error != "" {
		return fmt.Errorf("it refuses with %s", answer.Error)
	}
	return nil
}

// discord has an address for messages of Slack beside its own.
func discord(r Receiver, address *url.URL, a Alert) (message, error) {
	if !strings.HasSuffix(address.Path, "/slack") {
		address = address.JoinPath("slack")
	}
	return message{address: address, body: slackBody(r, a, "good", "danger")}, nil
}

func rocket(r Receiver, address *url.URL, a Alert) (message, error) {
	return message{address: address, body: slackBody(r, a, "#0076D7", "#FF0000")}, nil
}
