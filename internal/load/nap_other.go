//go:build !linux

package load

import "time"

// newNap returns no nap: here a timer is good enough, or there is nothing better.
func newNap() (nap func(time.Duration), free func()) { return nil, func() {} }
