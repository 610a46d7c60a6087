/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_TUNNEL_H
#define AIP_SRC_UPSTREAM_TUNNEL_H
/* Private to src/upstream: the way through the proxy of egress. */

#include "aip/endpoint.h"

/**
 * Asks the proxy at the other end of a fresh connection for a tunnel to the endpoint.
 * @param plain  the connection without TLS; its wait() watches the client
 * @param end    when it must be there
 * @return APR_SUCCESS; APR_TIMEUP; APR_ECONNABORTED: the client left; else it was refused. All but
 * a client that left is logged.
 */
apr_status_t aip_tunnel_open(const aip_endpoint_t *endpoint, request_rec *r,
                             const aip_conn_t *plain, apr_time_t end);

#endif
