// Package fleet holds no code but tests: of rpc/cluster against real engines and real processes under load, an etcd and a DNS server
// and servers that are drained, killed, paused and cut off. README.md has the figures. It is a module of its own for what it needs.
package fleet
