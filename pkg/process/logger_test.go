package process

import (
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
)

func TestLogLevels(t *testing.T) {
	for name, want := range map[string]zapcore.Level{
		"debug": zapcore.DebugLevel, "info": zapcore.InfoLevel, "warn": zapcore.WarnLevel, "error": zapcore.ErrorLevel,
		"fatal": zapcore.FatalLevel, "panic": zapcore.PanicLevel, "warning": zapcore.WarnLevel, "": zapcore.InfoLevel,
	} {
		if got := levelOf(name); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
	if _, err := NewLogger("info", "xml"); err == nil || !strings.Contains(err.Error(), "-zap-encoding") {
		t.Errorf("got %v", err)
	}
}
