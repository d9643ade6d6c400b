package cache

import (
	"context"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// pagesOf lists objects of a size, and returns how many were asked for each time.
func pagesOf(t *testing.T, objects, size int) (limits []int64) {
	t.Helper()
	list := func(_ context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
		if o.ResourceVersion != "" {
			t.Errorf("a list at version %q comes whole", o.ResourceVersion)
		}
		limits = append(limits, o.Limit)
		page := &unstructured.UnstructuredList{Object: map[string]any{}}
		page.SetResourceVersion("7")
		begin, _ := strconv.Atoi(o.Continue)
		for i := begin; i < min(begin+int(o.Limit), objects); i++ {
			u := unstructured.Unstructured{Object: map[string]any{"kind": "ConfigMap", "data": map[string]any{"file": strings.Repeat("x", size)}}}
			u.SetName(strconv.Itoa(i))
			page.Items = append(page.Items, u)
		}
		if end := begin + len(page.Items); end < objects {
			page.SetContinue(strconv.Itoa(end))
		}
		return page, nil
	}
	all, err := listPages(context.Background(), metav1.ListOptions{ResourceVersion: "0", Limit: 500}, list, newCodec().newPacker(entriesOf).transform)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Items) != objects || all.GetResourceVersion() != "7" || all.GetContinue() != "" {
		t.Errorf("%d objects at version %s, continued with %q", len(all.Items), all.GetResourceVersion(), all.GetContinue())
	}
	for i := range all.Items {
		if p := all.Items[i].(*packed); p.name != strconv.Itoa(i) || len(p.text) > 1000 {
			t.Fatalf("object %d: %.200v", i, p.text)
		}
	}
	return limits
}

func TestPagesFollowTheSizeOfTheObjects(t *testing.T) {
	for _, limit := range pagesOf(t, 100, 500_000)[1:] {
		if limit > 4 {
			t.Errorf("a page of %d objects of half a megabyte", limit)
		}
	}
	limits := pagesOf(t, 500, 100)
	if last := limits[len(limits)-1]; last != largestPage {
		t.Errorf("pages of small objects grow to %d, want %d", last, largestPage)
	}
}
