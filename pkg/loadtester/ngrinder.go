package loadtester

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"flagger.app/flagger/pkg/hook"
)

// ngrinder is a test of nGrinder, which is a clone of one that is there.
type ngrinder struct {
	*service
	clone    int
	interval time.Duration
}

func prepareNGrinder(t *Tester, p hook.Payload) (job, error) {
	if err := required(p, "server", "clone", "username", "passwd"); err != nil {
		return job{}, err
	}
	password, err := base64.StdEncoding.DecodeString(strings.TrimSpace(p.Metadata["passwd"]))
	if err != nil {
		return job{}, errors.New("metadata.passwd is not base64")
	}
	n := &ngrinder{}
	if n.clone, err = strconv.Atoi(p.Metadata["clone"]); err != nil {
		return job{}, fmt.Errorf("metadata.clone must be the number of a test, and not %q", p.Metadata["clone"])
	}
	if n.interval, err = interval(p.Metadata["pollInterval"]); err != nil {
		return job{}, err
	}
	n.service, err = t.serviceOf("ngrinder", p, func(r *http.Request) error {
		r.SetBasicAuth(p.Metadata["username"], string(password))
		return nil
	}, string(password))
	if err != nil {
		return job{}, err
	}
	return job{text: fmt.Sprintf("ngrinder test %d on %s", n.clone, n.base.Redacted()), do: n.run, service: true}, nil
}

// interval reads a duration, or a number of seconds.
func interval(text string) (time.Duration, error) {
	if text == "" {
		return time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if n, numeric := strconv.Atoi(text); numeric == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < time.Second || d > time.Hour {
		return 0, fmt.Errorf("metadata.pollInterval must be from 1s to 1h, as in 10s, and not %q", text)
	}
	return d, nil
}

// run starts a test and waits for its end. A test that takes too long is stopped.
func (n *ngrinder) run(ctx context.Context, log *zap.Logger) (string, <-chan struct{}, error) {
	return "", done(), n.test(ctx, log)
}

// trouble is how nGrinder says no, with status 200.
type trouble struct {
	Success *bool  `json:"success"`
	Message string `json:"message"`
}

func (t trouble) err() error {
	if t.Success == nil || *t.Success {
		return nil
	}
	return fmt.Errorf("ngrinder refused: %s", cmp.Or(t.Message, "success is false"))
}

func (n *ngrinder) test(ctx context.Context, log *zap.Logger) error {
	id, err := n.start(ctx)
	if err != nil {
		return err
	}
	log.Info("ngrinder test started", zap.String("test", id))
	err = n.poll(ctx, n.interval, func(ctx context.Context) (bool, error) {
		var answer struct {
			trouble
			Status []struct {
				ID string `json:"status_id"`
			} `json:"status"`
		}
		if err := n.send(ctx, http.MethodGet, id, "status", &answer); err != nil {
			return false, err
		}
		if err := answer.err(); err != nil {
			return true, err
		}
		if len(answer.Status) == 0 {
			return false, nil
		}
		switch status := answer.Status[0].ID; status {
		case "FINISHED":
			return true, nil
		case "STOP_BY_ERROR", "CANCELED", "UNKNOWN":
			return true, fmt.Errorf("ngrinder test %s ended as %s", id, status)
		default:
			return false, nil
		}
	})
	if ctx.Err() != nil {
		// The context has ended already, so the last call needs one of its own.
		if stop := n.send(context.WithoutCancel(ctx), http.MethodPut, id, "", nil); stop != nil {
			return errors.Join(err, fmt.Errorf("ngrinder test %s could not be stopped: %w", id, stop))
		}
	}
	return err
}

// start clones the test and starts the clone, once.
func (n *ngrinder) start(ctx context.Context) (string, error) {
	address := n.base.JoinPath("perftest/api", strconv.Itoa(n.clone), "clone_and_start").String()
	request, err := http.NewRequest(http.MethodPost, address, once{strings.NewReader("{}")})
	if err != nil {
		return "", err
	}
	request.ContentLength = 2
	request.Header.Set("Content-Type", "application/json")
	var answer struct {
		trouble
		ID json.Number `json:"id"`
	}
	if err := n.call(ctx, request, &answer); err != nil {
		return "", err
	}
	if err := answer.err(); err != nil {
		return "", err
	}
	if answer.ID == "" {
		return "", errors.New("ngrinder did not say which test it started")
	}
	return answer.ID.String(), nil
}

// send calls the API of a test: its status, or, without a word, the action to stop it.
func (n *ngrinder) send(ctx context.Context, method, id, word string, into any) error {
	address := n.base.JoinPath("perftest/api", id, word)
	if method == http.MethodPut {
		address.RawQuery = "action=stop"
	}
	request, err := http.NewRequest(method, strings.TrimSuffix(address.String(), "/"), nil)
	if err != nil {
		return err
	}
	return n.call(ctx, request, into)
}
