package transport

import (
	goflag "flag"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// bubble is synctest.Test for code that uses yamux, which keeps timers in a pool of the whole process: one of a bubble must not
// get out of it, nor one into it. So the test runs in a process of its own, where no session of another test has still a timer
// that fires; and three collections empty the pool between two bubbles of one test.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if !alone(t) {
		return
	}
	clean := func() {
		for range 3 {
			runtime.GC()
		}
	}
	clean()
	defer clean()
	synctest.Test(t, f)
}

const aloneEnv = "SEALMUX_TEST_ALONE"

// alone runs the test again in a process of its own, where it reports true. Here it reports false: the test is over.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) != "" {
		return true
	}
	names := strings.Split(t.Name(), "/")
	for i, name := range names {
		names[i] = "^" + regexp.QuoteMeta(name) + "$"
	}
	args := []string{"-test.run=" + strings.Join(names, "/"), "-test.count=1"}
	goflag.Visit(func(f *goflag.Flag) {
		switch f.Name {
		case "test.short", "test.v", "test.timeout", "update":
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), aloneEnv+"=1")
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("in a process of its own: %v\n%s", err, out)
	case strings.Contains(string(out), "no tests to run"):
		t.Errorf("it does not find itself: %q", args)
	case testing.Verbose():
		t.Logf("in a process of its own:\n%s", out)
	}
	return false
}
