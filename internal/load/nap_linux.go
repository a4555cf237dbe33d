package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// newNap returns what waits by a timer of the kernel, which is good to some 50 us, and what frees it; or nil if there are none to be
// had. The wait is that for a file: a plain nanosleep would keep one of the processors that Go runs goroutines on, if not the only one.
func newNap() (nap func(time.Duration), free func()) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, func() {}
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	var expired [8]byte
	return func(d time.Duration) {
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(d), 1))}
		if unix.TimerfdSettime(fd, 0, &at, nil) != nil {
			time.Sleep(d)
			return
		}
		timer.Read(expired[:])
	}, func() { timer.Close() }
}
