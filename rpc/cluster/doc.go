// Package cluster is a client of a service, not of a connection: it finds the service's servers, keeps sessions to them, places
// calls, and repeats what never ran.
//
//	client := cluster.New(&cluster.DNS{Name: "kv.internal:7443"}, cluster.Options{
//		Dial: cluster.DialTransport("tcp", &transport.Config{
//			Peers: transport.Pin(key), Protocol: rpc.Protocol, Tickets: transport.NewTicketCache(1)}),
//		Policy: func(method string) cluster.Policy { return cluster.Policy{Idempotent: method == "kv.Get"} },
//	})
//	defer client.Close()
//	reply, err := Get.Call(ctx, client, GetRequest{Key: "a"}) // as on an *rpc.Client
//
// Where the servers are a Resolver says: DNS, a List (Static), or one of another module, as rpc/cluster/etcd and
// rpc/cluster/gossip are. Servers announce themselves with a Registrar: register when ready, deregister before the drain. A
// session is whatever Options.Dial makes. A Balancer chooses among the endpoints that are in rotation: LeastLoaded, RoundRobin,
// ConsistentHash, or one of your own.
//
// # Promises
//
// A call has exactly one outcome, as in package rpc, and rpc.OutcomeOf is true of all attempts together: if one of them may have
// run, and none was answered, it is OutcomeUnknown, whatever became of the others. A method runs at most once for a call,
// unless its Policy says Idempotent.
//
//	what became of an attempt            what is done
//	not sent (Unavailable); or refused   again at once on another session, for as long as the call's context lasts
//	  by a server that drains
//	refused: overload (ResourceExhausted again after a pause that grows, and not before the server's retry-after, if Budget,
//	  or Unavailable, not executed)        MaxAttempts and deadline allow it
//	may have run (the session is lost)   if Idempotent, again at once, then as above; otherwise it stands
//	executed, however it failed          it stands
//	the context has ended                it stands
//
// A drain costs no call: a server's notice takes its session out of rotation at once, what is in flight there ends well, and what
// crossed the notice goes elsewhere. A stream moves in the same way while its handler never ran and nothing was sent on it but
// the request; a connection until it is taken. A server that is killed costs the calls that are in flight there, which say that
// they may have run. One that falls silent gets no new calls from 2.5 x StallAfter (5 s by default) behind the first that it
// does not answer, and one that fails after five failures in a row, while there are others.
//
// Without a session a call waits for one under its context, or fails with ErrNoEndpoint (Policy.FailFast). There is one session to
// an endpoint, MaxDials in the making, and Backoff with full jitter between them. What is added to the load of servers in trouble,
// retries and hedges, is at most Budget: a tenth of the calls, and ten a second.
//
// Discovery is not trusted: it says where to connect, and what answers there must be admitted by the Config that Dial has.
// An Endpoint's Pins only narrow that. Nothing is logged unless Options.Logger is set.
//
// # What it does not promise
//
// Calls have no order. A handler that answers with rpc.Unavailable has run, and is not repeated. A stream that has begun does not
// survive its session. A hedge runs a method twice, as does a retry of what may have run: the loser is cancelled, which it may not
// notice. A session to an endpoint that the resolver has dropped lasts until its streams and connections end. A silent session
// is left alone until it answers or ends: to end it is the session's work (transport.Config.KeepaliveInterval), and what is in
// flight there ends with it. Endpoints beyond a Subset are not used, even if all of the subset are down; it knows no weights. Of an
// SRV answer only the best priority is used. Each client sees its own calls alone: LeastLoaded knows nothing of what others
// do, but by the latency. An interceptor that fails as Unavailable without calling next is taken for a session that was gone.
//
// What a server says of its health (rpc.Server.SetHealth) is not looked at: it is in rotation if it answers. An endpoint whose Name, Pins or
// Attributes change gets a new session at once, from all clients together: what changes often does not belong there; a Weight may.
// A host that has an IPv4 and an IPv6 address is two endpoints to DNS.
//
// Costs: an idle Client has a goroutine for each endpoint, those of its sessions, and two or three of its own, one of which looks around
// every StallAfter/2. A call costs about a microsecond more than on an *rpc.Client. README.md has figures: evenness, and what a
// restart of a third of 1,000 servers does with 100,000 clients.
//
// # Goroutines and locks
//
//	Client.watch     follows the resolver                                             until Close
//	Client.look      ends ejections, judges outliers, finds servers that are silent   until Close
//	Client.tell      logs, if there is a Logger                                       until Close
//	Client.keepUp    one an endpoint: makes its session anew                          until it is dropped, or Close
//	Client.retire    one a session that was: closes it behind its last call           until that, or Close
//	Client.ask       one a session that is silent: waits for its answer               until that, its end, or Close
//	Client.hedged    one an attempt; the call waits for them all                      until the call's end
//
// Close waits for all but the last, which end with their calls. Streams and connections have none.
//
//	stream.mu        where a stream is placed; held while it is moved   taken before all others
//	Client.mu        nodes, keepers, changes of the view                taken before nothing of ours
//	tries.mu         what became of a call's attempts                   taken before nothing of ours
//	purse.mu         the budget                                         taken before nothing of ours
//	ewma.mu          a change of a latency                              taken before nothing of ours
//	List.mu, DNS.mu  one resolver                                       taken before nothing of ours
//	caches.mu        the tickets of DialTransport, by address           taken before nothing of ours
//
// A call takes no lock of the Client: it reads a view, which is replaced and never changed.
//
// Reading order: endpoint.go, options.go, client.go, keeper.go, node.go; call.go, outcome.go, hedge.go, stream.go; balance.go, latency.go,
// spread.go, budget.go, health.go; dns.go, transport.go.
package cluster
