package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

// profilePort serves the profiles of the operator.
const profilePort = "18081"

// profiled plays a stage and writes profiles meanwhile: of the processor in files of ten seconds, which `go tool pprof` reads together, of
// the operator and of the API server, and of the heap of the operator at its end. Without a folder for them it only plays.
func (b *bench) profiled(ctx context.Context, name string, play func() (*stage, error)) (*stage, error) {
	if b.profiles == "" {
		return play()
	}
	if err := os.MkdirAll(b.profiles, 0o755); err != nil {
		return nil, err
	}
	sampling, stop := context.WithCancel(ctx)
	defer stop()
	var wait sync.WaitGroup
	errs := make([]error, 2)
	series := func(err *error, kind string, save func(file string) error) {
		wait.Go(func() {
			for i := 0; *err == nil && sampling.Err() == nil; i++ {
				*err = save(filepath.Join(b.profiles, fmt.Sprintf("%s-%03d.%s", name, i, kind)))
			}
		})
	}
	series(&errs[0], "cpu", func(file string) error { return saveProfile(ctx, "profile?seconds=10", file) })
	series(&errs[1], "api", func(file string) error { return b.saveServerProfile(ctx, file) })
	s, err := play()
	stop()
	wait.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return s, saveProfile(ctx, "heap?gc=1", filepath.Join(b.profiles, name+".heap"))
}

// saveServerProfile writes ten seconds of the API server into a file.
func (b *bench) saveServerProfile(ctx context.Context, file string) error {
	raw, err := b.kube.CoreV1().RESTClient().Get().AbsPath("/debug/pprof/profile").Param("seconds", "10").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("profile of the API server: %w", err)
	}
	return os.WriteFile(file, raw, 0o644)
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
