package main

import (
	"syscall"
	"time"
)

// nap waits in the kernel, whose clock is good to some 50 us. A signal ends it early, as those that Go preempts goroutines with.
func nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&t, nil)
}
