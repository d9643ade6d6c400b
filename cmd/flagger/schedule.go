package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	// The image has no time zones of its own.
	_ "time/tzdata"

	"flagger.app/flagger/pkg/controller"
	"flagger.app/flagger/pkg/schedule"
)

// scheduleOptions say when rollouts of all Canaries may begin.
type scheduleOptions struct {
	windows, freezes, zone string
	hold                   bool
}

func (o *scheduleOptions) bind(fs *flag.FlagSet) {
	fs.StringVar(&o.windows, "rollout-windows", "", "Windows of the week in which rollouts may begin, separated by semicolons, as in \"Mon-Thu 09:00-16:30; Fri 09:00-12:00\". Default: at any time.")
	fs.StringVar(&o.freezes, "rollout-freezes", "", "Dates or times between which no rollout begins, separated by semicolons, as in \"2026-12-19/2027-01-03; 2027-02-01T18:00/2027-02-02T08:00\".")
	fs.StringVar(&o.zone, "rollout-time-zone", "", "Time zone of -rollout-windows and -rollout-freezes as the IANA database names it, as in Europe/Berlin. Default UTC.")
	fs.BoolVar(&o.hold, "rollout-hold", false, "Rollouts under way take no step outside of -rollout-windows and within -rollout-freezes.")
}

// schedule is what the flags say.
func (o *scheduleOptions) schedule() (controller.Schedule, error) {
	windows, freezes := split(o.windows), split(o.freezes)
	s, err := schedule.Parse(windows, freezes, o.zone)
	var wrong *schedule.Error
	if errors.As(err, &wrong) {
		name := map[string]string{"windows": "-rollout-windows", "freezes": "-rollout-freezes", "timeZone": "-rollout-time-zone"}[wrong.Part]
		return controller.Schedule{}, fmt.Errorf("%s: %w", name, err)
	}
	if len(windows)+len(freezes) == 0 {
		return controller.Schedule{}, err
	}
	return controller.Schedule{Schedule: s, Holds: o.hold, By: "the flags -rollout-windows and -rollout-freezes"}, err
}

// split is a list that is separated by semicolons.
func split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ';' })
}
