package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
)

// newBus makes the bus that the configuration asks for.
func newBus(cfg *config.Config, instance string, log *slog.Logger) (bus.Bus, error) {
	if cfg.Redis == nil {
		return membus.New(membus.Options{}), nil
	}
	opt, err := RedisOptions(cfg.Redis)
	if err != nil {
		return nil, err
	}
	opt.Instance, opt.Logger = instance, log
	return redisbus.New(opt)
}

// RedisOptions are what redis in relay.yaml becomes.
func RedisOptions(r *config.Redis) (redisbus.Options, error) {
	opt := redisbus.Options{URL: r.URL.Reveal(), User: r.User, Password: r.Password.Reveal(), Prefix: r.Prefix}
	if s := r.Sentinel; s != nil {
		opt.Sentinel = &redisbus.Sentinel{Master: s.Master, Addrs: s.Addrs, User: s.User, Password: s.Password.Reveal()}
	}
	if r.Cluster != nil {
		opt.Cluster = r.Cluster.Addrs
	}
	var err error
	if r.TLS != nil {
		opt.TLS, err = redisTLS(r.TLS)
	}
	return opt, err
}

func redisTLS(t *config.RedisTLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("tls.ca: no certificate in " + t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// busSystem and busOperations name the bus in traces.
func busSystem(cfg *config.Config) string {
	if cfg.Redis == nil {
		return "memory"
	}
	return "redis"
}

func busOperations(cfg *config.Config) [2]string {
	switch {
	case cfg.Redis == nil:
		return [2]string{"publish", "publish"}
	case cfg.Redis.Cluster != nil:
		return [2]string{"EVALSHA", "SPUBLISH"}
	}
	return [2]string{"EVALSHA", "PUBLISH"}
}
