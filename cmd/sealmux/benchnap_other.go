//go:build !linux

package main

import "time"

// nap is nil where there is nothing better than a timer.
var nap func(time.Duration)
