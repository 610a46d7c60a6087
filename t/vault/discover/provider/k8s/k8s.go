// SPDX-License-Identifier: Apache-2.0

// Package k8s is the one provider that Vault names itself.
package k8s

import (
	"errors"
	"log"
)

// Provider finds nobody.
type Provider struct{}

func (*Provider) Addrs(map[string]string, *log.Logger) ([]string, error) {
	return nil, errors.New("the test server is alone")
}

func (*Provider) Help() string { return "" }
