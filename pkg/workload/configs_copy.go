package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

// errLost is returned when nothing has the content of a copy any more.
var errLost = errors.New("the content that was promoted is lost")

// configCopies writes the copies of ConfigMaps and Secrets that the pods of primaries read.
//
// A copy belongs to one Canary. Where the usual name is taken, by another Canary or by the user, the copy gets a name of its
// own, so that no promotion changes what somebody else's primary reads. A copy that can't be changed is replaced by one
// with another name: nodes keep the content of an immutable object for as long as any pod uses it, and would give a new
// object of the same name the old content.
type configCopies struct {
	client dynamic.Interface
	// live is a cache of what client reads, with checksums in the place of contents, nil for none.
	live    router.Live
	options Options
}

// ensure makes the copies equal to a revision and returns their names by the keys of the configs. When a config has another
// content by now, the error is ErrMoved and nothing was written.
func (k configCopies) ensure(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) (map[string]string, error) {
	names := map[string]string{}
	if !k.options.TrackConfigs {
		return names, nil
	}
	keys := slices.Sorted(maps.Keys(revision.Configs))
	keys = slices.DeleteFunc(keys, func(s string) bool {
		name := k.inPlace(c, configKeyOf(s), revision.Configs[s])
		if name != "" {
			names[s] = name
		}
		return name != ""
	})
	sources := make([]*unstructured.Unstructured, len(keys))
	for i, s := range keys {
		var err error
		if sources[i], err = k.source(ctx, c, s, revision.Configs[s]); err != nil {
			return nil, err
		}
	}
	for i, s := range keys {
		name, err := k.write(ctx, c, configKeyOf(s), sources[i])
		if err != nil {
			return nil, err
		}
		names[s] = name
	}
	return names, nil
}

// inPlace returns the name of the copy of a config, if the caches have the config with this checksum and a copy that write would
// leave as it is. Labels are not in the caches.
func (k configCopies) inPlace(c *v1beta1.Canary, key configKey, checksum string) string {
	if k.live == nil || len(k.options.IncludeLabelPrefix) > 0 {
		return ""
	}
	source, err := k.live.Get(key.ref(c.Namespace))
	if err != nil || source == nil || digestOf(source).all != checksum {
		return ""
	}
	for _, pair := range copyNames(c, key, checksum) {
		have, err := k.live.Get(configKey{key.kind, pair[0]}.ref(c.Namespace))
		if err != nil || have == nil {
			return ""
		}
		if !ownCopy(c, key, have) {
			continue
		}
		same := digestOf(have).all == checksum && annotationAt(have, copyOfAnnotation) == key.name && metav1.IsControlledBy(have, c)
		for _, field := range []string{"type", "immutable"} {
			same = same && reflect.DeepEqual(have.Object[field], source.Object[field])
		}
		if !same {
			return ""
		}
		return pair[0]
	}
	return ""
}

// unknown is whether the caches know no config of a name. Whoever creates it finds out whether there is one.
func (k configCopies) unknown(c *v1beta1.Canary, key configKey) bool {
	if k.live == nil {
		return false
	}
	u, err := k.live.Get(key.ref(c.Namespace))
	return err == nil && u == nil
}

// source reads a config with exactly this checksum.
func (k configCopies) source(ctx context.Context, c *v1beta1.Canary, s, checksum string) (*unstructured.Unstructured, error) {
	key := configKeyOf(s)
	source, err := k.get(ctx, c, key)
	if err != nil {
		return nil, err
	}
	if source == nil {
		return nil, fmt.Errorf("%s %s.%s is gone: %w", key.kind, key.name, c.Namespace, ErrMoved)
	}
	if now := digestOf(source).all; now != checksum {
		return nil, fmt.Errorf("%s %s.%s has checksum %s and not %s: %w", key.kind, key.name, c.Namespace, now, checksum, ErrMoved)
	}
	return source, nil
}

// present returns the names of the copies that a promoted revision runs with, and leaves those untouched that have its
// content. One that has not, or that somebody deleted, is made again if its source has not changed since.
func (k configCopies) present(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) (map[string]string, error) {
	names := map[string]string{}
	if !k.options.TrackConfigs {
		return names, nil
	}
	for _, s := range slices.Sorted(maps.Keys(revision.Configs)) {
		name, other, err := k.find(ctx, c, configKeyOf(s), revision.Configs[s])
		if err == nil && name == "" {
			name, err = k.restore(ctx, c, s, revision.Configs[s])
			if errors.Is(err, errLost) && other != "" {
				// Pods with another content are better than none. What they read is told as long as it is not what was promoted.
				name, err = other, nil
			}
		}
		if err != nil {
			return nil, err
		}
		names[s] = name
	}
	return names, nil
}

// find looks for a copy with this content, and for any other copy.
func (k configCopies) find(ctx context.Context, c *v1beta1.Canary, key configKey, checksum string) (exact, other string, err error) {
	for _, name := range slices.Concat(pairs(copyNames(c, key, checksum))...) {
		have, err := k.get(ctx, c, configKey{key.kind, name})
		if err != nil {
			return "", "", err
		}
		if have == nil || !ownCopy(c, key, have) {
			continue
		}
		if digestOf(have).all == checksum {
			return name, "", nil
		}
		if other == "" {
			other = name
		}
	}
	return "", other, nil
}

func (k configCopies) restore(ctx context.Context, c *v1beta1.Canary, s, checksum string) (string, error) {
	key := configKeyOf(s)
	source, err := k.source(ctx, c, s, checksum)
	if errors.Is(err, ErrMoved) {
		// Not ErrMoved: a pass with a fresh view of the cluster would come to the same end.
		return "", fmt.Errorf("%w: the copy of %s %s.%s is gone, and its source has changed since: give the source the content with "+
			"checksum %s back", errLost, key.kind, key.name, c.Namespace, checksum)
	}
	if err != nil {
		return "", err
	}
	return k.write(ctx, c, key, source)
}

// write makes one copy equal to its source and returns its name.
func (k configCopies) write(ctx context.Context, c *v1beta1.Canary, key configKey, source *unstructured.Unstructured) (string, error) {
	candidates := copyNames(c, key, digestOf(source).all)
	for _, pair := range candidates {
		for _, name := range pair {
			if k.unknown(c, configKey{key.kind, name}) {
				if err := k.create(ctx, c, key, name, source); !apierrors.IsAlreadyExists(err) {
					return name, err
				}
			}
			have, err := k.get(ctx, c, configKey{key.kind, name})
			if err != nil {
				return "", err
			}
			if have == nil {
				return name, k.create(ctx, c, key, name, source)
			}
			if !ownCopy(c, key, have) {
				break
			}
			if changeable(have, source) {
				return name, k.change(ctx, c, key, have, source)
			}
		}
	}
	return "", fmt.Errorf("%s %s.%s can't be copied for the primary: both %s and %s exist and are not copies of it: rename or "+
		"remove one of them", key.kind, key.name, c.Namespace, candidates[0][0], candidates[1][0])
}

func (k configCopies) create(ctx context.Context, c *v1beta1.Canary, key configKey, name string,
	source *unstructured.Unstructured) error {
	copied := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": source.GetKind(),
		"metadata": map[string]any{"name": name, "namespace": c.Namespace},
	}}
	k.fill(c, copied, source)
	if _, err := k.resource(c, key).Create(ctx, copied, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating %s %s.%s failed: %w", key.kind, name, c.Namespace, err)
	}
	return nil
}

// change updates a copy, and keeps what it was if that is another content.
func (k configCopies) change(ctx context.Context, c *v1beta1.Canary, key configKey, have, source *unstructured.Unstructured) error {
	if digestOf(have).all != digestOf(source).all {
		if err := k.keep(ctx, c, key, have); err != nil {
			return err
		}
	}
	return k.update(ctx, c, key, have, source)
}

func (k configCopies) update(ctx context.Context, c *v1beta1.Canary, key configKey, have, source *unstructured.Unstructured) error {
	next := have.DeepCopy()
	k.fill(c, next, source)
	if reflect.DeepEqual(withoutNulls(next.Object), withoutNulls(have.Object)) {
		return nil
	}
	// The update carries the resourceVersion that was read, so it fails when anybody wrote in between.
	if _, err := k.resource(c, key).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating %s %s.%s failed: %w", key.kind, have.GetName(), c.Namespace, err)
	}
	return nil
}

// contentFields are all fields of ConfigMaps and Secrets but their metadata.
func contentFields() []string { return []string{"data", "binaryData", "type", "immutable"} }

func (k configCopies) fill(c *v1beta1.Canary, copied, source *unstructured.Unstructured) {
	for _, field := range contentFields() {
		delete(copied.Object, field)
		if value, ok := source.Object[field]; ok && value != nil {
			copied.Object[field] = runtime.DeepCopyJSONValue(value)
		}
	}
	labels := map[string]string{}
	for label, value := range copied.GetLabels() {
		if !includesLabel(label, k.options.IncludeLabelPrefix) {
			labels[label] = value
		}
	}
	for label, value := range source.GetLabels() {
		if includesLabel(label, k.options.IncludeLabelPrefix) && copiesPodKey(label) {
			labels[label] = value
		}
	}
	if len(labels) > 0 || len(copied.GetLabels()) > 0 {
		copied.SetLabels(labels)
	}
	annotations := copied.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[copyOfAnnotation] = source.GetName()
	copied.SetAnnotations(annotations)
	own(c, copied)
}

// ownCopy is whether an object is a copy of the config that was made for this Canary and for no other one. Flagger shares
// copies between Canaries.
func ownCopy(c *v1beta1.Canary, source configKey, have *unstructured.Unstructured) bool {
	mine := false
	for _, owner := range have.GetOwnerReferences() {
		if owner.Kind != "Canary" {
			continue
		}
		if owner.Name != c.Name {
			return false
		}
		mine = true
	}
	of := annotationAt(have, copyOfAnnotation)
	return mine && (of == source.name || of == "" && have.GetName() == source.name+v1beta1.PrimarySuffix)
}

// changeable is whether the API server lets a copy become equal to its source.
func changeable(have, source *unstructured.Unstructured) bool {
	for _, field := range []string{"data", "binaryData", "immutable", "type"} {
		fixed := field == "type" || have.Object["immutable"] == true
		if fixed && !reflect.DeepEqual(have.Object[field], source.Object[field]) {
			return false
		}
	}
	return true
}

func (k configCopies) resource(c *v1beta1.Canary, key configKey) dynamic.ResourceInterface {
	return k.client.Resource(key.ref("").Resource).Namespace(c.Namespace)
}

// get reads a config from the server, nil if there is none.
func (k configCopies) get(ctx context.Context, c *v1beta1.Canary, key configKey) (*unstructured.Unstructured, error) {
	obj, err := k.resource(c, key).Get(ctx, key.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s.%s get query error: %w", key.kind, key.name, c.Namespace, err)
	}
	return obj, nil
}
