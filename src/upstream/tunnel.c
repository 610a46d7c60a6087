/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT by hand, for https and http alike: mod_proxy's own takes the credentials from the
 * client's request, and blocks. Runs in the request's thread, right after connect(). */
#include "tunnel.h"

#include "aip/config.h"

#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

typedef struct tunnel_t {
    const aip_endpoint_t *endpoint;
    request_rec *r;
    const aip_conn_t *plain;
    apr_time_t end;
} tunnel_t;

static apr_status_t wait_for(const tunnel_t *t, aip_wait_e what)
{
    apr_interval_time_t left = t->end - apr_time_now();
    return left > 0 ? t->plain->wait(t->plain->ctx, what, left) : APR_TIMEUP;
}

static apr_status_t ask(const tunnel_t *t)
{
    const aip_url_t *url = &t->endpoint->url;
    const char *head = aip_connect_head(t->endpoint->egress, url->host, url->port, t->r->pool);
    size_t len = head ? strlen(head) : 0, sent = 0;
    if (!head) {
        return APR_ENOENT;
    }
    while (sent < len) {
        struct iovec vec = {.iov_base = (char *)head + sent, .iov_len = len - sent};
        apr_size_t n = 0;
        apr_status_t rv = t->plain->write(t->plain->ctx, &vec, 1, &n);
        rv = APR_STATUS_IS_EAGAIN(rv) ? wait_for(t, AIP_WAIT_WRITE) : rv;
        if (rv != APR_SUCCESS) {
            return rv;
        }
        sent += n;
    }
    return APR_SUCCESS;
}

/* @param answer  out: what the proxy said, when it has said something */
static apr_status_t hear(const tunnel_t *t, aip_connect_e *answer, int *status)
{
    char *head = apr_palloc(t->r->pool, AIP_CONNECT_MAX);
    size_t len = 0;
    *answer = AIP_CONNECT_MORE;
    while (*answer == AIP_CONNECT_MORE) {
        apr_size_t n = AIP_CONNECT_MAX - len;
        if (n == 0) {
            *answer = AIP_CONNECT_BAD;
            break;
        }
        apr_status_t rv = t->plain->read(t->plain->ctx, head + len, &n);
        if (APR_STATUS_IS_EAGAIN(rv)) {
            rv = wait_for(t, AIP_WAIT_READ);
            n = 0;
        }
        if (rv != APR_SUCCESS) {
            return rv;
        }
        len += n;
        *answer = aip_connect_answer(head, len, status);
    }
    return APR_SUCCESS;
}

static void complain(const tunnel_t *t, apr_status_t rv, aip_connect_e answer, int status)
{
    const char *why = APR_STATUS_IS_ENOENT(rv)    ? "AIEgressProxyAuth has no value"
                      : APR_STATUS_IS_TIMEUP(rv)  ? "it did not answer in time"
                      : rv != APR_SUCCESS         ? "it closed the connection"
                      : answer == AIP_CONNECT_BAD ? "its answer is no HTTP head alone"
                      : status == HTTP_PROXY_AUTHENTICATION_REQUIRED
                          ? "it wants other credentials (AIEgressProxyAuth)"
                          : "it refused";
    ap_log_rerror(APLOG_MARK, APLOG_WARNING, APR_STATUS_IS_EOF(rv) ? 0 : rv, t->r,
                  "AIP0070: %s: no tunnel to %s through the proxy %s:%d: %s, status %d",
                  t->endpoint->name, t->endpoint->url.origin, t->endpoint->egress->proxy_host,
                  t->endpoint->egress->proxy_port, why, status);
}

apr_status_t aip_tunnel_open(const aip_endpoint_t *endpoint, request_rec *r,
                             const aip_conn_t *plain, apr_time_t end)
{
    tunnel_t t = {endpoint, r, plain, end};
    aip_connect_e answer = AIP_CONNECT_MORE;
    int status = 0;
    apr_status_t rv = ask(&t);
    rv = rv ? rv : hear(&t, &answer, &status);
    if (rv == APR_SUCCESS && answer == AIP_CONNECT_OPEN) {
        return APR_SUCCESS;
    }
    if (!r->connection->aborted) {
        complain(&t, rv, answer, status);
    }
    return rv ? rv : APR_EGENERAL;
}
