package splunk

import (
	"errors"
	"fmt"

	"github.com/gorilla/websocket"
	"github.com/signalfx/signalflow-client-go/v2/signalflow"
	"github.com/signalfx/signalflow-client-go/v2/signalflow/messages"
	"github.com/signalfx/signalfx-go/idtool"

	"flagger.app/flagger/pkg/metrics/provider"
)

// run is one run of a program, and what it returned so far.
type run struct {
	client  *Client
	conn    *websocket.Conn
	channel string
	series  map[idtool.ID]bool
	value   float64
	err     error
}

// execute sends the token and the program, and reads until the program has ended.
func (r *run) execute(program *signalflow.ExecuteRequest) error {
	for _, message := range []any{&signalflow.AuthRequest{Token: r.client.token}, program} {
		if err := r.conn.WriteJSON(message); err != nil {
			return r.client.http.Failed(err)
		}
	}
	for {
		kind, text, err := r.conn.ReadMessage()
		if err != nil {
			return r.client.http.Failed(err)
		}
		message, err := messages.ParseMessage(text, kind == websocket.TextMessage)
		if err != nil {
			return r.client.http.NotUnderstood(err)
		}
		if done, err := r.read(message); done || err != nil {
			return err
		}
	}
}

// read takes one message in, and tells whether it was the last.
func (r *run) read(message messages.Message) (done bool, err error) {
	switch m := message.(type) {
	case *messages.DataMessage:
		r.data(m)
	case *messages.EndOfChannelControlMessage:
		if len(r.series) > 1 {
			r.err = fmt.Errorf("%d time series, aggregate them with .sum() or the like: %w", len(r.series), provider.ErrMultipleValues)
		}
		return true, nil
	case *messages.ChannelAbortControlMessage:
		return false, r.client.http.Failed(errors.New("the service has stopped the program"))
	case *messages.ErrorMessage:
		failure := r.client.http.Failed(fmt.Errorf("%d %s: %s", m.Error, m.ErrorType, m.Message))
		if m.Channel() == r.channel {
			return false, fmt.Errorf("%w: %w", provider.ErrInvalidQuery, failure)
		}
		return false, failure
	}
	return false, nil
}

func (r *run) data(m *messages.DataMessage) {
	for _, payload := range m.Payloads {
		if number, ok := numberOf(payload); ok {
			r.series[payload.TSID] = true
			r.value, r.err = provider.Finite(number)
		}
	}
}

func numberOf(payload messages.DataPayload) (float64, bool) {
	switch value := payload.Value().(type) {
	case float64:
		return value, true
	case int64:
		return float64(value), true
	case int32:
		return float64(value), true
	default:
		return 0, false
	}
}
