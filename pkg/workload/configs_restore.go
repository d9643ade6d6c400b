package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Pods read a copy whenever they start. While a promotion is under way that did not get to the primary, or after somebody
// changed or deleted a copy, new pods of the primary would run the promoted template with another content.

// ChangedCopy is a copy that the primary reads and that has not the content which the primary was promoted with.
type ChangedCopy struct {
	// Ref is the copy, Source what it was copied from.
	Ref, Source router.Ref
	// Gone is whether there is no such object any more.
	Gone bool
	// Restorable is whether the previous content is to be had, and the copy can get it.
	Restorable bool
}

// usedCopy is a copy that the primary reads: of which config, under which name, with which content.
type usedCopy struct {
	source         configKey
	name, checksum string
}

// usedCopies lists the copies that are recorded on a primary. A primary that somebody changed reads what somebody chose.
func (d *deployment) usedCopies(c *v1beta1.Canary, primary *unstructured.Unstructured) ([]usedCopy, error) {
	known := d.templates.of(c, primary)
	hash, err := known.fingerprint(primary)
	if err != nil || known.recordedCopy(primary, hash) == "" {
		return nil, err
	}
	configs := known.recordedConfigs(primary)
	names := namesIn(c, known.mandatoryConfigs(primary), configs)
	var used []usedCopy
	for _, s := range slices.Sorted(maps.Keys(names)) {
		used = append(used, usedCopy{configKeyOf(s), names[s], configs[s]})
	}
	return used, nil
}

// ChangedCopies implements Copier.
func (d *deployment) ChangedCopies(c *v1beta1.Canary, live router.Live) ([]ChangedCopy, error) {
	if !d.options.TrackConfigs {
		return nil, nil
	}
	primary, err := live.Get(d.ref(c.Namespace, PrimaryName(c)))
	if err != nil || primary == nil {
		return nil, err
	}
	used, err := d.usedCopies(c, primary)
	if err != nil {
		return nil, err
	}
	var changed []ChangedCopy
	for _, u := range used {
		ref := configKey{u.source.kind, u.name}.ref(c.Namespace)
		have, err := live.Get(ref)
		if err != nil {
			// Configs of this kind are not watched, as the target reads none any more.
			continue
		}
		if have != nil && digestOf(have).all == u.checksum {
			continue
		}
		content, err := u.content(c, func(key configKey) (*unstructured.Unstructured, error) { return live.Get(key.ref(c.Namespace)) })
		if err != nil {
			return nil, err
		}
		changed = append(changed, ChangedCopy{
			Ref: ref, Source: u.source.ref(c.Namespace), Gone: have == nil,
			Restorable: content != nil && u.replaceable(c, have, content),
		})
	}
	return changed, nil
}

// content looks for an object with the content of a copy: the source, or what was kept. Nil if there is none.
func (u usedCopy) content(c *v1beta1.Canary, get func(configKey) (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	candidates := []configKey{u.source}
	for _, pair := range copyNames(c, u.source, u.checksum) {
		candidates = append(candidates, configKey{u.source.kind, pair[0]}, configKey{u.source.kind, pair[1]})
	}
	for _, key := range candidates {
		have, err := get(key)
		if err != nil {
			return nil, err
		}
		if have != nil && digestOf(have).all == u.checksum && (key == u.source || ownCopy(c, u.source, have)) {
			return have, nil
		}
	}
	return nil, nil
}

// replaceable is whether a copy, nil if there is none, can get another content under its name.
func (u usedCopy) replaceable(c *v1beta1.Canary, have, content *unstructured.Unstructured) bool {
	if have == nil {
		return true
	}
	return ownCopy(c, u.source, have) && have.Object["immutable"] != true &&
		stringAt(have.Object, "type") == stringAt(content.Object, "type")
}

// RestoreCopies implements Copier.
func (d *deployment) RestoreCopies(ctx context.Context, c *v1beta1.Canary) error {
	primary, err := d.get(ctx, c.Namespace, PrimaryName(c))
	if err != nil || primary == nil {
		return err
	}
	used, err := d.usedCopies(c, primary)
	if err != nil {
		return err
	}
	copies := d.copies()
	for _, u := range used {
		if err := copies.giveBack(ctx, c, u); err != nil {
			return fmt.Errorf("restoring %s %s.%s failed: %w", u.source.kind, u.name, c.Namespace, err)
		}
	}
	return nil
}

// giveBack makes a copy what the primary was promoted with, if that is possible.
func (k configCopies) giveBack(ctx context.Context, c *v1beta1.Canary, u usedCopy) error {
	get := func(key configKey) (*unstructured.Unstructured, error) { return k.get(ctx, c, key) }
	have, err := get(configKey{u.source.kind, u.name})
	if err != nil || have != nil && digestOf(have).all == u.checksum {
		return err
	}
	content, err := u.content(c, get)
	if err != nil || content == nil || !u.replaceable(c, have, content) {
		return err
	}
	// A copy tells the name of its source by an annotation, which is not that of what was kept.
	content = content.DeepCopy()
	content.SetName(u.source.name)
	if have == nil {
		return k.create(ctx, c, u.source, u.name, content)
	}
	return k.update(ctx, c, u.source, have, content)
}

// keep stores the content of a copy that is about to be changed under the name that has its checksum. It stays as long as a
// stored revision refers to it. A role or a quota that does not allow it prevents no promotion.
func (k configCopies) keep(ctx context.Context, c *v1beta1.Canary, key configKey, have *unstructured.Unstructured) error {
	content := have.DeepCopy()
	content.SetName(key.name)
	for _, pair := range copyNames(c, key, digestOf(have).all) {
		kept, err := k.get(ctx, c, configKey{key.kind, pair[1]})
		if err != nil {
			return err
		}
		if kept != nil && !ownCopy(c, key, kept) {
			continue
		}
		if kept == nil {
			err = k.create(ctx, c, key, pair[1], content)
		} else if digestOf(kept).all != digestOf(have).all && changeable(kept, content) {
			err = k.update(ctx, c, key, kept, content)
		}
		if apierrors.IsForbidden(err) {
			return nil
		}
		return err
	}
	return nil
}
