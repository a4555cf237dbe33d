package main

import (
	"errors"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// startEtcd runs an etcd in this process, on a free port of loopback and in a temporary folder, and returns a client of it. Yours
// runs elsewhere: all that is needed then is clientv3.New.
func startEtcd() (client *clientv3.Client, stop func(), err error) {
	dir, err := os.MkdirTemp("", "sealmux-cluster-")
	if err != nil {
		return nil, nil, err
	}
	var engine *embed.Etcd
	stop = func() {
		if client != nil {
			client.Close()
		}
		if engine != nil {
			engine.Close()
		}
		os.RemoveAll(dir)
	}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls = cfg.ListenClientUrls
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if engine, err = embed.StartEtcd(cfg); err != nil {
		stop()
		return nil, nil, err
	}
	select {
	case <-engine.Server.ReadyNotify():
	case <-time.After(time.Minute):
		stop()
		return nil, nil, errors.New("etcd is not ready after a minute")
	}
	client, err = clientv3.New(clientv3.Config{Endpoints: []string{engine.Clients[0].Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return client, stop, nil
}
