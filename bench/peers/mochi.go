// A mochi broker with mutual TLS 1.3, for the comparison: mochi ADDRESS CLIENT-CA CERTIFICATE KEY.
// Nothing may be dropped for want of room, everybody who has a certificate may do everything.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math"
	"os"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(must(os.ReadFile(os.Args[2])))
	config := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    trusted,
		Certificates: []tls.Certificate{must(tls.LoadX509KeyPair(os.Args[3], os.Args[4]))},
	}
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumInflight = 1024 * 8
	capabilities.MaximumClientWritesPending = math.MaxUint16
	capabilities.ReceiveMaximum = math.MaxUint16
	server := mqtt.New(&mqtt.Options{
		Capabilities:             capabilities,
		ClientNetWriteBufferSize: 1024 * 16,
		ClientNetReadBufferSize:  1024 * 16,
		Logger:                   slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		panic(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "bench", Address: os.Args[1], TLSConfig: config})
	if err := server.AddListener(listener); err != nil {
		panic(err)
	}
	if err := server.Serve(); err != nil {
		panic(err)
	}
	select {}
}
