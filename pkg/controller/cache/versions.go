package cache

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// versionsPage is how many Canaries are asked for at a time. Without their contents each is a few hundred bytes.
const versionsPage = 500

// Versions asks the API server for the versions that the Canaries are at now, by key.
func (s *Canaries) Versions(ctx context.Context) (map[string]string, error) {
	versions := map[string]string{}
	options := metav1.ListOptions{Limit: versionsPage}
	for {
		next, err := s.cluster.listVersions(ctx, options, versions)
		if err != nil {
			return nil, fmt.Errorf("listing canaries: %w", err)
		}
		if options.Continue = next; next == "" {
			return versions, nil
		}
	}
}

// listVersions adds a page of versions, and returns where the next one begins.
func (c *Cluster) listVersions(ctx context.Context, options metav1.ListOptions, versions map[string]string) (next string, err error) {
	if c.outlines != nil {
		page, err := c.outlines.Resource(CanaryResource).Namespace(c.namespace).List(ctx, options)
		if err != nil {
			return "", err
		}
		for i := range page.Items {
			versions[Key(&page.Items[i])] = page.Items[i].ResourceVersion
		}
		return page.Continue, nil
	}
	page, err := c.client.Resource(CanaryResource).Namespace(c.namespace).List(ctx, options)
	if err != nil {
		return "", err
	}
	for i := range page.Items {
		versions[Key(&page.Items[i])] = page.Items[i].GetResourceVersion()
	}
	return page.GetContinue(), nil
}

// Shows is whether the store has a Canary at a version or a later one. Versions that can't be compared count as shown.
func (s *Canaries) Shows(key, version string) bool {
	shown, err := s.newest(key)
	if err != nil || shown == (state{}) {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(shown.version().number, version)
	return err != nil || order >= 0
}
