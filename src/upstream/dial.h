/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_DIAL_H
#define AIP_SRC_UPSTREAM_DIAL_H
/* Private to src/upstream: a connection that the pool does not have yet. */

#include "aip/endpoint.h"

#include <mod_proxy.h>

typedef struct aip_dial_t {
    request_rec *r;
    const aip_endpoint_t *endpoint;
    proxy_conn_rec *conn;    /**< its addresses are known; gets the socket */
    const aip_conn_t *plain; /**< reads and writes *fd, and watches the client */
    int *fd;
    apr_sockaddr_t *source; /**< ProxySourceAddress, or NULL */
    apr_time_t end;         /**< when it must be there */
    apr_time_t deadline;    /**< of the request, 0: none */
} aip_dial_t;

/** Connects, through the proxy where there is one. @param outcome  out on failure, which is logged
 */
bool aip_dial(const aip_dial_t *dial, aip_outcome_e *outcome);

#endif
