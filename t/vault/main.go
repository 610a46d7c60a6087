// SPDX-License-Identifier: Apache-2.0

// Command testvault is a HashiCorp Vault for the tests of mod_ai_proxy_adv: Vault's own core, HTTP API and policies with
// the key-value engine (version 2 at secret/, version 1 at kv1/) and four ways to log in (approle, cert, kubernetes,
// userpass, each mounted under its own name). The data is in memory and ends with the process.
//
// It starts unsealed. It prints one line, "ready", once its port is bound.
package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

type options struct {
	listen, rootToken, cert, key, log, unsealKeyFile string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8200", "`address` to listen on; a loopback address")
	flag.StringVar(&o.rootToken, "root-token", "root", "`token` with the root policy")
	flag.StringVar(&o.cert, "tls-cert", "", "`file` with the certificate chain; makes it https")
	flag.StringVar(&o.key, "tls-key", "", "`file` with the certificate's key")
	flag.StringVar(&o.log, "log", "", "`file` that gets a line for each request")
	flag.StringVar(&o.unsealKeyFile, "unseal-key-file", "", "`file` that gets the unseal key")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "testvault:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	listener, err := listen(o)
	if err != nil {
		return err
	}
	core, err := newCore(o)
	if err != nil {
		return err
	}
	requests := io.Discard
	if o.log != "" {
		file, err := os.OpenFile(o.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer file.Close()
		requests = file
	}
	api := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core:           core,
		ListenerConfig: &configutil.Listener{Address: o.listen},
	})
	fmt.Println("ready")
	server := http.Server{Handler: logged(requests, api), ReadHeaderTimeout: 30 * time.Second}
	return server.Serve(listener)
}

// listen asks https clients for a certificate and takes any or none: the cert method judges them.
func listen(o options) (net.Listener, error) {
	address, err := net.ResolveTCPAddr("tcp", o.listen)
	if err != nil {
		return nil, err
	}
	if !address.IP.IsLoopback() {
		return nil, errors.New("-listen wants a loopback address: this server is for tests")
	}
	var config *tls.Config
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, err
		}
		config = &tls.Config{
			Certificates: []tls.Certificate{pair},
			ClientAuth:   tls.RequestClientCert,
			MinVersion:   tls.VersionTLS12,
		}
	}
	listener, err := net.ListenTCP("tcp", address)
	if err != nil || config == nil {
		return listener, err
	}
	return tls.NewListener(listener, config), nil
}

// newCore makes a core, opens its seal and mounts what the tests use.
func newCore(o options) (*vault.Core, error) {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		DisableMlock:       true,
		Logger:             logger,
		RedirectAddr:       "http://" + o.listen,
		BuiltinRegistry:    builtins{},
		LogicalBackends:    engines,
		CredentialBackends: methods,
	})
	if err != nil {
		return nil, err
	}
	ctx := namespace.RootContext(context.Background())
	secrets, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
	})
	if err != nil {
		return nil, err
	}
	unsealKey := secrets.SecretShares[0]
	if o.unsealKeyFile != "" {
		text := base64.StdEncoding.EncodeToString(unsealKey) + "\n"
		if err := os.WriteFile(o.unsealKeyFile, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if _, err := core.Unseal(unsealKey); err != nil {
		return nil, err
	}
	return core, furnish(ctx, core, secrets.RootToken, o.rootToken)
}

// furnish makes the root token that the tests know, and the mounts.
func furnish(ctx context.Context, core *vault.Core, first, rootToken string) error {
	type data = map[string]interface{}
	kv := func(version string) data {
		return data{"type": "kv", "options": map[string]string{"version": version}}
	}
	orders := []struct {
		path string
		data data
	}{
		{"auth/token/create", data{
			"id": rootToken, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true}},
		{"sys/mounts/secret", kv("2")},
		{"sys/mounts/kv1", kv("1")},
	}
	for name := range methods {
		orders = append(orders, struct {
			path string
			data data
		}{"sys/auth/" + name, data{"type": name}})
	}
	ask := func(operation logical.Operation, path string, data data) error {
		answer, err := core.HandleRequest(ctx, &logical.Request{
			ID: "start", Operation: operation, ClientToken: first, Path: path, Data: data})
		if err == nil && answer != nil {
			err = answer.Error()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
	for _, order := range orders {
		if err := ask(logical.UpdateOperation, order.path, order.data); err != nil {
			return err
		}
	}
	// Version 2 of the engine refuses requests until a task of its own has prepared the storage.
	var err error
	for i := 0; i < 200; i++ {
		if err = ask(logical.ReadOperation, "secret/config", nil); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}
