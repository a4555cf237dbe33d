// Package deploy tries the files of examples/deploy as far as that can be done without a service manager, a container engine or a cluster:
// they are parsed strictly, and what they would start is started. It is a module of its own, for the parsers it takes.
package deploy
