package dashboards

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

// Recording is what a dashboard showed in a while, from which hack/docs/pictures.py draws it.
type Recording struct {
	// Source says where the data comes from, for the caption of the picture.
	Source string `json:"source"`
	// Values are those that were chosen for the variables.
	Values map[string]string `json:"values"`
	// Start and End are in seconds since 1970.
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	// Panels has the answers to the queries of each panel, by its ID and the RefID of the query.
	Panels map[int]map[string][]Line `json:"panels"`
}

// Line is one series of an answer.
type Line struct {
	Labels map[string]string `json:"labels"`
	// Points are times, in seconds since the start, and values. A query for a table or a number has one.
	Points []Point `json:"points"`
}

// Point is a time and a value.
type Point [2]float64

// MarshalJSON writes no more digits than a picture shows, and null for what is no number.
func (p Point) MarshalJSON() ([]byte, error) {
	value := "null"
	if !math.IsNaN(p[1]) && !math.IsInf(p[1], 0) {
		value = strconv.FormatFloat(p[1], 'g', 4, 64)
	}
	return fmt.Appendf(nil, "[%s,%s]", strconv.FormatFloat(p[0], 'f', -1, 64), value), nil
}

// AskRange answers a query with its series from start to end. With a step of 0 it is asked once, for the end.
type AskRange func(query string, start, end time.Time, step time.Duration) ([]Line, error)

// points are how many a panel shows.
const points = 120

// Record asks everything that a dashboard asks, with these values of its variables, of the time from start to end.
func (d Dashboard) Record(ask AskRange, values map[string]string, start, end time.Time) (Recording, error) {
	seconds := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
	r := Recording{Values: values, Start: seconds(start), End: seconds(end), Panels: map[int]map[string][]Line{}}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			step := (end.Sub(start) / points).Round(time.Second)
			if target.Instant {
				step = 0
			}
			lines, err := ask(Fill(target.Expr, values), start, end, step)
			if err != nil {
				return r, fmt.Errorf("dashboard %s: panel %s: %w", d.Title, panel.Title, err)
			}
			if r.Panels[panel.ID] == nil {
				r.Panels[panel.ID] = map[string][]Line{}
			}
			for _, line := range lines {
				for i := range line.Points {
					line.Points[i][0] -= r.Start
				}
			}
			r.Panels[panel.ID][target.RefID] = lines
		}
	}
	return r, nil
}

// Write writes a recording into a file.
func (r Recording) Write(file string) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}
