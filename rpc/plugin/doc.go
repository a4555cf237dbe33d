// Package plugin runs plug-ins: programs that a host starts and calls, and that call it, over an encrypted session.
//
//	// in the host
//	p, err := plugin.Start(ctx, exec.Command("./greeter"), plugin.Options{Logger: slog.Default(), Restarts: 3})
//	defer p.Stop(ctx)
//	answer, err := Greet.Call(ctx, p.Client(), "world")
//
//	// in the plug-in's main
//	srv := rpc.NewServer(rpc.Options{})
//	Greet.Handle(srv, greet) // which may call the host: rpc.BackFrom(ctx)
//	err := plugin.Serve(ctx, srv, plugin.Options{Name: "the host's name"})
//
// # Promises
//
//   - Nothing is on disk. Each side makes a key in memory and tells the other its public half over the plug-in's standard
//     input and output, which nobody else holds; then each talks to that key alone. On Unix the connection is a socket pair that
//     the plug-in inherits: there is no name to connect to. Elsewhere it is a port of the loopback address.
//   - The environment says only that the process is a plug-in. There is no secret in it.
//   - Both sides speak the same version of the application protocol, the highest that both list; else a *VersionError.
//   - After Stop, Kill, a crash or a failed Start no process is left of the plug-in's process group, no goroutine, no file.
//   - When the host dies, however it does, the plug-in notices by its standard input, ends its handlers' contexts, and
//     kills itself and its group within Options.StopTimeout.
//   - A crash fails the calls in flight as Unavailable with their outcome and an *ExitError: status and last lines of standard
//     error. A call is sent again, to the restarted plug-in, only if it was NotSent.
//   - A plug-in that writes what it likes to its standard files delays nobody, and takes 64 KiB of memory for each.
//
// # What it does not promise
//
// A plug-in is not confined: it has the rights of its host. A child that leaves the process group (setsid) is not found. On
// systems other than Unix children are not killed at all, only the process. Until a program has reached Serve it does not notice
// that its host has died. Linux's parent-death signal is not used: it reaches the plug-in alone, before that can kill its
// children, and is tied to a thread of the host; set cmd.SysProcAttr.Pdeathsig if the program may hang before Serve. Standard
// input is the host's; to feed a plug-in a stream, open one: Caller.OpenConn. The children of a plug-in that has just ended
// are signalled by the number of their group; that could be another's if the system used up all its process numbers in between.
//
// The two keys have 2048 bits: they live as long as the processes, are made in a fraction of the time of larger ones, and what
// was recorded stays secret without them. The host has one for all of its plug-ins, each plug-in one of its own.
//
// # Compared with hashicorp/go-plugin
//
// Version 1.8.0, by its source.
//
//	                       go-plugin                                  this package
//	calls                  net/rpc, or gRPC with generated code       rpc: plain Go types, streams, deadlines, outcomes
//	other languages        any with gRPC                              those with an implementation of this protocol
//	host is called back    through a broker of stream numbers         by name on the same session: rpc.BackFrom
//	encryption             none by default; AutoMTLS or a TLSConfig   always, keys of both sides pinned
//	connection             socket file in a temporary folder, or TCP  inherited socket pair; elsewhere TCP
//	told by environment    cookie, certificate, versions, ports       that it is a plug-in
//	versions               sets, the highest in common                the same
//	logs                   hclog, its JSON lines keep their level     slog, its JSON lines keep level, time and attributes
//	standard input         the host's own                             taken: it tells when the host has died
//	end                    asks, waits two seconds, kills             drains for StopTimeout, SIGTERM, SIGKILL
//	children of a plug-in  not its matter                             killed with the process group
//	host dies              Serve goes on                              plug-in and group end
//	restart                left to the host's program                 Restarts, Backoff
//	reattach               yes, to a running process                  no
//	checksum of program    SecureConfig                               no; check the file before Start
//	runs elsewhere         runner interface, such as containers       no; use transport and rpc
//
// # Goroutines and locks
//
// Plugin.supervise lives until Done. Each process has one that waits for it, one that follows it, and two that read its
// output; all have ended when the next is started, or Done is closed. Serve has one that reads standard input until the process
// ends. Plugin.mu is held alone, and nothing blocks under it.
//
// Reading order: hello.go, plugin.go, run.go, spawn.go, caller.go, serve.go, logs.go.
package plugin
