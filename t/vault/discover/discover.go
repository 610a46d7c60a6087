// SPDX-License-Identifier: Apache-2.0

// Package discover has the names that Vault's raft storage asks for to find the other nodes of its cluster. The test
// server is one node and keeps its data in memory, so it never asks.
package discover

import (
	"errors"
	"log"
)

// Provider is how a node would ask one cloud for its peers.
type Provider interface {
	Addrs(args map[string]string, logger *log.Logger) ([]string, error)
	Help() string
}

// Discover would ask the Providers in turn.
type Discover struct{}

// Option sets up a Discover.
type Option func(*Discover) error

// Providers is empty: no cloud is known.
var Providers = map[string]Provider{}

// New ignores its options.
func New(...Option) (*Discover, error) { return &Discover{}, nil }

// WithProviders and WithUserAgent are there to be called.
func WithProviders(map[string]Provider) Option {
	return func(*Discover) error { return nil }
}

func WithUserAgent(string) Option {
	return func(*Discover) error { return nil }
}

// Addrs finds nobody.
func (*Discover) Addrs(string, *log.Logger) ([]string, error) {
	return nil, errors.New("the test server is alone")
}
