package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// prober is a probe of the application, as istiod's injector writes it down
// when it leads the probes of the kubelet to the proxy's agent: there they are
// neither requests of the mesh nor counted as such.
type prober struct {
	HTTPGet *struct {
		Path string             `json:"path"`
		Port intstr.IntOrString `json:"port"`
	} `json:"httpGet"`
	TimeoutSeconds int `json:"timeoutSeconds"`
}

// probes answers for the application; paths are those that the injector chose.
func probes(ip string) (http.Handler, error) {
	found := map[string]prober{}
	if written := os.Getenv("ISTIO_KUBE_APP_PROBERS"); written != "" {
		if err := json.Unmarshal([]byte(written), &found); err != nil {
			return nil, fmt.Errorf("ISTIO_KUBE_APP_PROBERS: %w", err)
		}
	}
	mux := http.NewServeMux()
	for path, p := range found {
		if p.HTTPGet == nil {
			return nil, fmt.Errorf("ISTIO_KUBE_APP_PROBERS: %s is no HTTP probe", path)
		}
		url := "http://" + ip + ":" + strconv.Itoa(p.HTTPGet.Port.IntValue()) + p.HTTPGet.Path
		client := &http.Client{
			Timeout: time.Duration(max(1, p.TimeoutSeconds)) * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		}
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, client, url) })
	}
	return mux, nil
}

// answer passes on the status of a URL.
func answer(w http.ResponseWriter, r *http.Request, client *http.Client, url string) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer func() { _ = response.Body.Close() }()
	w.WriteHeader(response.StatusCode)
}
