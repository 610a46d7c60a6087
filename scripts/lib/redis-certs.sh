#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Certificates for the tests of TLS to Redis, made anew each time; only openssl is needed.
#
#   redis-certs.sh DIR
#
# DIR gets, each with its key in NAME.key: authorities ca and stranger-ca; of ca: good (redis.test,
# localhost, 127.0.0.1), named (redis.test only), wild (*.redis.test), expired (as good); stranger
# (as good, of stranger-ca); self (as good, signed by itself). Certificate and key in one file, for
# clients: client, client-stranger, client-encrypted (passphrase), client-mismatch (of another key).
set -eu

dir=${1:?folder}
umask 077
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
all='DNS:redis.test,DNS:localhost,IP:127.0.0.1'

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }

authority() {
    key "$1"
    openssl req -new -x509 -sha256 -days 30 -key "$1.key" -subj "/CN=test $1" -out "$1.pem"
}

request() {
    key "$1"
    openssl req -new -sha256 -key "$1.key" -subj "/CN=test $1" -out "$1.csr"
}

signed() {
    request "$1"
    echo "subjectAltName=$3" >"$1.ext"
    openssl x509 -req -sha256 -days 30 -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial \
        -extfile "$1.ext" -out "$1.pem"
}

# x509 -req has no dates of one's own before OpenSSL 3.4; ca has.
expired() {
    request "$1"
    : >index
    echo 01 >serial
    cat >ca.conf <<CONF
[ca]
default_ca = it
[it]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = $2
CONF
    openssl ca -batch -notext -config ca.conf -cert ca.pem -keyfile ca.key -in "$1.csr" \
        -startdate 20200101000000Z -enddate 20210101000000Z -out "$1.pem"
}

{
    authority ca
    authority stranger-ca
    signed good ca "$all"
    signed named ca DNS:redis.test
    signed wild ca 'DNS:*.redis.test'
    signed stranger stranger-ca "$all"
    expired expired "$all"
    key self
    openssl req -new -x509 -sha256 -days 30 -key self.key -subj /CN=redis.test \
        -addext "subjectAltName=$all" -out self.pem
    signed machine ca DNS:gateway.test
    signed machine-stranger stranger-ca DNS:gateway.test
    cat machine.pem machine.key >client.pem
    cat machine-stranger.pem machine-stranger.key >client-stranger.pem
    openssl ec -in machine.key -aes128 -passout pass:not-known-here -out machine-encrypted.key
    cat machine.pem machine-encrypted.key >client-encrypted.pem
    cat machine.pem good.key >client-mismatch.pem
} >log 2>&1 || {
    cat log >&2
    exit 1
}
