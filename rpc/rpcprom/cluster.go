package rpcprom

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmux/sealmux/rpc/cluster"
)

// Cluster returns a prometheus.Collector of what a cluster.Client does, under the name of the service that it is a client of. It looks
// at the Client when it is collected.
func Cluster(service string, c *cluster.Client) prometheus.Collector {
	labels := prometheus.Labels{"service": service}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("sealmux_cluster_"+name, help, variable, labels)
	}
	return &clusterCollector{c,
		desc("endpoints", "Endpoints of the client's subset, by state.", "state"),
		desc("calls_total", "Calls."), desc("retries_total", "Attempts after the first."), desc("hedges_total", "Attempts beside others."),
		desc("denied_total", "Retries and hedges that the budget did not allow."),
		desc("dials_total", "Sessions that were to be made."), desc("dial_failures_total", "Sessions that could not be made."),
		desc("endpoint_in_flight", "Calls in flight.", "endpoint"), desc("endpoint_latency_seconds", "How long calls take at present.", "endpoint"),
		desc("endpoint_sessions_total", "Sessions made.", "endpoint")}
}

type clusterCollector struct {
	client                                              *cluster.Client
	endpoints                                           *prometheus.Desc
	calls, retries, hedges, denied, dials, dialFailures *prometheus.Desc
	endpointInFlight, endpointLatency, endpointSessions *prometheus.Desc
}

// states are all of cluster.EndpointStatus, so that one without endpoints is told as 0.
var states = []string{"idle", "connecting", "waiting", "ready", "silent", "ejected"}

// Describe is a prometheus.Collector's.
func (c *clusterCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.endpoints, c.calls, c.retries, c.hedges, c.denied, c.dials, c.dialFailures,
		c.endpointInFlight, c.endpointLatency, c.endpointSessions} {
		ch <- d
	}
}

// Collect is a prometheus.Collector's.
func (c *clusterCollector) Collect(ch chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	s := c.client.Snapshot()
	for d, n := range map[*prometheus.Desc]uint64{c.calls: s.Calls, c.retries: s.Retries, c.hedges: s.Hedges, c.denied: s.Denied,
		c.dials: s.Dials, c.dialFailures: s.DialFailures} {
		tell(d, prometheus.CounterValue, float64(n))
	}
	inState := make(map[string]int)
	for _, e := range s.Endpoints {
		inState[e.State]++
		addr := strings.ToValidUTF8(e.Endpoint.Addr, "?") // which is discovery's
		tell(c.endpointInFlight, prometheus.GaugeValue, float64(e.InFlight), addr)
		tell(c.endpointLatency, prometheus.GaugeValue, e.Latency.Seconds(), addr)
		tell(c.endpointSessions, prometheus.CounterValue, float64(e.Sessions), addr)
	}
	for _, state := range states {
		tell(c.endpoints, prometheus.GaugeValue, float64(inState[state]), state)
	}
}
