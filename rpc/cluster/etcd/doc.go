// Package etcd finds the servers of a service in etcd, and announces them there: a cluster.Resolver and a cluster.Registrar. It is a
// module of its own, since etcd's client brings gRPC with it: who does not import it has none of that.
//
// # Layout
//
// A server is a key SERVICE/ADDR with a JSON value {"Addr": ..., "Metadata": ...}, as etcd's own package client/v3/naming/endpoints
// writes and reads it: the entries of either are seen by the other, and so by gRPC's clients. Metadata is an object with "name", "weight",
// "pins" and "attributes", as in cluster.Endpoint, each of which may be absent. What somebody else's Metadata holds beside these, or
// in their place, is passed over; but an entry whose "pins" are not a list of strings is left out, as pins are there to be obeyed. Of
// two entries with one address the one written last counts. A service is everything below SERVICE/: "a" includes "a/b".
//
// # What is promised
//
// An announcement hangs on a lease. A server that dies without a word is forgotten Options.TTL after it was last heard of. One that was only
// cut off, or whose etcd restarted or lost its data, is announced again by itself, within seconds after etcd is back. Deregister
// forgets it at once; a server does that before it drains:
//
//	lease.Deregister(ctx)
//	server.Shutdown(ctx)
//
// A watch yields the whole set at first and whenever it has changed. While etcd is away, has no leader or has compacted what was being read, the
// last set stands; the watch goes on from its revision, or reads everything anew. A look at the number of entries and at the
// revision, each Options.Recheck and after failures to connect, notices an etcd that lost its data and a watch that has gone deaf.
//
// Not promised: to notice an etcd that lost its data and has, at the first look, as many entries again and a later revision. And an
// entry that somebody deletes by hand stays deleted until its lease is lost or its server registers again, so that a server can be taken
// out of rotation.
//
// # Trust
//
// Whoever can write below SERVICE/ decides where clients connect, not whom they trust: that is Options.Dial's of the cluster.Client, which
// pins keys. What is read is bounded: entries of 4 KiB, Options.MaxEndpoints of them, read in pages; set MaxCallRecvMsgSize of the
// etcd client to bound a page of values that somebody has made large (etcd takes 1.5 MiB each by default). Set DialKeepAliveTime and
// DialKeepAliveTimeout too, as otherwise a connection that lost its network without a word is noticed only by Recheck.
//
// # Why etcd
//
// Of the registries in wide use it is the one whose promises are exact: one revision for everything, so that a watch which resumes
// misses nothing; leases that end by consensus; a client that is maintained with the server. It can be embedded, so that all of this
// is tested against the real engine. Consul watches by long polls for whole answers and is reached without code of its own, as DNS:
// cluster.DNS reads its SRV records. Kubernetes' services are DNS too.
package etcd
