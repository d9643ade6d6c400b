package httpapi

import (
	"encoding/json"
	"fmt"
	"strconv"

	"flagger.app/flagger/pkg/metrics/provider"
)

// Number is a value in JSON that may be a number, a number in quotation marks, or null.
type Number struct{ value *float64 }

// UnmarshalJSON fails for anything else.
func (n *Number) UnmarshalJSON(data []byte) error {
	text := string(data)
	if text == "null" {
		return nil
	}
	if err := json.Unmarshal(data, &text); err != nil {
		text = string(data)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("%.40q is not a number", text)
	}
	n.value = &value
	return nil
}

// Value is the number. Null, NaN and infinity are provider.ErrNoValues.
func (n Number) Value() (float64, error) {
	if n.value == nil {
		return 0, provider.ErrNoValues
	}
	return provider.Finite(*n.value)
}
