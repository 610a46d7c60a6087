// SPDX-License-Identifier: Apache-2.0

package main

import (
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// What this server can mount.
var (
	engines = map[string]logical.Factory{
		"kv": kv.Factory,
	}
	methods = map[string]logical.Factory{
		"approle":    approle.Factory,
		"cert":       cert.Factory,
		"kubernetes": kubernetes.Factory,
		"userpass":   userpass.Factory,
	}
)

// builtins is the same for the core's plugin catalog, in the place of the list that imports every plugin of Vault.
type builtins struct{}

func ofType(t consts.PluginType) map[string]logical.Factory {
	switch t {
	case consts.PluginTypeSecrets:
		return engines
	case consts.PluginTypeCredential:
		return methods
	}
	return nil
}

func (builtins) Contains(name string, t consts.PluginType) bool {
	return ofType(t)[name] != nil
}

func (builtins) Get(name string, t consts.PluginType) (func() (interface{}, error), bool) {
	factory, known := ofType(t)[name]
	return func() (interface{}, error) { return factory, nil }, known
}

func (builtins) Keys(t consts.PluginType) []string {
	var names []string
	for name := range ofType(t) {
		names = append(names, name)
	}
	return names
}

func (b builtins) DeprecationStatus(name string, t consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, t)
}

func (builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
