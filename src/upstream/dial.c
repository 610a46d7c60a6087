/* SPDX-License-Identifier: Apache-2.0 */
/* A fresh connection: the addresses that may be gone to, one after the other, and the tunnel when a
 * proxy is in between. mod_proxy would block in connect(), without a look at the client or the
 * request's deadline; it takes over a socket that is connected already. Runs in one request's
 * thread. */
#include "dial.h"

#include "aip/config.h"
#include "tunnel.h"

#include <apr_portable.h>
#include <http_log.h>
#include <sys/socket.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* Waits for a connect() that is under way, watching the client meanwhile. */
static apr_status_t connected(const aip_dial_t *d, apr_interval_time_t limit)
{
    int error = 0;
    socklen_t len = sizeof error;
    apr_status_t rv = d->plain->wait(d->plain->ctx, AIP_WAIT_WRITE, limit);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    return getsockopt(*d->fd, SOL_SOCKET, SO_ERROR, &error, &len) ? errno : error;
}

static apr_status_t connect_address(const aip_dial_t *d, apr_sockaddr_t *address,
                                    apr_interval_time_t limit)
{
    apr_socket_t *socket;
    apr_status_t rv = apr_socket_create(&socket, address->family, SOCK_STREAM, 0, d->conn->scpool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_os_sock_get(d->fd, socket);
    apr_socket_timeout_set(socket, 0);
    apr_socket_opt_set(socket, APR_TCP_NODELAY, 1);
    apr_socket_opt_set(socket, APR_SO_KEEPALIVE, 1);
    rv = d->source ? apr_socket_bind(socket, d->source) : APR_SUCCESS;
    rv = rv ? rv : apr_socket_connect(socket, address);
    if (APR_STATUS_IS_EINPROGRESS(rv) || APR_STATUS_IS_EAGAIN(rv)) {
        rv = connected(d, limit);
    }
    if (rv != APR_SUCCESS) {
        apr_socket_close(socket);
        return rv;
    }
    apr_socket_timeout_set(socket, d->endpoint->io_timeout);
    d->conn->sock = socket;
    return APR_SUCCESS;
}

/* The proxy's address is the operator's; what lies behind it is asked for by name. */
static bool address_ok(const aip_dial_t *d, const apr_sockaddr_t *a)
{
    const aip_endpoint_t *e = d->endpoint;
    return aip_egress_address_ok(e->egress, e->url.host,
                                 e->proxied ? NULL : (const struct sockaddr *)&a->sa);
}

static int count_addresses(const aip_dial_t *d)
{
    int n = 0;
    for (const apr_sockaddr_t *a = d->conn->addr; a; a = a->next) {
        n += address_ok(d, a);
    }
    return n;
}

static apr_status_t connect_new(const aip_dial_t *d)
{
    apr_status_t rv = APR_EACCES;
    int addresses = count_addresses(d); /* still to be tried: they share what is left of the time */
    for (apr_sockaddr_t *a = d->conn->addr; a && rv != APR_SUCCESS; a = a->next) {
        apr_interval_time_t left = d->end - apr_time_now();
        if (!address_ok(d, a)) {
            continue;
        }
        rv = left > 0 ? connect_address(d, a, left / addresses--) : APR_TIMEUP;
        if (d->r->connection->aborted) {
            break;
        }
    }
    return rv;
}

static aip_outcome_e connect_outcome(const aip_dial_t *d, apr_status_t rv)
{
    const aip_endpoint_t *e = d->endpoint;
    if (d->r->connection->aborted) {
        return AIP_OUTCOME_CLIENT_GONE;
    }
    if (APR_STATUS_IS_TIMEUP(rv)) {
        return d->deadline && apr_time_now() >= d->deadline ? AIP_OUTCOME_TOTAL_TIMEOUT
                                                            : AIP_OUTCOME_CONNECT_TIMEOUT;
    }
    if (d->conn->addr && count_addresses(d) == 0) {
        aip_address_e kind = aip_host_class(e->url.host);
        kind = kind ? kind : aip_address_class((const struct sockaddr *)&d->conn->addr->sa);
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, d->r,
                      "AIP0072: %s: not connected to %s: it has %s, and no AIEgressAllow names "
                      "that host",
                      e->name, e->url.origin, aip_address_class_name(kind));
        return AIP_OUTCOME_CONNECT;
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, rv, d->r, "AIP0024: %s: cannot connect to %s%s", e->name,
                  e->url.origin, e->proxied ? ": the proxy of AIEgressProxy is away" : "");
    return AIP_OUTCOME_CONNECT;
}

bool aip_dial(const aip_dial_t *d, aip_outcome_e *outcome)
{
    apr_status_t rv = connect_new(d);
    if (rv != APR_SUCCESS) {
        *outcome = connect_outcome(d, rv);
        return false;
    }
    rv = d->endpoint->proxied ? aip_tunnel_open(d->endpoint, d->r, d->plain, d->end) : APR_SUCCESS;
    if (rv != APR_SUCCESS) { /* which it has logged */
        *outcome = d->r->connection->aborted || APR_STATUS_IS_TIMEUP(rv) ? connect_outcome(d, rv)
                                                                         : AIP_OUTCOME_CONNECT;
    }
    return rv == APR_SUCCESS;
}
