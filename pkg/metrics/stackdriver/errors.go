package stackdriver

import (
	"errors"
	"fmt"
	"net/http"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
)

// isMistake tells an error about the query: INVALID_ARGUMENT has status 400.
func isMistake(err error) bool {
	var status *httpapi.StatusError
	return errors.As(err, &status) && status.Code == http.StatusBadRequest
}

func explain(err error) error {
	if isMistake(err) {
		return fmt.Errorf("%w: %w", provider.ErrInvalidQuery, err)
	}
	return err
}
