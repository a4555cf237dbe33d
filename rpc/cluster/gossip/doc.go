// Package gossip finds the servers of a service without a server for that: servers and clients are members of one group, on
// hashicorp/memberlist, and tell each other who is there.
//
//	group, err := gossip.Join(ctx, gossip.Options{Bind: ":7946", Seeds: []string{"10.0.0.1:7946"}, Key: key})
//	defer group.Close()
//	kv := group.Service("kv") // a cluster.Resolver and a cluster.Registrar
//
//	lease, err := kv.Register(ctx, cluster.Endpoint{Addr: "10.0.0.7:7443"}) // a server that can answer calls
//	defer lease.Deregister(ctx)                                             // before it drains
//
//	client := cluster.New(kv, cluster.Options{Dial: cluster.DialTransport("tcp", config)})
//
// # When to use it
//
// Where nobody runs a discovery, and for some hundred members: each takes part, clients too. With thousands of clients let the servers alone be
// members and tell the clients by DNS, or use rpc/cluster/etcd. It stands here in place of a client for Consul because
// Consul is found by DNS (cluster.DNS), and its agents register services by themselves.
//
// # Promises
//
//   - What a member registers is known to all within the time of a gossip, some tenths of a second; a member that dies without a word is
//     noticed by memberlist's probes, within some seconds, and its endpoints are dropped. Options.Tune has those times.
//   - A member that is cut off keeps what it knew as long as its probes allow, and looks for the seeds again every 10 s while
//     it is alone. A cluster.Client keeps to its last set then.
//   - The gossip is sealed with Options.Key (AES-GCM). Whoever lacks it is no member. Who has it can announce what he likes: what
//     is announced decides where clients connect, not whom they trust (cluster.Endpoint.Pins).
//   - A member announces at most 512 bytes in all, names and pins included (ErrTooMuch), and is told of at most Options.MaxEndpoints.
//
// # Goroutines
//
// memberlist's own, and one that looks for the seeds. Close stops them and waits.
package gossip
