package cache

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
)

const (
	// firstPage and largestPage bound how many objects are asked for at a time. Nobody knows how large the next ones are, and a
	// Secret or a ConfigMap has up to a megabyte.
	firstPage   = 16
	largestPage = 64
	// pageBytes is what a page should hold, about.
	pageBytes = 2 << 20
)

// listFunc lists one page of a resource.
type listFunc func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error)

// listPages lists a resource page by page and keeps of each page no more than transform makes of its objects, so that the contents of one
// are gone before the next comes. Reflectors of client-go ask for the state of the watch cache first, which the API server answers in one
// piece whatever the limit; a list without a version comes in pages.
//
// A list that takes so long that the API server no longer knows where it was ends with the error of that: whoever asked begins
// again. It never comes whole instead, as that is what memory may not be there for.
func listPages(ctx context.Context, options metav1.ListOptions, list listFunc, transform toolscache.TransformFunc) (*internalversion.List, error) {
	options.ResourceVersion, options.ResourceVersionMatch, options.Continue = "", "", ""
	options.Limit = firstPage
	all := &internalversion.List{}
	for {
		page, err := list(ctx, options)
		if err != nil {
			return nil, err
		}
		all.ResourceVersion = cmp.Or(all.ResourceVersion, page.GetResourceVersion())
		bytes := 0
		for i := range page.Items {
			bytes += sizeOf(page.Items[i].Object)
			kept, err := transform(&page.Items[i])
			if err != nil {
				return nil, err
			}
			if o, ok := kept.(runtime.Object); ok {
				all.Items = append(all.Items, o)
			}
		}
		options.Continue = page.GetContinue()
		if options.Continue == "" {
			return all, nil
		}
		options.Limit = nextPage(options.Limit, len(page.Items), bytes)
	}
}

// nextPage is how many objects to ask for after a page with some objects of so many bytes.
func nextPage(limit int64, objects, bytes int) int64 {
	fit := int64(largestPage)
	if bytes > 0 {
		fit = int64(objects) * pageBytes / int64(bytes)
	}
	// The size of the next objects is a guess, so it grows by steps.
	return max(1, min(fit, 2*limit, largestPage))
}

// sizeOf is about how many bytes a value has.
func sizeOf(value any) int {
	switch v := value.(type) {
	case string:
		return len(v)
	case map[string]any:
		n := 0
		for key, field := range v {
			n += len(key) + sizeOf(field)
		}
		return n
	case []any:
		n := 0
		for _, item := range v {
			n += sizeOf(item)
		}
		return n
	default:
		return 8
	}
}
