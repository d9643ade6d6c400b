package notify

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Receiver is somebody who gets alerts, and how.
type Receiver struct {
	// Type is one of Types.
	Type string
	// Address is the URL of a webhook. Whoever knows that of a chat service can write there, so errors show its host alone.
	Address string
	// Token authorizes a Slack bot, and signs what the type webhook sends.
	Token string
	// Channel and Username are for chat services that let senders choose. Defaults: general, flagger.
	Channel, Username string
	// Proxy is the URL of an HTTP proxy. Default: that of the environment.
	Proxy string

	// thread is the message that the next one answers.
	thread string
}

const (
	defaultChannel  = "general"
	defaultUsername = "flagger"
)

// message is what is sent to a receiver.
type message struct {
	// address is that of the receiver, as the type wants it.
	address *url.URL
	body    any
	// sign adds headers that depend on the bytes of the body. It may be nil.
	sign func(header http.Header, body []byte)
	// check looks at the answer of a receiver that answers every request with success. It may be nil.
	check func(answer []byte) error
}

type format func(r Receiver, address *url.URL, a Alert) (message, error)

// formats is what each type of receiver is sent.
func formats() map[string]format {
	return map[string]format{
		"alertmanager": alertmanager,
		"discord":      discord,
		"gchat":        gchat,
		"msteams":      msteams,
		"rocket":       rocket,
		slackType:      slack,
		"webhook":      webhook,
	}
}

// Types are the names of all types of receivers.
func Types() []string { return slices.Sorted(maps.Keys(formats())) }

// message composes what is sent.
func (r Receiver) message(a Alert) (message, error) {
	compose, ok := formats()[r.Type]
	if !ok {
		return message{}, fmt.Errorf("type %q is unknown: set it to one of %s", r.Type, strings.Join(Types(), ", "))
	}
	address, err := parseURL("address", r.Address)
	if err != nil {
		return message{}, err
	}
	r.Channel, r.Username = cmp.Or(r.Channel, defaultChannel), cmp.Or(r.Username, defaultUsername)
	return compose(r, address, a)
}

// parseURL doesn't quote what may be secret.
func parseURL(field, text string) (*url.URL, error) {
	if text == "" {
		return nil, fmt.Errorf("%s is empty: set it to the URL of a webhook", field)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s is not a URL with http or https and a host", field)
	}
	return u, nil
}
