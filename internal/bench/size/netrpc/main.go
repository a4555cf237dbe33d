// Command netrpc is an echo with net/rpc over TLS.
package main

import (
	"fmt"
	"net/rpc"

	"github.com/sealmux/sealmux/internal/bench/size/pair"
)

type service struct{}

func (service) Echo(text string, reply *string) error {
	*reply = text
	return nil
}

func main() {
	l, config := pair.Listen()
	pair.Check(rpc.RegisterName("Echo", service{}))
	go rpc.Accept(l)
	client := rpc.NewClient(pair.Dial(l, config))
	var reply string
	pair.Check(client.Call("Echo.Echo", "hello", &reply))
	fmt.Println(reply)
}
