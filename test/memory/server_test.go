package memory

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	namespace = "default"
	// contents is the size of each object: 0.74 MB, as of a release of Helm that is not small.
	contents = 740_000
	version  = "1000"
)

// object is one that the server has.
type object struct {
	resource, name, secretType string
}

// all lists the objects of the server: 100 releases of Helm, 50 other Secrets and 100 ConfigMaps.
func all() []object {
	var list []object
	for i := range 100 {
		list = append(list, object{"secrets", fmt.Sprintf("sh.helm.release.v1.app.v%d", i), "helm.sh/release.v1"})
	}
	for i := range 50 {
		list = append(list, object{"secrets", fmt.Sprintf("opaque-%d", i), "Opaque"})
	}
	for i := range 100 {
		list = append(list, object{"configmaps", fmt.Sprintf("settings-%d", i), ""})
	}
	return list
}

// body renders an object, whole or by its metadata alone.
func (o object) body(whole bool) map[string]any {
	meta := map[string]any{"name": o.name, "namespace": namespace, "uid": o.resource + o.name, "resourceVersion": "10"}
	switch {
	case !whole:
		return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta}
	case o.resource == "secrets":
		data := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", contents*3/4)))
		return map[string]any{"apiVersion": "v1", "kind": "Secret", "type": o.secretType, "metadata": meta, "data": map[string]any{"release": data}}
	default:
		return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": map[string]any{"file": strings.Repeat("x", contents)}}
	}
}

// serve serves the objects as an API server does, whose watch cache is asked for streams or not.
func serve(t *testing.T, streams bool) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "v1",
			APIResources: []metav1.APIResource{
				{Name: "secrets", Kind: "Secret", Namespaced: true}, {Name: "configmaps", Kind: "ConfigMap", Namespaced: true},
			},
		})
	})
	mux.HandleFunc("GET /api/v1/{resource}", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		selector, err := fields.ParseSelector(query.Get("fieldSelector"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var found []object
		for _, o := range all() {
			if o.resource == r.PathValue("resource") && selector.Matches(fields.Set{"type": o.secretType}) {
				found = append(found, o)
			}
		}
		whole := !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
		switch {
		case query.Get("watch") == "":
			list(w, query.Get("resourceVersion"), query.Get("limit"), query.Get("continue"), found, whole)
		case query.Get("sendInitialEvents") == "true" && !streams:
			answer(w, http.StatusUnprocessableEntity, metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity,
				Reason: metav1.StatusReasonInvalid, Message: "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
			})
		case query.Get("sendInitialEvents") == "true":
			stream(w, r, found, whole)
		default:
			stream(w, r, nil, whole)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// list answers with a page. A list from the watch cache comes whole, whatever the limit.
func list(w http.ResponseWriter, at, limit, from string, found []object, whole bool) {
	begin, _ := strconv.Atoi(from)
	end, meta := len(found), map[string]any{"resourceVersion": version}
	if n, _ := strconv.Atoi(limit); n > 0 && at != "0" && begin+n < end {
		end = begin + n
		meta["continue"] = strconv.Itoa(end)
	}
	kind, apiVersion := "List", "v1"
	if !whole {
		kind, apiVersion = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	items := []any{}
	for _, o := range found[begin:end] {
		items = append(items, o.body(whole))
	}
	answer(w, http.StatusOK, map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": meta, "items": items})
}

// stream sends what there is and that this was all, and goes on until the client has enough.
func stream(w http.ResponseWriter, r *http.Request, found []object, whole bool) {
	w.Header().Set("Content-Type", "application/json")
	flush := func() { w.(http.Flusher).Flush() }
	send := func(event watch.EventType, body any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": event, "object": body})
		flush()
	}
	for _, o := range found {
		send(watch.Added, o.body(whole))
	}
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		kind := object{resource: r.PathValue("resource")}.body(whole)
		kind["metadata"] = map[string]any{"resourceVersion": version, "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"}}
		delete(kind, "data")
		send(watch.Bookmark, kind)
	}
	flush()
	<-r.Context().Done()
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
