// Package faultnet makes connections that fail on purpose, so that tests can show what happens then. Pair is a net.Conn pair in
// memory, Network a whole network of them, NewProxy a TCP proxy between real processes. Each direction of a connection has its
// Line: how fast and how far it is, and which faults strike at which byte. A Line is plain data, and Random draws one from a
// seed, so that a failure is repeated by its seed. Pair and Network work in a testing/synctest bubble, where a stall costs nothing.
package faultnet
