package process

import (
	"context"
	"fmt"
	"os"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"k8s.io/klog/v2"
)

// Logging holds the values of -log-level, -zap-encoding and -zap-replace-globals.
type Logging struct {
	Level, Encoding string
	ReplaceGlobals  bool
}

// Serve runs a program until it ends or SIGINT or SIGTERM ends its context, and returns the status to exit with: 0, 1 after an error,
// which is logged, or 2 when nothing can be logged as it should be.
func Serve(l Logging, run func(context.Context, *zap.Logger) error) int {
	log, err := NewLogger(l.Level, l.Encoding)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if l.ReplaceGlobals {
		zap.ReplaceGlobals(log)
	}
	klog.SetLogger(zapr.NewLogger(log))
	err = run(UntilSignal(), log)
	if err != nil {
		log.Error("stopped", zap.Error(err))
	}
	// Stderr may be a pipe that nobody reads anymore; there is nowhere left to report that.
	_ = log.Sync()
	if err != nil {
		return 1
	}
	return 0
}
