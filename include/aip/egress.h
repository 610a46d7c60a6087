/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_EGRESS_H
#define AIP_EGRESS_H
/* What holds for all connections that leave: targets, embeddings, vaults, token services, Redis and
 * PostgreSQL. Said once, by the AIEgress* directives of a server. Pure; all functions are
 * thread-safe. */

#include "aip/provider.h"

#include <apr_network_io.h>
#include <apr_tables.h>

struct sockaddr;

/** Immutable; strings live as long as the configuration. All members 0: the defaults. */
typedef struct aip_egress_t {
    const char *proxy_host; /**< HTTP proxy that is asked to CONNECT; NULL: none */
    int proxy_port;
    const char *proxy_auth;             /**< "user:password", may hold references; NULL: none */
    const apr_array_header_t *no_proxy; /**< const char *: hosts, .domains, addresses, networks */
    const char *ca_file;                /**< PEM bundle; NULL: the system's */
    const char *client_cert;            /**< PEM file with certificate and key; NULL: none */
    int min_tls;                        /**< 12 or 13; 0: 12 */
    const apr_array_header_t *allow;    /**< const char *: AIEgressAllow; NULL: none */
    aip_span_t ca_pem, client_pem;      /**< the two files' contents, read as root by
                                             aip_egress_load(); data NULL: not read */
} aip_egress_t;

/** What an address is for. */
typedef enum aip_address_e {
    AIP_ADDRESS_ORDINARY,
    AIP_ADDRESS_LINK_LOCAL, /**< 169.254.0.0/16, fe80::/10 */
    AIP_ADDRESS_METADATA    /**< where clouds give credentials to whoever asks */
} aip_address_e;

/** Class of a resolved address; also of an IPv4 address inside an IPv6 one (mapped, compatible,
 * NAT64, 6to4). */
aip_address_e aip_address_class(const struct sockaddr *address);

/** Class of a host before it is resolved: an address in any spelling that resolvers take (hex,
 * octal, one number), or a name by which clouds know their metadata service. */
aip_address_e aip_host_class(const char *host);

/** "a link-local address", "the address of a metadata service"; "an ordinary address" */
const char *aip_address_class_name(aip_address_e kind);

/** Whether `host` is reached through the proxy: there is one and AIEgressNoProxy does not name the
 * host. Networks match hosts that are written as addresses; no name is resolved. */
bool aip_egress_proxied(const aip_egress_t *egress, const char *host);

/**
 * Whether AIEgressAllow lets a URL pass; everything passes when there is none. Compared are scheme,
 * host (case, final dot and spelling of addresses do not count), port (the scheme's when not
 * written) and path, not the query. A path that a server could read as another one passes nowhere:
 * with `.` or `..` segments, `\`, encoded slashes, or an encoded `%`.
 */
bool aip_egress_allows(const aip_egress_t *egress, const aip_url_t *url);

/** Whether AIEgressAllow names a host outright: the host itself, or a network of link-local or
 * metadata addresses that it lies in; `*` names nothing. Only then may such an address be used. */
bool aip_egress_names(const aip_egress_t *egress, const char *host);

/** Whether a connection to `host` at `address` may be made. `address` NULL: not resolved here. */
bool aip_egress_address_ok(const aip_egress_t *egress, const char *host,
                           const struct sockaddr *address);

/** NULL, or what is wrong with one value of AIEgressAllow or AIEgressNoProxy. */
const char *aip_egress_allow_error(const char *pattern, apr_pool_t *pool);
const char *aip_egress_no_proxy_error(const char *entry, apr_pool_t *pool);

/**
 * Reads ca_file and client_cert into ca_pem and client_pem and looks whether they hold what they
 * must: a certificate; a certificate and the key that belongs to it.
 * @return NULL, or a sentence that names the directive and the file
 */
const char *aip_egress_load(aip_egress_t *egress, apr_pool_t *pool);

/** The credentials for the proxy as they are sent, out of their vault; NULL: none. */
const char *aip_egress_proxy_auth(const aip_egress_t *egress, apr_pool_t *pool);

/** "Proxy-Authorization: Basic ..." for the proxy, "" when it wants none. @return NULL: the
 * credentials have no value at the moment */
const char *aip_proxy_authorization(const aip_egress_t *egress, apr_pool_t *pool);

/**
 * The head that asks a proxy for a tunnel to host:port, with Proxy-Authorization when there are
 * credentials. @return NULL: they have no value at the moment
 */
const char *aip_connect_head(const aip_egress_t *egress, const char *host, int port,
                             apr_pool_t *pool);

/** What a proxy has answered so far. */
typedef enum aip_connect_e {
    AIP_CONNECT_MORE, /**< the head is not complete */
    AIP_CONNECT_OPEN, /**< a 2xx, and not a byte after it */
    AIP_CONNECT_NO,   /**< another status */
    AIP_CONNECT_BAD   /**< no HTTP, or bytes of the tunnel before anything was sent into it */
} aip_connect_e;

/** Longest head of a proxy's answer, interim answers included. */
#define AIP_CONNECT_MAX 16384

/** @param status  out: of the final answer, 0 while there is none */
aip_connect_e aip_connect_answer(const char *data, size_t len, int *status);

#endif
