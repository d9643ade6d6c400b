// Record asks a Prometheus what dashboards of charts/grafana ask, and writes the answers into files, from which pictures are drawn.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"flagger.app/flagger/test/dashboards"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root := flag.String("root", ".", "folder of the repository")
	out := flag.String("out", "hack/docs/recordings", "folder for the recordings")
	source := flag.String("source", "", "what the data comes from, for the caption of the picture")
	server := flag.String("prometheus", "http://prometheus.monitoring:9090", "URL of the Prometheus")
	start := flag.Int64("start", 0, "when it begins, in seconds since 1970")
	end := flag.Int64("end", 0, "when it ends, in seconds since 1970")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: record [flags] DASHBOARD[:VARIABLE=VALUE,…] …")
		flag.PrintDefaults()
	}
	flag.Parse()
	all, err := dashboards.Read(*root)
	if err != nil {
		return err
	}
	p := prometheus{ctx, *server}
	from, to := time.Unix(*start, 0), time.Unix(*end, 0)
	for _, argument := range flag.Args() {
		name, choices, _ := strings.Cut(argument, ":")
		d, ok := all[name]
		if !ok {
			return fmt.Errorf("there is no dashboard %q in charts/grafana/dashboards", name)
		}
		wanted := map[string]string{}
		for choice := range strings.SplitSeq(choices, ",") {
			if variable, value, ok := strings.Cut(choice, "="); ok {
				wanted[variable] = value
			}
		}
		values, err := d.Choose(p.labels(to), wanted)
		if err != nil {
			return err
		}
		recording, err := d.Record(p.ask, values, from, to)
		if err != nil {
			return err
		}
		recording.Source = *source
		if err := recording.Write(filepath.Join(*out, name+".json")); err != nil {
			return err
		}
	}
	return nil
}

// prometheus is a server at an address.
type prometheus struct {
	ctx     context.Context
	address string
}

// labels answers with the labels of the series that there were at a time.
func (p prometheus) labels(at time.Time) dashboards.Ask {
	return func(query string) ([]map[string]string, error) {
		lines, err := p.ask(query, at, at, 0)
		var found []map[string]string
		for _, line := range lines {
			found = append(found, line.Labels)
		}
		return found, err
	}
}

// ask is a dashboards.AskRange.
func (p prometheus) ask(query string, start, end time.Time, step time.Duration) ([]dashboards.Line, error) {
	seconds := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	path, parameters := "query", url.Values{"query": {query}, "time": {seconds(end)}}
	if step > 0 {
		path = "query_range"
		parameters = url.Values{"query": {query}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {step.String()}}
	}
	request, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.address+"/api/v1/"+path+"?"+parameters.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  *sample
				Values []sample
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s: %s", query, answer.Error)
	}
	lines := []dashboards.Line{}
	for _, one := range answer.Data.Result {
		if one.Value != nil {
			one.Values = []sample{*one.Value}
		}
		line := dashboards.Line{Labels: one.Metric}
		for _, s := range one.Values {
			line.Points = append(line.Points, dashboards.Point(s))
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// sample is a time and a value, which Prometheus writes as a text.
type sample dashboards.Point

func (s *sample) UnmarshalJSON(raw []byte) error {
	var value string
	if err := json.Unmarshal(raw, &[]any{&s[0], &value}); err != nil {
		return err
	}
	var err error
	s[1], err = strconv.ParseFloat(value, 64)
	return err
}
