package process

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger returns a logger to stderr for the values of -log-level and -zap-encoding. Of lines with the same text it keeps the first 100 and then every 100th per second.
func NewLogger(level, encoding string) (*zap.Logger, error) {
	if encoding != "json" && encoding != "console" {
		return nil, fmt.Errorf("-zap-encoding must be json or console, not %q", encoding)
	}
	return zap.Config{
		Level:       zap.NewAtomicLevelAt(levelOf(level)),
		Development: false,
		Sampling:    &zap.SamplingConfig{Initial: 100, Thereafter: 100},
		Encoding:    encoding,
		EncoderConfig: zapcore.EncoderConfig{
			TimeKey:        "ts",
			LevelKey:       "level",
			NameKey:        "logger",
			CallerKey:      "caller",
			MessageKey:     "msg",
			StacktraceKey:  "stacktrace",
			LineEnding:     zapcore.DefaultLineEnding,
			EncodeLevel:    zapcore.LowercaseLevelEncoder,
			EncodeTime:     zapcore.ISO8601TimeEncoder,
			EncodeDuration: zapcore.SecondsDurationEncoder,
			EncodeCaller:   zapcore.ShortCallerEncoder,
		},
		// A stack says nothing about errors that are facts of the cluster; panics log their own.
		DisableStacktrace: true,
		OutputPaths:       []string{"stderr"},
		ErrorOutputPaths:  []string{"stderr"},
	}.Build()
}

// levelOf reads -log-level; what it does not know means info.
func levelOf(name string) zapcore.Level {
	switch name {
	case "debug":
		return zapcore.DebugLevel
	case "warn", "warning":
		return zapcore.WarnLevel
	case "error":
		return zapcore.ErrorLevel
	case "fatal":
		return zapcore.FatalLevel
	case "panic":
		return zapcore.PanicLevel
	default:
		return zapcore.InfoLevel
	}
}
