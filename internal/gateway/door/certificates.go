package door

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Certificates serves a certificate from files, and serves the new one soon
// after the files change: no restart when it is renewed.
type Certificates struct {
	cert, key string
	log       *slog.Logger
	now       func() time.Time

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
	stamp   [2]fileStamp     // of the files that current was read from, or that could not be read; guarded by mu
	checked time.Time        // guarded by mu
}

type fileStamp struct {
	mod  time.Time
	size int64
}

// checkEvery is how often the files are looked at, and only when a handshake asks.
const checkEvery = time.Second

// LoadCertificates reads the files. The error names the one to look at.
func LoadCertificates(cert, key string, log *slog.Logger) (*Certificates, error) {
	c := &Certificates{cert: cert, key: key, log: log, now: time.Now}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config is a TLS configuration that uses the certificate.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.Get, NextProtos: []string{"http/1.1"}}
}

// Get is for tls.Config.GetCertificate.
func (c *Certificates) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= checkEvery {
		c.checked = now
		if s, err := c.stamps(); err != nil || s != c.stamp {
			c.reload(s)
		}
	}
	return c.current, nil
}

// reload tries files whose stamp is s, the zero stamp where one is missing. mu
// is held.
func (c *Certificates) reload(s [2]fileStamp) {
	err := c.load()
	switch {
	case err == nil:
		c.log.Info("certificate reloaded", "cert", c.cert)
	case s != c.stamp:
		c.stamp = s // said once; the next change is looked at again
		c.log.Error("new certificate not used, the old one stays", "error", err)
	}
}

// load reads both files. mu is held.
func (c *Certificates) load() error {
	s, err := c.stamps()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("reading certificate %s and key %s: %w", c.cert, c.key, err)
	}
	c.current, c.stamp, c.checked = &pair, s, c.now()
	return nil
}

func (c *Certificates) stamps() (s [2]fileStamp, err error) {
	for i, name := range [2]string{c.cert, c.key} {
		fi, err := os.Stat(name)
		if err != nil {
			return [2]fileStamp{}, fmt.Errorf("reading certificate: %w", err)
		}
		s[i] = fileStamp{fi.ModTime(), fi.Size()}
	}
	return s, nil
}
