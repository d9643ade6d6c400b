// Package notify tells people about rollouts: what an alert says, and where it goes.
package notify

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Field is a named value shown with an alert.
type Field struct {
	Name, Value string
}

// Alert is a message about a Canary.
type Alert struct {
	// Namespace and Name of the Canary.
	Namespace, Name string
	Severity        v1beta1.AlertSeverity
	Message         string
	// Fields are shown in this order.
	Fields []Field
	// Wanted is spec.analysis.alerts of the Canary: who wants alerts from which severity on. Without any they go to the receivers of
	// the operator.
	Wanted []v1beta1.CanaryAlert
	// Key is the same when an alert is sent again after a crash.
	Key string
	// Rollout names the rollout of the Canary that the alert belongs to. Receivers that know threads show its alerts in one.
	Rollout string
	// Time is when the alert was made.
	Time time.Time
}

// Source is how an alert names its Canary: <name>.<namespace>.
func (a Alert) Source() string { return a.Name + "." + a.Namespace }

// Notifier sends alerts to one receiver. An error says which receiver and why; nobody but the log depends on it.
type Notifier interface {
	Notify(ctx context.Context, a Alert) error
}

// Addressee is one of those who get the alerts of a Canary.
type Addressee struct {
	// ID tells them apart, among those of one Canary. It is the same as long as its spec is.
	ID string
	// Least is the least severity that is wanted, empty for all.
	Least v1beta1.AlertSeverity
	Notifier
}

// Directory is a Notifier that knows those who get an alert one by one, so that each can be told without the others.
type Directory interface {
	Notifier
	// Addressees are those of a Canary that wants its alerts sent to these. An ID may be there more than once.
	Addressees(wanted []v1beta1.CanaryAlert) []Addressee
}

// Addressees are those that a Notifier knows. One that knows none by itself is the only one.
func Addressees(n Notifier, wanted []v1beta1.CanaryAlert) []Addressee {
	if d, ok := n.(Directory); ok {
		return d.Addressees(wanted)
	}
	return []Addressee{{Notifier: n}}
}

// Func is a Notifier that is one function.
type Func func(ctx context.Context, a Alert) error

// Notify calls the function.
func (f Func) Notify(ctx context.Context, a Alert) error { return f(ctx, a) }

// All sends an alert to several receivers at the same time, whatever becomes of the others.
type All []Notifier

// Notify sends the alert to all receivers and returns their errors together, in the order of the receivers.
func (all All) Notify(ctx context.Context, a Alert) error {
	failures := make([]error, len(all))
	var wait sync.WaitGroup
	for i, n := range all {
		wait.Go(func() { failures[i] = n.Notify(ctx, a) })
	}
	wait.Wait()
	return errors.Join(failures...)
}

// Log writes alerts to the log.
type Log struct {
	Logger logr.Logger
}

var _ Notifier = Log{}

// Notify logs the alert: its message, severity and fields.
func (l Log) Notify(_ context.Context, a Alert) error {
	values := []any{"canary", a.Source(), "severity", string(a.Severity)}
	for _, f := range a.Fields {
		values = append(values, f.Name, f.Value)
	}
	if a.Severity == v1beta1.SeverityError {
		l.Logger.Error(nil, a.Message, values...)
		return nil
	}
	l.Logger.Info(a.Message, values...)
	return nil
}

// Passes tells whether an alert of this severity is to be sent where min is the least severity wanted. An unset min means
// info, an unknown one does not match anything.
func Passes(severity, min v1beta1.AlertSeverity) bool {
	if min == "" {
		min = v1beta1.SeverityInfo
	}
	wanted, ok := rank(min)
	got, known := rank(severity)
	return ok && known && got >= wanted
}

func rank(s v1beta1.AlertSeverity) (int, bool) {
	switch s {
	case v1beta1.SeverityInfo:
		return 0, true
	case v1beta1.SeverityWarn:
		return 1, true
	case v1beta1.SeverityError:
		return 2, true
	}
	return 0, false
}
