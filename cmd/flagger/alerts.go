package main

import (
	"errors"
	"net/url"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	listers "flagger.app/flagger/pkg/client/listers/flagger/v1beta1"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/outbound"
)

// notifier sends alerts to the AlertProviders that Canaries name, or to the receivers of the flags.
func (op *operator) notifier() notify.Notifier {
	return &notify.Dispatcher{
		Global:               globalReceivers(op.options, op.log),
		Log:                  notify.Log{Logger: zapr.NewLogger(op.log).WithName("alert")},
		NoCrossNamespaceRefs: op.options.noCrossNamespaceRefs,
		Providers:            alertProviders{listers.NewAlertProviderLister(op.alertProviders.GetIndexer())},
		Secrets:              secrets{op.clients.kube},
		Sender:               &notify.Sender{Transports: outbound.NewTransports(clock.RealClock{}), Threads: notify.NewThreads()},
	}
}

// globalReceivers are those of the flags -slack-url and -msteams-url. One that can't work is told and left out: an operator that
// does not start would roll out nothing, with alerts or without.
func globalReceivers(o *options, log *zap.Logger) []notify.Receiver {
	var receivers []notify.Receiver
	for flag, r := range map[string]notify.Receiver{
		"-slack-url": {
			Type: "slack", Address: o.slack.url, Token: o.slack.token, Channel: o.slack.channel, Username: o.slack.user, Proxy: o.slack.proxyURL,
		},
		"-msteams-url": {Type: "msteams", Address: o.msteams.url, Proxy: o.msteams.proxyURL},
	} {
		if r.Address == "" {
			continue
		}
		if err := usable(r); err != nil {
			log.Error("alerts are not sent to the receiver of a flag", zap.String("flag", flag), zap.Error(err))
			continue
		}
		receivers = append(receivers, r)
	}
	return receivers
}

// warnOfChat tells of events that are sent to who does not understand them.
func warnOfChat(o *options, log *zap.Logger) {
	if service := (&v1beta1.CanaryWebhook{URL: o.eventWebhook}).ChatService(); service != "" {
		log.Error("the receiver of a flag is a chat service and refuses events: alerts are what it understands, by an AlertProvider or the flags for them",
			zap.String("flag", "-event-webhook"), zap.String("type", service))
	}
}

func usable(r notify.Receiver) error {
	if u, err := url.Parse(r.Address); err != nil || u.Host == "" {
		return errors.New("its value is not a URL: set it to that of an incoming webhook")
	}
	if r.Type == "slack" && r.Channel == "" {
		return errors.New("it needs the flag -slack-channel, too")
	}
	return nil
}

// alertProviders finds AlertProviders in the cache.
type alertProviders struct {
	lister listers.AlertProviderLister
}

func (a alertProviders) AlertProvider(namespace, name string) (*v1beta1.AlertProvider, error) {
	return a.lister.AlertProviders(namespace).Get(name)
}
