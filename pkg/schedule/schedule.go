// Package schedule says when rollouts may begin: in windows of the week, and not on dates that are frozen. It is pure: the time is given,
// and a time zone is a table.
package schedule

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Schedule is when something is open. The zero value is always open.
type Schedule struct {
	zone    *time.Location
	windows []window
	freezes []freeze
}

// window is a time of day on some days of the week, in minutes. One that ends on the day after ends beyond 24 hours.
type window struct {
	days     [7]bool
	from, to int
}

// freeze is a time during which nothing is open, without its end.
type freeze struct{ from, to time.Time }

// Error is a part of a schedule that can't be read.
type Error struct {
	// Part is "windows", "freezes" or "timeZone", Index the place in a list.
	Part  string
	Index int
	// Value is what can't be read, and Problem says why and what to write.
	Value, Problem string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%q %s", e.Value, e.Problem) }

const minutesOfDay = 24 * 60

// Parse reads a schedule. A window is like "Mon-Thu 09:00-16:30", "Sat,Sun" for whole days or "22:00-04:00" for every day; without any it
// is always open but for the freezes. A freeze is one date, or the first and the last one, or two times, like "2026-12-19/2027-01-03" or
// "2026-12-19T18:00/2027-01-04T08:00". The zone is the name of one in the IANA database, by default UTC. The errors are of type *Error.
func Parse(windows, freezes []string, zone string) (*Schedule, error) {
	s := &Schedule{zone: time.UTC}
	if zone != "" {
		location, err := time.LoadLocation(zone)
		if err != nil || zone == "Local" {
			return nil, &Error{Part: "timeZone", Value: zone, Problem: "is no time zone: write one of the IANA database, for example Europe/Berlin"}
		}
		s.zone = location
	}
	for i, text := range windows {
		w, problem := parseWindow(text)
		if problem != "" {
			return nil, &Error{Part: "windows", Index: i, Value: text, Problem: problem}
		}
		s.windows = append(s.windows, w)
	}
	for i, text := range freezes {
		f, problem := s.parseFreeze(text)
		if problem != "" {
			return nil, &Error{Part: "freezes", Index: i, Value: text, Problem: problem}
		}
		s.freezes = append(s.freezes, f)
	}
	return s, nil
}

func parseWindow(text string) (w window, problem string) {
	days, times, both := strings.Cut(strings.TrimSpace(text), " ")
	if !both && strings.Contains(days, ":") {
		days, times = "", days
	}
	if days == "" {
		days = "Mon-Sun"
	}
	for _, part := range strings.Split(days, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := weekday(first), weekday(last)
		if from < 0 || to < 0 {
			return w, "is no window: write days and times, for example Mon-Thu 09:00-16:30, with days Mon, Tue, Wed, Thu, Fri, Sat and Sun"
		}
		// A range may go over the end of the week.
		for d := from; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == to {
				break
			}
		}
	}
	w.to = minutesOfDay
	if times = strings.TrimSpace(times); times == "" {
		return w, ""
	}
	match := regexp.MustCompile(`^(\d\d):(\d\d)-(\d\d):(\d\d)$`).FindStringSubmatch(times)
	if match == nil {
		return w, "has no times that can be read: write them with two digits each, for example 09:00-16:30"
	}
	from, to := minutes(match[1], match[2]), minutes(match[3], match[4])
	if from < 0 || to < 0 || from == minutesOfDay {
		return w, "has a time that no day has: they go from 00:00 to 24:00"
	}
	if from == to {
		return w, "is never open: its times are the same; leave them out for the whole day"
	}
	if to < from {
		to += minutesOfDay
	}
	w.from, w.to = from, to
	return w, ""
}

// weekday is the day of a name in the order of time.Weekday, and -1 if there is none.
func weekday(name string) int {
	return slices.Index([]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}, name)
}

// minutes of a time of day, -1 if there is none such.
func minutes(hour, minute string) int {
	h, m := int(hour[0]-'0')*10+int(hour[1]-'0'), int(minute[0]-'0')*10+int(minute[1]-'0')
	if m > 59 || h*60+m > minutesOfDay {
		return -1
	}
	return h*60 + m
}

func (s *Schedule) parseFreeze(text string) (f freeze, problem string) {
	first, last, isRange := strings.Cut(strings.TrimSpace(text), "/")
	if !isRange {
		last = first
	}
	from, _, ok := s.instant(first)
	_, to, okToo := s.instant(last)
	switch {
	case !ok || !okToo || !isRange && strings.Contains(first, "T"):
		return f, "is no freeze: write dates or times, for example 2026-12-24, 2026-12-19/2027-01-03 or 2026-12-19T18:00/2027-01-04T08:00"
	case !from.Before(to):
		return f, "ends before it begins"
	}
	return freeze{from, to}, ""
}

// instant reads a time, or a date: then it is the beginning of that day, and of the next one.
func (s *Schedule) instant(text string) (from, to time.Time, ok bool) {
	if t, err := time.ParseInLocation("2006-01-02T15:04", text, s.zone); err == nil {
		return t, t, true
	}
	t, err := time.ParseInLocation(time.DateOnly, text, s.zone)
	return t, time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, s.zone), err == nil
}

// Open is whether it is open.
func (s *Schedule) Open(now time.Time) bool {
	return s.frozenUntil(now).IsZero() && (len(s.windows) == 0 || s.inWindow(now))
}

func (s *Schedule) inWindow(now time.Time) bool {
	// One that began on the day before may last beyond midnight.
	return s.each(now, -1, 0, func(from, to time.Time) bool { return !now.Before(from) && now.Before(to) })
}

// each goes through the windows that begin on the days around an instant, until one is as wanted.
func (s *Schedule) each(now time.Time, first, last int, wanted func(from, to time.Time) bool) bool {
	local := now.In(s.location())
	for day := first; day <= last; day++ {
		// By the calendar: days on which clocks are changed have another number of hours.
		at := func(minutes int) time.Time {
			return time.Date(local.Year(), local.Month(), local.Day()+day, 0, minutes, 0, 0, s.location())
		}
		weekday := time.Date(local.Year(), local.Month(), local.Day()+day, 12, 0, 0, 0, s.location()).Weekday()
		for _, w := range s.windows {
			if w.days[weekday] && wanted(at(w.from), at(w.to)) {
				return true
			}
		}
	}
	return false
}

func (s *Schedule) location() *time.Location {
	if s.zone == nil {
		return time.UTC
	}
	return s.zone
}

// frozenUntil is the end of a freeze, zero if there is none at this instant.
func (s *Schedule) frozenUntil(now time.Time) (until time.Time) {
	for _, f := range s.freezes {
		if !now.Before(f.from) && now.Before(f.to) && f.to.After(until) {
			until = f.to
		}
	}
	return until
}

// Opens is the first instant from now on at which it is open.
func (s *Schedule) Opens(now time.Time) time.Time {
	// Each turn passes a freeze, or comes to the beginning of a window, so this ends.
	for {
		if until := s.frozenUntil(now); !until.IsZero() {
			now = until
			continue
		}
		if len(s.windows) == 0 || s.inWindow(now) {
			return now.In(s.location())
		}
		var next time.Time
		s.each(now, 0, 8, func(from, _ time.Time) bool {
			if from.After(now) && (next.IsZero() || from.Before(next)) {
				next = from
			}
			return false
		})
		now = next
	}
}

// horizon is for how long several schedules are looked through for a common opening: the longest freeze that anybody should want.
const horizon = 2 * 366 * 24 * time.Hour

// Opens is the first instant from now on at which all of some schedules are open, zero if there is none in two years.
func Opens(now time.Time, all ...*Schedule) time.Time {
	for end := now.Add(horizon); now.Before(end); {
		next := now
		for _, s := range all {
			if opens := s.Opens(next); opens.After(next) {
				next = opens
			}
		}
		if next.Equal(now) {
			return next
		}
		now = next
	}
	return time.Time{}
}
