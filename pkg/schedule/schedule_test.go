package schedule

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	instant, err := time.Parse("2006-01-02 15:04 -0700", text)
	if err != nil {
		t.Fatal(err)
	}
	return instant
}

func TestOpen(t *testing.T) {
	berlin := "Europe/Berlin"
	for name, c := range map[string]struct {
		windows, freezes string
		zone, now        string
		// opens is empty if it is open.
		opens string
	}{
		"always":                     {"", "", "", "2026-11-29 12:00 +0000", ""},
		"in a window":                {"Mon-Fri 09:00-17:00", "", "", "2026-11-30 09:00 +0000", ""},
		"at its end":                 {"Mon-Fri 09:00-17:00", "", "", "2026-11-30 17:00 +0000", "2026-12-01 09:00 +0000"},
		"before it":                  {"Mon-Fri 09:00-17:00", "", "", "2026-11-30 08:59 +0000", "2026-11-30 09:00 +0000"},
		"on a weekend":               {"Mon-Fri 09:00-17:00", "", "", "2026-11-28 12:00 +0000", "2026-11-30 09:00 +0000"},
		"once a week":                {"Mon 09:00-10:00", "", "", "2026-11-30 10:00 +0000", "2026-12-07 09:00 +0000"},
		"whole days":                 {"Sat,Sun", "", "", "2026-11-27 23:00 +0000", "2026-11-28 00:00 +0000"},
		"until midnight":             {"Sun 20:00-24:00", "", "", "2026-11-29 23:59 +0000", ""},
		"over midnight":              {"Fri 22:00-04:00", "", "", "2026-11-28 03:59 +0000", ""},
		"but not before it began":    {"Fri 22:00-04:00", "", "", "2026-11-27 03:00 +0000", "2026-11-27 22:00 +0000"},
		"over the end of the week":   {"Sat-Mon 10:00-11:00", "", "", "2026-11-29 10:30 +0000", ""},
		"every day":                  {"10:00-11:00", "", "", "2026-11-29 11:30 +0000", "2026-11-30 10:00 +0000"},
		"the next of several":        {"Fri 09:00-12:00|Mon-Thu 09:00-16:00", "", "", "2026-11-27 12:00 +0000", "2026-11-30 09:00 +0000"},
		"in another zone":            {"Mon-Fri 09:00-17:00", "", berlin, "2026-11-30 08:00 +0000", ""},
		"in summer":                  {"Mon-Fri 09:00-17:00", "", berlin, "2026-07-06 06:59 +0000", "2026-07-06 07:00 +0000"},
		"when clocks go forward":     {"Sun 02:30-05:00", "", berlin, "2026-03-29 00:00 +0000", "2026-03-29 01:30 +0000"},
		"when they go back":          {"Sun 01:00-04:00", "", berlin, "2026-10-25 01:30 +0000", ""},
		"and the end follows":        {"Sun 01:00-04:00", "", berlin, "2026-10-25 03:00 +0000", "2026-11-01 00:00 +0000"},
		"on a frozen date":           {"", "2026-12-24", "", "2026-12-24 23:59 +0000", "2026-12-25 00:00 +0000"},
		"between frozen dates":       {"", "2026-12-19/2027-01-03", berlin, "2026-12-18 23:00 +0000", "2027-01-03 23:00 +0000"},
		"before them":                {"", "2026-12-19/2027-01-03", berlin, "2026-12-18 22:59 +0000", ""},
		"between frozen times":       {"", "2026-12-18T18:00/2026-12-19T08:00", "", "2026-12-18 18:00 +0000", "2026-12-19 08:00 +0000"},
		"after a freeze in a window": {"Mon-Fri 09:00-17:00", "2026-12-19/2027-01-03|2027-01-04T00:00/2027-01-04T12:00", "", "2026-12-25 10:00 +0000", "2027-01-04 12:00 +0000"},
		"freezes that overlap":       {"", "2026-12-19/2026-12-26|2026-12-24/2027-01-03", "", "2026-12-20 00:00 +0000", "2027-01-04 00:00 +0000"},
		"a freeze over every window": {"Mon 09:00-10:00", "2026-11-30|2026-12-07", "", "2026-11-29 12:00 +0000", "2026-12-14 09:00 +0000"},
	} {
		t.Run(name, func(t *testing.T) {
			split := func(text string) []string {
				return strings.FieldsFunc(text, func(r rune) bool { return r == '|' })
			}
			s, err := Parse(split(c.windows), split(c.freezes), c.zone)
			if err != nil {
				t.Fatal(err)
			}
			now, want := at(t, c.now), at(t, c.now)
			if c.opens != "" {
				want = at(t, c.opens)
			}
			if got := s.Open(now); got != (c.opens == "") {
				t.Errorf("open: %t", got)
			}
			got := s.Opens(now)
			if !got.Equal(want) || !s.Open(got) {
				t.Errorf("opens at %s, want %s", got, want)
			}
			if c.opens != "" && s.Open(got.Add(-time.Second)) {
				t.Errorf("was open before %s", got)
			}
		})
	}
}

func TestErrorsNameThePart(t *testing.T) {
	for text, want := range map[string]string{
		"windows Monday 09:00-17:00":           "is no window",
		"windows Mon-Fri 9-17":                 "has no times that can be read",
		"windows Mon-Fri 09:00-25:00":          "has a time that no day has",
		"windows 24:00-04:00":                  "has a time that no day has",
		"windows Mon 09:61-10:00":              "has a time that no day has",
		"windows Mon 09:00-09:00":              "is never open",
		"windows ":                             "",
		"windows Mon- 09:00-10:00":             "is no window",
		"freezes tomorrow":                     "is no freeze",
		"freezes 2026-12-24T08:00":             "is no freeze",
		"freezes 2027-01-03/2026-12-19":        "ends before it begins",
		"freezes 2026-02-30":                   "is no freeze",
		"timeZone Berlin":                      "is no time zone",
		"timeZone Local":                       "is no time zone",
		"timeZone America/Argentina/San_Luis":  "",
		"freezes 2026-12-19T18:00/2026-12-20":  "",
		"windows Mon,Wed-Thu,Sun 00:00-24:00":  "",
		"freezes 2026-12-19/2026-12-19":        "",
		"windows Mon 09:00-10:00 and so on":    "has no times that can be read",
		"windows Mon-Fri  09:00-10:00":         "",
		"timeZone ../../etc/passwd":            "is no time zone",
		"freezes 2026-12-19/2026-12-20/tomorr": "is no freeze",
	} {
		part, value, _ := strings.Cut(text, " ")
		values := map[string][]string{part: {value}}
		zone := ""
		if part == "timeZone" {
			zone = value
		}
		_, err := Parse(values["windows"], values["freezes"], zone)
		var wrong *Error
		switch {
		case want == "":
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
		case !errors.As(err, &wrong) || wrong.Part != part || !strings.Contains(err.Error(), want) || wrong.Value != value:
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestOpensForAll(t *testing.T) {
	parse := func(window string) *Schedule {
		s, err := Parse([]string{window}, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	now := at(t, "2026-11-29 12:00 +0000")
	if got := Opens(now, parse("Mon-Fri 09:00-17:00"), parse("Wed 16:00-20:00")); !got.Equal(at(t, "2026-12-02 16:00 +0000")) {
		t.Errorf("both open at %s", got)
	}
	if got := Opens(now, parse("Mon 09:00-17:00"), parse("Tue 09:00-17:00")); !got.IsZero() {
		t.Errorf("two that never are open together are at %s", got)
	}
	if got := Opens(now, &Schedule{}); !got.Equal(now) {
		t.Errorf("one that says nothing opens at %s", got)
	}
}
