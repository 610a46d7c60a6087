// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// request is one line of the log: what a test may know. Tokens and bodies do not come into it.
type request struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Namespace string `json:"namespace,omitempty"` // X-Vault-Namespace, which this Vault ignores
	Client    string `json:"client,omitempty"`    // common name of the client's certificate
}

// logged writes the line before the request is served, so whoever has the answer finds it.
func logged(out io.Writer, next http.Handler) http.Handler {
	var mutex sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := request{Method: r.Method, Path: r.URL.EscapedPath(), Namespace: r.Header.Get("X-Vault-Namespace")}
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			line.Client = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		text, err := json.Marshal(line)
		if err == nil {
			mutex.Lock()
			_, err = out.Write(append(text, '\n'))
			mutex.Unlock()
		}
		if err != nil {
			http.Error(w, "the request cannot be logged", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
}
