// Package house holds the repository's house rules as tests: who may import whom, what stays pure, that
// every exported name is documented, how long a file may be, that pages name tests which exist. It has no code of its own; run it with
// go test ./internal/house. Each failure names the file and the rule, and each rule is itself tested on a
// bad input, so that none of them can pass by looking at nothing.
package house
