//go:build unix

package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
)

// The test binary is the plug-in too, in the mode that this variable names.
const modeEnv = "PLUGIN_TEST_MODE"

// The methods of the plug-in; Ask is the host's.
var (
	pid     = rpc.Unary[struct{}, int]{Name: "pid"}
	version = rpc.Unary[struct{}, int]{Name: "version"}
	relay   = rpc.Unary[string, string]{Name: "relay"}
	child   = rpc.Unary[struct{}, int]{Name: "child"}
	escape  = rpc.Unary[struct{}, int]{Name: "escape"}
	die     = rpc.Unary[int, struct{}]{Name: "die"}
	hang    = rpc.Unary[struct{}, struct{}]{Name: "hang"}
	slow    = rpc.Unary[struct{}, string]{Name: "slow"}
	logs    = rpc.Unary[struct{}, struct{}]{Name: "logs"}
	count   = rpc.ServerStream[struct{}, int]{Name: "count"}
	ask     = rpc.Unary[string, string]{Name: "ask"}
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(modeEnv); mode != "" {
		os.Exit(beChild(mode))
	}
	goleak.VerifyTestMain(m)
}

func self(mode string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), modeEnv+"="+mode)
	return cmd
}

func beChild(mode string) int {
	opts := Options{Name: "the tests"}
	switch mode {
	case "rubbish":
		fmt.Println("Welcome to the program")
		time.Sleep(time.Minute)
	case "silent":
		time.Sleep(time.Minute)
	case "escapes":
		cmd := exec.Command("sleep", "60")
		cmd.Stdout, cmd.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Setsid: true}
		err := cmd.Start()
		fmt.Fprintln(os.Stderr, "left", cmd.Process.Pid, err)
		return 0
	case "exits":
		fmt.Fprintln(os.Stderr, "no licence")
		return 3
	case "old":
		opts.Versions = []int{7, 8}
	case "new":
		opts.Versions = []int{2, 3, 4}
	case "flood":
		line := []byte(strings.Repeat("x", 3*maxLine) + "\n")
		go func() {
			for {
				os.Stderr.Write(line)
			}
		}()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		opts.StopTimeout = time.Hour
	case "lingers":
		defer time.Sleep(2 * lastWait) // main has things to do after Serve
	case "host":
		return beHost()
	}
	if err := Serve(context.Background(), services(), opts); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func services() *rpc.Server {
	srv := rpc.NewServer(rpc.Options{})
	none := struct{}{}
	pid.Handle(srv, func(context.Context, struct{}) (int, error) { return os.Getpid(), nil })
	version.Handle(srv, func(ctx context.Context, _ struct{}) (int, error) { return VersionFrom(ctx), nil })
	relay.Handle(srv, func(ctx context.Context, s string) (string, error) { return ask.Call(ctx, rpc.BackFrom(ctx), s) })
	child.Handle(srv, func(context.Context, struct{}) (int, error) {
		cmd := exec.Command("sh", "-c", "trap '' TERM; while :; do sleep 60; done")
		cmd.Stderr = os.Stderr // it holds the plug-in's own
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	escape.Handle(srv, func(context.Context, struct{}) (int, error) {
		cmd := exec.Command("sleep", "60")
		cmd.Stderr, cmd.SysProcAttr = os.Stderr, &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	die.Handle(srv, func(_ context.Context, status int) (struct{}, error) {
		fmt.Fprintln(os.Stderr, "out of luck")
		os.Exit(status)
		return none, nil
	})
	hang.Handle(srv, func(ctx context.Context, _ struct{}) (struct{}, error) {
		if _, err := ask.Call(ctx, rpc.BackFrom(ctx), "hanging"); err != nil {
			return none, err
		}
		time.Sleep(time.Hour) // whatever ctx says
		return none, nil
	})
	slow.Handle(srv, func(ctx context.Context, _ struct{}) (string, error) {
		if _, err := ask.Call(ctx, rpc.BackFrom(ctx), "slow"); err != nil {
			return "", err
		}
		<-rpc.InfoFrom(ctx).Draining()
		return "done", nil
	})
	logs.Handle(srv, func(context.Context, struct{}) (struct{}, error) {
		slog.New(slog.NewJSONHandler(os.Stderr, nil)).Warn("disk", "free", 12, "at", slog.GroupValue(slog.String("path", "/x")))
		fmt.Fprintln(os.Stderr, "plain")
		fmt.Println("printed")
		return none, nil
	})
	count.Handle(srv, func(ctx context.Context, _ struct{}, send func(int) error) error {
		if err := send(1); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	return srv
}

// beHost starts a plug-in that has a child, prints both numbers, and waits to be killed.
func beHost() int {
	ctx := context.Background()
	p, err := Start(ctx, self("good"), Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	one, err1 := pid.Call(ctx, p.Client(), struct{}{})
	two, err2 := child.Call(ctx, p.Client(), struct{}{})
	fmt.Println(one, two, err1, err2)
	select {}
}
