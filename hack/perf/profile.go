package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

// profilePort serves the profiles of the operator.
const profilePort = "18081"

// profiled plays a stage and writes profiles of the operator meanwhile: of the processor in files of ten seconds, which `go tool pprof`
// reads together, and of the heap at its end. Without a folder for them it only plays.
func (b *bench) profiled(ctx context.Context, name string, play func() (*stage, error)) (*stage, error) {
	if b.profiles == "" {
		return play()
	}
	if err := os.MkdirAll(b.profiles, 0o755); err != nil {
		return nil, err
	}
	sampling, stop := context.WithCancel(ctx)
	defer stop()
	sampled := make(chan error, 1)
	go func() {
		for i := 0; sampling.Err() == nil; i++ {
			if err := saveProfile(ctx, "profile?seconds=10", filepath.Join(b.profiles, fmt.Sprintf("%s-%03d.cpu", name, i))); err != nil {
				sampled <- err
				return
			}
		}
		sampled <- nil
	}()
	s, err := play()
	stop()
	if err := errors.Join(err, <-sampled); err != nil {
		return nil, err
	}
	return s, saveProfile(ctx, "heap?gc=1", filepath.Join(b.profiles, name+".heap"))
}

// saveProfile writes a profile of the operator into a file.
func saveProfile(ctx context.Context, query, file string) error {
	body, err := get(ctx, "http://127.0.0.1:"+profilePort+"/debug/pprof/"+query)
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

// get returns a page of the operator, which is to be closed.
func get(ctx context.Context, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		said, err := io.ReadAll(response.Body)
		return nil, errors.Join(fmt.Errorf("%s: %s: %s", url, response.Status, said), err)
	}
	return response.Body, nil
}
