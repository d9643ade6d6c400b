package v1beta1

import (
	"errors"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagger.app/flagger/pkg/schedule"
)

// Parse reads the windows and freezes.
func (s *RolloutSchedule) Parse() (*schedule.Schedule, error) {
	return schedule.Parse(s.Windows, s.Freezes, s.TimeZone)
}

func validateSchedule(s *RolloutSchedule, path *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	_, err := s.Parse()
	var wrong *schedule.Error
	if errors.As(err, &wrong) {
		at := path.Child(wrong.Part)
		if wrong.Part != "timeZone" {
			at = at.Index(wrong.Index)
		}
		errs = append(errs, field.Invalid(at, wrong.Value, wrong.Problem))
	}
	if s.UnderWay != "" && s.UnderWay != UnderWayContinue && s.UnderWay != UnderWayHold {
		errs = append(errs, field.NotSupported(path.Child("underWay"), s.UnderWay, []string{UnderWayContinue, UnderWayHold}))
	}
	return errs
}
