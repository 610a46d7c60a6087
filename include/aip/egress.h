/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_EGRESS_H
#define AIP_EGRESS_H
/* What holds for all connections that leave: targets, embeddings, vaults, token services, Redis and
 * PostgreSQL. Said once, by the AIEgress* directives of a server. */

#include "aip/aip.h"

#include <apr_network_io.h>
#include <apr_tables.h>

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
} aip_egress_t;

#endif
