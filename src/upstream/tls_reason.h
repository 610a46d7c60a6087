/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_TLS_REASON_H
#define AIP_SRC_UPSTREAM_TLS_REASON_H
/* Private to src/upstream: why TLS with a peer failed. mod_ssl says it at level info only, and
 * frees what knows it, so this listens while the handshake is made. */

#include <httpd.h>

#include <stdbool.h>

/** What a connection below mod_ssl has in this module's slot of its conn_config; as long as it. */
typedef struct aip_tls_state_t {
    bool dry;           /**< the last read found the socket empty */
    const char *host;   /**< whose name the certificate must bear */
    const char *reason; /**< why it failed, in words without a host; NULL: it did not, or unknown */
    bool shaken;        /**< OpenSSL was content; what fails after that is mod_ssl's decision */
    bool unshown;       /**< the peer asked for a certificate, and there was none to show */
    bool received;      /**< the peer has said something since; set by who reads */
} aip_tls_state_t;

/** register_hooks. */
void aip_tls_reason_register(void);

/** The reason for the log; `refused`: mod_ssl says that the handshake failed. NULL: unknown, or TLS
 * did not fail. */
const char *aip_tls_reason(const aip_tls_state_t *state, bool refused);

#endif
