// Command grpc is a call with grpc-go over TLS, of the health service that comes with it, generated code and all.
package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sealmux/sealmux/internal/bench/size/pair"
)

func main() {
	l, config := pair.Listen()
	srv := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	go srv.Serve(l)
	config.NextProtos = []string{"h2"}
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	pair.Check(err)
	reply, err := grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	pair.Check(err)
	fmt.Println(reply.Status)
}
