// Package hostile holds no code but tests: of what needs the whole of transport and rpc together, other processes, or a whole
// network of connections that fail. README.md lists every fault and attack with its outcome and the test that shows it.
package hostile
