package stackdriver

import (
	"errors"
	"fmt"
	"net/http"

	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// isMistake tells an error about the query: INVALID_ARGUMENT has status 400.
func isMistake(err error) bool {
	var status *outbound.StatusError
	return errors.As(err, &status) && status.Code == http.StatusBadRequest
}

func explain(err error) error {
	if isMistake(err) {
		return fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	}
	return err
}
