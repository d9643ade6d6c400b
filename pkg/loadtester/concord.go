package loadtester

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"flagger.app/flagger/pkg/hook"
)

// argument begins the keys of the metadata that become arguments of the process.
const argument = "arguments."

// concord is a process of Concord, a workflow server.
type concord struct {
	*service
	form              [][2]string
	interval, timeout time.Duration
}

func prepareConcord(t *Tester, p hook.Payload) (job, error) {
	if err := required(p, "server", "org", "project", "repo", "entrypoint", "apiKeyPath", "endpoint"); err != nil {
		return job{}, err
	}
	raw, err := os.ReadFile(p.Metadata["apiKeyPath"])
	if err != nil {
		return job{}, fmt.Errorf("metadata.apiKeyPath: %w", err)
	}
	key := strings.TrimSpace(string(raw))
	c := &concord{}
	c.service, err = t.serviceOf("concord", p, func(r *http.Request) error {
		r.Header.Set("Authorization", key)
		return nil
	}, key)
	if err != nil {
		return job{}, err
	}
	if c.interval, err = seconds(p, "pollInterval", 5); err != nil {
		return job{}, err
	}
	if c.timeout, err = seconds(p, "pollTimeout", 30); err != nil {
		return job{}, err
	}
	if err := c.fill(p); err != nil {
		return job{}, err
	}
	var fields []string
	for _, field := range c.form {
		fields = append(fields, field[0]+"="+field[1])
	}
	return job{text: "concord " + strings.Join(fields, " "), do: c.run, service: true}, nil
}

// seconds reads a number of seconds.
func seconds(p hook.Payload, key string, unset int) (time.Duration, error) {
	n, text := unset, p.Metadata[key]
	if text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			return 0, fmt.Errorf("metadata.%s must be a number of seconds, at least 1, and not %q", key, text)
		}
	}
	return time.Duration(n) * time.Second, nil
}

// fill makes the form that starts a process.
func (c *concord) fill(p hook.Payload) error {
	for _, field := range [][2]string{{"org", "org"}, {"project", "project"}, {"repo", "repo"}, {"entryPoint", "entrypoint"}, {argument + "endpoint", "endpoint"}} {
		c.form = append(c.form, [2]string{field[0], p.Metadata[field[1]]})
	}
	var more []string
	for name := range p.Metadata {
		if strings.HasPrefix(name, argument) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	for _, name := range more {
		if name == argument+"endpoint" {
			return errors.New("metadata.arguments.endpoint is what metadata.endpoint sets: remove it")
		}
		c.form = append(c.form, [2]string{name, p.Metadata[name]})
	}
	return nil
}

// run starts a process and waits for its end.
func (c *concord) run(ctx context.Context, log *zap.Logger) (string, <-chan struct{}, error) {
	return "", done(), c.process(ctx, log)
}

func (c *concord) process(ctx context.Context, log *zap.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("the process did not end within %s, the limit that metadata.pollTimeout sets", c.timeout))
	defer cancel()
	id, err := c.start(ctx)
	if err != nil {
		return err
	}
	log.Info("concord process started", zap.String("process", id))
	status := ""
	err = c.poll(ctx, c.interval, func(ctx context.Context) (bool, error) {
		var answer struct{ Status string }
		request, err := http.NewRequest(http.MethodGet, c.base.JoinPath("api/v1/process", id).String(), nil)
		if err != nil {
			return true, err
		}
		if err := c.call(ctx, request, &answer); err != nil {
			return false, err
		}
		status = answer.Status
		switch status {
		case "FINISHED":
			return true, nil
		case "FAILED", "CANCELLED", "TIMED_OUT":
			return true, fmt.Errorf("concord process %s ended as %s", id, status)
		default:
			return false, nil
		}
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("concord process %s, last seen as %q: %w: %w", id, status, cause, err)
	}
	return err
}

// start starts the process, once.
func (c *concord) start(ctx context.Context) (string, error) {
	body := &bytes.Buffer{}
	form := multipart.NewWriter(body)
	for _, field := range c.form {
		if err := form.WriteField(field[0], field[1]); err != nil {
			return "", err
		}
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	length := int64(body.Len())
	request, err := http.NewRequest(http.MethodPost, c.base.JoinPath("api/v1/process").String(), once{body})
	if err != nil {
		return "", err
	}
	request.ContentLength = length
	request.Header.Set("Content-Type", form.FormDataContentType())
	var answer struct {
		InstanceID string `json:"instanceId"`
		OK         bool   `json:"ok"`
	}
	if err := c.call(ctx, request, &answer); err != nil {
		return "", err
	}
	if !answer.OK || answer.InstanceID == "" {
		return "", fmt.Errorf("concord at %s did not start the process", c.base.Host)
	}
	return answer.InstanceID, nil
}

// done is what nothing is left of to wait for.
func done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
