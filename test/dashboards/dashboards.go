// Package dashboards reads the dashboards of charts/grafana as Grafana does: it chooses the values of their variables, and puts them into
// the queries of their panels.
package dashboards

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Dashboard is what tests need of the JSON model of Grafana.
type Dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	Description   string `json:"description"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Panels []Panel `json:"panels"`
}

// Variable is one that the reader of a dashboard chooses.
type Variable struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	Definition string     `json:"definition"`
	Regex      string     `json:"regex"`
	AllValue   string     `json:"allValue"`
	Datasource Datasource `json:"datasource"`
}

// Datasource is what a query is sent to.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Panel shows the answers to some queries.
type Panel struct {
	ID         int        `json:"id"`
	Type       string     `json:"type"`
	Title      string     `json:"title"`
	Datasource Datasource `json:"datasource"`
	GridPos    struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []Target `json:"targets"`
}

// Target is one query.
type Target struct {
	RefID      string     `json:"refId"`
	Expr       string     `json:"expr"`
	Instant    bool       `json:"instant"`
	Datasource Datasource `json:"datasource"`
}

// Read returns the dashboards of the repository at root, by their names.
func Read(root string) (map[string]Dashboard, error) {
	files, err := filepath.Glob(filepath.Join(root, "charts/grafana/dashboards/*.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no dashboards in %s: %w", root, err)
	}
	all := map[string]Dashboard{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var d Dashboard
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = d
	}
	return all, nil
}

// Interval is the name of the variable that the reader does not choose: the window of rates. Default: 1m, which is what Grafana makes of it
// for scrapes that are 15 seconds apart.
const Interval = "__rate_interval"

// Fill puts values of variables into a query.
func Fill(query string, values map[string]string) string {
	return variable.ReplaceAllStringFunc(query, func(found string) string {
		name := strings.Trim(found, "${}")
		if value, ok := values[name]; ok {
			return value
		}
		if name == Interval {
			return "1m"
		}
		// It may be a group of label_replace.
		return found
	})
}

var variable = regexp.MustCompile(`\$\w+|\$\{\w+\}`)

// Ask answers a query with the labels of the series in the result.
type Ask func(query string) ([]map[string]string, error)

// Choose returns a value for each variable: what is wanted if it is among its options, else the first option.
func (d Dashboard) Choose(ask Ask, wanted map[string]string) (map[string]string, error) {
	values := map[string]string{}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		options, err := v.options(ask, values)
		if err != nil {
			return nil, fmt.Errorf("dashboard %s: variable %s: %w", d.Title, v.Name, err)
		}
		want, ok := wanted[v.Name]
		switch {
		case len(options) == 0, ok && !slices.Contains(options, want):
			return nil, fmt.Errorf("dashboard %s: the options of variable %s are %q, by %s", d.Title, v.Name, options, Fill(v.Definition, values))
		case !ok:
			want = options[0]
		}
		values[v.Name] = want
	}
	return values, nil
}

var (
	labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	queryResult = regexp.MustCompile(`^query_result\((.+)\)$`)
)

func (v Variable) options(ask Ask, values map[string]string) ([]string, error) {
	query, label := Fill(v.Definition, values), ""
	if found := labelValues.FindStringSubmatch(query); found != nil {
		query, label = fmt.Sprintf("group by (%s) (%s)", found[2], found[1]), found[2]
	} else if found := queryResult.FindStringSubmatch(query); found != nil {
		query = found[1]
	} else {
		return nil, fmt.Errorf("a query of another kind: %s", query)
	}
	series, err := ask(query)
	if err != nil {
		return nil, err
	}
	filter, err := regexp.Compile(strings.Trim(v.Regex, "/"))
	if err != nil {
		return nil, err
	}
	var options []string
	for _, labels := range series {
		text := labels[label]
		if label == "" {
			text = written(labels)
		}
		found := filter.FindStringSubmatch(text)
		switch {
		case text == "" || found == nil:
			continue
		case v.Regex != "":
			// The first group counts, or the whole.
			text = found[min(1, len(found)-1)]
		}
		options = append(options, text)
	}
	slices.Sort(options)
	return slices.Compact(options), nil
}

// written is a series as query_result has it.
func written(labels map[string]string) string {
	var pairs []string
	for name, value := range labels {
		pairs = append(pairs, fmt.Sprintf("%s=%q", name, value))
	}
	slices.Sort(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}
