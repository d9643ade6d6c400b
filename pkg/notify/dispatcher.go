package notify

import (
	"context"
	"fmt"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Providers finds AlertProviders, from a cache. The result is shared and is not changed.
type Providers interface {
	AlertProvider(namespace, name string) (*v1beta1.AlertProvider, error)
}

// Secrets reads the data of a Secret.
type Secrets interface {
	SecretData(ctx context.Context, namespace, name string) (map[string][]byte, error)
}

// Dispatcher sends alerts to those who want them.
type Dispatcher struct {
	// Global get the alerts of Canaries that name nobody. Without any, such alerts are logged.
	Global []Receiver
	Log    Log
	// NoCrossNamespaceRefs is the flag of that name: providers outside of the namespace of the Canary are refused.
	NoCrossNamespaceRefs bool

	Providers Providers
	Secrets   Secrets
	Sender    *Sender
}

var _ Directory = (*Dispatcher)(nil)

// Notify sends the alert to all who want it, at the same time, and returns the errors of all.
func (d *Dispatcher) Notify(ctx context.Context, a Alert) error {
	var receivers All
	for _, r := range d.Addressees(a.Wanted) {
		if Passes(a.Severity, r.Least) {
			receivers = append(receivers, r)
		}
	}
	return receivers.Notify(ctx, a)
}

// Addressees are those whom the Canary names, else the receivers of the operator, else its log.
func (d *Dispatcher) Addressees(wanted []v1beta1.CanaryAlert) []Addressee {
	var all []Addressee
	for _, w := range wanted {
		all = append(all, Addressee{
			ID: w.ProviderRef.Name + "." + w.ProviderRef.Namespace, Least: w.Severity,
			Notifier: Func(func(ctx context.Context, a Alert) error { return d.toProvider(ctx, w, a) }),
		})
	}
	if len(wanted) > 0 {
		return all
	}
	for _, r := range d.Global {
		all = append(all, Addressee{ID: r.Type, Notifier: Func(func(ctx context.Context, a Alert) error { return d.Sender.Send(ctx, r, a) })})
	}
	if len(all) == 0 {
		return []Addressee{{ID: "log", Notifier: d.Log}}
	}
	return all
}

func (d *Dispatcher) toProvider(ctx context.Context, wanted v1beta1.CanaryAlert, a Alert) error {
	namespace := wanted.ProviderRef.NamespaceOr(a.Namespace)
	id := wanted.ProviderRef.Name + "." + namespace
	// Checked at every use, since a valid Canary can be changed into an invalid one while its rollout runs.
	if d.NoCrossNamespaceRefs && namespace != a.Namespace {
		return fmt.Errorf("can't access alert provider %s, cross-namespace references are blocked", id)
	}
	r, err := d.receiver(ctx, namespace, wanted.ProviderRef.Name)
	if err == nil {
		err = d.Sender.Send(ctx, r, a)
	}
	if err != nil {
		return fmt.Errorf("alert provider %s: %w", id, err)
	}
	return nil
}

func (d *Dispatcher) receiver(ctx context.Context, namespace, name string) (Receiver, error) {
	found, err := d.Providers.AlertProvider(namespace, name)
	if err != nil {
		return Receiver{}, err
	}
	spec := found.Spec
	r := Receiver{Type: spec.Type, Address: spec.Address, Channel: spec.Channel, Username: spec.Username, Proxy: spec.Proxy}
	if spec.SecretRef == nil {
		return r, nil
	}
	data, err := d.Secrets.SecretData(ctx, namespace, spec.SecretRef.Name)
	if err != nil {
		return Receiver{}, fmt.Errorf("secret %s: %w", spec.SecretRef.Name, err)
	}
	r.Token = trimmed(data["token"])
	if address := trimmed(data["address"]); address != "" {
		r.Address = address
	}
	if r.Address == "" {
		return Receiver{}, fmt.Errorf("secret %s has no key address: add it, or set spec.address", spec.SecretRef.Name)
	}
	return r, nil
}

// trimmed leaves out the line break that editors leave at the end.
func trimmed(value []byte) string { return strings.TrimSpace(string(value)) }
