package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"flagger.app/flagger/pkg/convert"
)

// convertCommand prints the Canaries that Rollouts, their first form, are equivalent to. It talks to no cluster. The result is the
// exit code: 1 for an input that can't be converted, 2 for flags that mean nothing.
func convertCommand(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("flagger convert", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("f", "", "File with Rollouts, and with the VirtualServices or Services that they name; - for standard input.")
	port := flags.Int("port", 0, "Port of the Services. Default: what the VirtualService or the Service in the file says.")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%q is no flag: give the file as -f FILE\n", flags.Arg(0))
		return 2
	case *file == "":
		fmt.Fprintln(stderr, "-f is missing: name a file, or - for standard input")
		return 2
	case *port < 0 || *port > 65535:
		fmt.Fprintf(stderr, "-port is %d: set 1 to 65535\n", *port)
		return 2
	}
	if err := convertFile(*file, int32(*port), stdin, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func convertFile(file string, port int32, stdin io.Reader, stdout, stderr io.Writer) error {
	options := convert.Options{Name: file, Port: port}
	var input []byte
	var err error
	if file == "-" {
		options.Name = "standard input"
		input, err = io.ReadAll(stdin)
	} else {
		input, err = os.ReadFile(file)
	}
	if err != nil {
		return err
	}
	result, err := convert.Convert(input, options)
	if err != nil {
		return err
	}
	for _, note := range result.Notes {
		fmt.Fprintln(stderr, note)
	}
	_, err = stdout.Write(result.Canaries)
	return err
}
