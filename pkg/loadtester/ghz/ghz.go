// Package ghz is the command ghz on its own library, with the flags that load tests use and the same report, so that commands of
// today run where no such program is installed.
package ghz

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/bojand/ghz/printer"
	"github.com/bojand/ghz/runner"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// form is how the value of a flag becomes one of the configuration, which is JSON under the same name. Without one it is a text, as
// durations are.
type form int

const (
	// plain is a number or a truth value.
	plain form = iota + 1
	// object is JSON.
	object
	// list is separated by commas.
	list
)

// forms are the flags that don't have the form of their kind.
func forms() map[string]form {
	return map[string]form{"data": object, "metadata": object, "tags": object, "reflect-metadata": object, "import-paths": list}
}

const (
	flagConfig = "config"
	// flagQueries is how versions before 0.40, and documentation to this day, call the rate.
	flagQueries = "qps"
	flagRate    = "rps"
	flagBinary  = "binary"
)

func flags(output io.Writer) *pflag.FlagSet {
	fs := pflag.NewFlagSet("ghz", pflag.ContinueOnError)
	fs.SetOutput(output)
	fs.SortFlags = false
	fs.Usage = func() {
		_, _ = fmt.Fprintf(output, "Usage: ghz [flags] host:port\n%s", fs.FlagUsages())
	}
	fs.String(flagConfig, "", "File with the configuration, JSON or TOML. Flags win over it.")
	fs.String("proto", "", "The .proto file. Without it and --protoset the server is asked by reflection.")
	fs.String("protoset", "", "The compiled .proto files.")
	fs.String("call", "", "Method, as in package.Service/Method.")
	fs.StringP("import-paths", "i", "", "Comma-separated list of folders of .proto files.")
	fs.String("cacert", "", "File with the trusted certificates.")
	fs.String("cert", "", "File with the certificate of the client.")
	fs.String("key", "", "File with its key.")
	fs.String("cname", "", "Name that the certificate of the server is checked against.")
	fs.Bool("skipTLS", false, "Accept any certificate.")
	fs.Bool("insecure", false, "Use no TLS.")
	fs.String("authority", "", "Header :authority, with --insecure.")
	fs.Bool("async", false, "Do not wait for answers before the next call.")
	fs.UintP(flagRate, "r", 0, "Calls per second. 0 means no limit.")
	fs.UintP(flagQueries, "q", 0, "The same.")
	fs.String("load-schedule", "const", "How the rate changes: const, step or line.")
	fs.Uint("load-start", 0, "First rate.")
	fs.Int("load-step", 0, "Change of the rate.")
	fs.Uint("load-end", 0, "Last rate.")
	fs.Duration("load-step-duration", 0, "Time of a step of the rate.")
	fs.Duration("load-max-duration", 0, "Time in which the rate changes.")
	fs.UintP("concurrency", "c", 50, "Number of calls at the same time.")
	fs.String("concurrency-schedule", "const", "How that changes: const, step or line.")
	fs.Uint("concurrency-start", 0, "First number.")
	fs.Uint("concurrency-end", 0, "Last number.")
	fs.Int("concurrency-step", 1, "Change of the number.")
	fs.Duration("concurrency-step-duration", 0, "Time of a step of the number.")
	fs.Duration("concurrency-max-duration", 0, "Time in which the number changes.")
	fs.UintP("total", "n", 200, "Number of calls. Ignored with -z.")
	moreFlags(fs)
	return fs
}

func moreFlags(fs *pflag.FlagSet) {
	fs.DurationP("timeout", "t", 20*time.Second, "Time that a call may take. 0 means no limit.")
	fs.DurationP("duration", "z", 0, "Time to make calls, as in 1m.")
	fs.DurationP("max-duration", "x", 0, "Time after which -n is given up.")
	fs.String("duration-stop", "close", "What becomes of calls at the end: close, wait or ignore.")
	fs.StringP("data", "d", "", "Data of the call, JSON.")
	fs.StringP("data-file", "D", "", "File with the data.")
	fs.Bool(flagBinary, false, "Read the data in the format of protocol buffers from standard input.")
	fs.StringP("binary-file", "B", "", "File with the data in the format of protocol buffers.")
	fs.StringP("metadata", "m", "", "Metadata of the call, JSON.")
	fs.StringP("metadata-file", "M", "", "File with the metadata.")
	fs.Duration("stream-interval", 0, "Time between the messages of a stream.")
	fs.Duration("stream-call-duration", 0, "Time after which a stream is closed.")
	fs.Uint("stream-call-count", 0, "Messages after which a stream is closed.")
	fs.Bool("stream-dynamic-messages", false, "Render the data of each message of a stream.")
	fs.String("reflect-metadata", "", "Metadata of the calls of reflection, JSON.")
	fs.StringP("output", "o", "", "File of the report. Default: standard output.")
	fs.StringP("format", "O", "summary", "Format: summary, csv, json, pretty, html, influx-summary, influx-details, prometheus.")
	fs.Uint("skipFirst", 0, "Calls that the report leaves out.")
	fs.Bool("count-errors", false, "Count errors in the latencies.")
	fs.Uint("connections", 1, "Number of connections.")
	fs.Duration("connect-timeout", 10*time.Second, "Time to connect.")
	fs.Duration("keepalive", 0, "Time of a keepalive.")
	fs.String("name", "", "Name of the test.")
	fs.String("tags", "", "Tags of the test, JSON.")
	fs.Uint("cpus", 0, "Number of processors. Default: all.")
	fs.BoolP("enable-compression", "e", false, "Compress calls.")
	fs.String("lb-strategy", "", "Strategy of balancing, with a host like dns:///.")
	fs.String("max-recv-message-size", "", "Largest message that is taken.")
	fs.String("max-send-message-size", "", "Largest message that is sent.")
	fs.Bool("disable-template-functions", false, "Call no functions in the data.")
	fs.Bool("disable-template-data", false, "Render no templates in the data.")
	fs.String("debug", "", "File for a log of the calls.")
}

// Main runs the command, and returns its exit code. It ends with the process only, as its library does.
func Main(_ context.Context, args []string, stdout, stderr io.Writer) int {
	err := run(args, os.Stdin, stdout, stderr)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	_, _ = fmt.Fprintln(stderr, "ghz:", err)
	return 1
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	fs := flags(stderr)
	if err := fs.Parse(args); err != nil {
		return err
	}
	config, err := configOf(fs)
	if err != nil {
		return err
	}
	config.Host = cmp.Or(fs.Arg(0), config.Host)
	if binary, _ := fs.GetBool(flagBinary); binary {
		if config.BinData, err = io.ReadAll(stdin); err != nil {
			return fmt.Errorf("--%s: %w", flagBinary, err)
		}
	}
	options, err := optionsOf(config)
	if err != nil {
		return err
	}
	if config.Debug != "" {
		log, err := debugLog(config.Debug)
		if err != nil {
			return fmt.Errorf("--debug: %w", err)
		}
		// What can't be written there is no failure of the test.
		defer func() { _ = log.Sync() }()
		options = append(options, runner.WithLogger(log))
	}
	report, err := runner.Run(config.Call, config.Host, options...)
	if err != nil {
		return err
	}
	out := &bytes.Buffer{}
	if err := (&printer.ReportPrinter{Out: out, Report: report}).Print(config.Format); err != nil {
		return err
	}
	if config.Output != "" {
		return os.WriteFile(config.Output, out.Bytes(), 0o600)
	}
	_, err = stdout.Write(out.Bytes())
	return err
}

// configOf is what the file and the flags say.
func configOf(fs *pflag.FlagSet) (*runner.Config, error) {
	config := &runner.Config{}
	file, _ := fs.GetString(flagConfig)
	if file != "" {
		if err := runner.LoadConfig(file, config); err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
	}
	values := map[string]json.RawMessage{}
	var failed error
	fs.VisitAll(func(f *pflag.Flag) {
		// What a file leaves open has its defaults already.
		if f.Name == flagConfig || f.Name == flagBinary || file != "" && !f.Changed || f.Value.String() == "" {
			return
		}
		name := f.Name
		if name == flagQueries {
			if name = flagRate; !f.Changed {
				return
			}
		}
		value, err := valueOf(f)
		if err != nil && failed == nil {
			failed = fmt.Errorf("--%s: %w", f.Name, err)
		}
		values[name] = value
	})
	if failed != nil {
		return nil, failed
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	return config, json.Unmarshal(raw, config)
}

// valueOf is the value of a flag in JSON.
func valueOf(f *pflag.Flag) (json.RawMessage, error) {
	value := f.Value.String()
	kind, special := forms()[f.Name]
	if !special && (f.Value.Type() == "bool" || strings.Contains(f.Value.Type(), "int")) {
		kind = plain
	}
	switch kind {
	case plain:
		return json.RawMessage(value), nil
	case object:
		if value == "@" {
			return json.Marshal(value)
		}
		var any any
		if err := json.Unmarshal([]byte(value), &any); err != nil {
			return nil, fmt.Errorf("%q is not JSON: %w", value, err)
		}
		return json.RawMessage(value), nil
	case list:
		return json.Marshal(strings.Split(value, ","))
	default:
		return json.Marshal(value)
	}
}

// optionsOf is the configuration in the form that the library wants.
func optionsOf(config *runner.Config) ([]runner.Option, error) {
	if config.Call == "" {
		return nil, errors.New("--call is empty: set it to the method to call, as in grpc.health.v1.Health/Check")
	}
	if config.Z > 0 && config.X == 0 {
		config.N = math.MaxInt32
	}
	builtIn := knowsHealth(config)
	if builtIn {
		config.Proto = ""
	}
	options := []runner.Option{runner.WithConfig(config)}
	if builtIn {
		set, err := proto.Marshal(&descriptorpb.FileDescriptorSet{
			File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(healthpb.File_grpc_health_v1_health_proto)},
		})
		if err != nil {
			return nil, err
		}
		options = append(options, runner.WithProtosetBinary(set))
	}
	return options, nil
}

// debugLog writes all that the library has to tell to a file, as JSON.
func debugLog(path string) (*zap.SugaredLogger, error) {
	config := zap.NewProductionConfig()
	config.Level = zap.NewAtomicLevelAt(zap.DebugLevel)
	config.OutputPaths = []string{path}
	log, err := config.Build()
	if err != nil {
		return nil, err
	}
	return log.Sugar(), nil
}

// knowsHealth is whether the call is one of the health service of gRPC, without a description of it. Images of load testers have
// had that as /tmp/ghz/health.proto, and few servers have reflection.
func knowsHealth(config *runner.Config) bool {
	if !strings.HasPrefix(config.Call, "grpc.health.v1.Health") || config.Protoset != "" {
		return false
	}
	if config.Proto == "" {
		return true
	}
	_, err := os.Stat(config.Proto)
	return errors.Is(err, os.ErrNotExist)
}
