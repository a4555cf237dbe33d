// Package cluster is a client of a service, not of a connection.
package cluster
