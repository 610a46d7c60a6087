/* SPDX-License-Identifier: Apache-2.0 */
/* A connection out of a worker's pool as the exchange sees it: sockets directly for http, mod_ssl's
 * filters for https, and one poll that watches upstream and client together. Used by one request's
 * thread. */
#include "aip/config.h"
#include "dial.h"
#include "proxy_api.h"
#include "tls_reason.h"

#include <apr_portable.h>
#include <apr_strings.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <poll.h>
#include <sys/socket.h>
#include <util_filter.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* Below mod_http2 the client's connection is another thread's; its end shows up as c->aborted,
 * looked for this often. */
#define SECONDARY_SLICE apr_time_from_msec(40)
/* A child that is stopped closes its clients' sockets, which a poll() that is under way does not
 * see; the next one says POLLNVAL, and a socket that is asked for only then has no descriptor. */
#define CLIENT_SLICE apr_time_from_sec(1)
#define CLIENT_GONE (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)
/* Records without data, such as session tickets, that are read in one go. Servers send two by
 * default; what goes on and on must not keep the deadlines from being looked at. */
#define EMPTY_RECORDS 256

struct aip_backend_t {
    request_rec *r;
    const aip_endpoint_t *endpoint;
    proxy_conn_rec *conn;
    aip_conn_t api;
    conn_rec *tls;          /* NULL for http */
    aip_tls_state_t *state; /* of that connection */
    apr_bucket_brigade *in;
    int fd, client_fd;
    apr_time_t deadline;               /* of the request, 0: none */
    apr_interval_time_t write_timeout; /* of a TLS connection, which waits by itself; 0: as it is */
    bool reused;
    bool handshake; /* still to be made */
};

static ap_filter_rec_t *dry_filter;

/* Between mod_ssl and the socket: whether the last read found the socket empty. */
static apr_status_t note_dry(ap_filter_t *f, apr_bucket_brigade *bb, ap_input_mode_t mode,
                             apr_read_type_e block, apr_off_t bytes)
{
    aip_tls_state_t *state = f->ctx;
    apr_status_t rv = ap_get_brigade(f->next, bb, mode, block, bytes);
    state->dry = rv != APR_SUCCESS || APR_BRIGADE_EMPTY(bb);
    return rv;
}

void aip_backend_register(void)
{
    dry_filter = ap_register_input_filter("AI_DRY", note_dry, NULL, AP_FTYPE_NETWORK - 1);
    aip_tls_reason_register();
}

static int client_socket(const request_rec *r)
{
    conn_rec *c = r->connection;
    apr_socket_t *socket = ap_get_conn_socket(c->master ? c->master : c);
    int fd = -1;
    if (socket) {
        apr_os_sock_get(&fd, socket);
        c->aborted |= fd < 0; /* closed already */
    }
    return fd;
}

bool aip_client_gone(request_rec *r)
{
    struct pollfd fd = {.fd = client_socket(r), .events = POLLRDHUP};
    if (fd.fd >= 0 && poll(&fd, 1, 0) > 0 && fd.revents & CLIENT_GONE) {
        r->connection->aborted = 1;
    }
    return r->connection->aborted;
}

static apr_status_t read_plain(void *ctx, char *buf, apr_size_t *len)
{
    const aip_backend_t *b = ctx;
    ssize_t n;
    do {
        n = recv(b->fd, buf, *len, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        *len = (apr_size_t)n;
        return APR_SUCCESS;
    }
    return n == 0 ? APR_EOF : errno == EWOULDBLOCK ? APR_EAGAIN : APR_FROM_OS_ERROR(errno);
}

static apr_status_t write_plain(void *ctx, const struct iovec *vec, int n, apr_size_t *written)
{
    const aip_backend_t *b = ctx;
    struct msghdr message = {.msg_iov = (struct iovec *)vec, .msg_iovlen = (size_t)n};
    ssize_t sent;
    do {
        sent = sendmsg(b->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        *written = (apr_size_t)sent;
        return APR_SUCCESS;
    }
    return errno == EWOULDBLOCK ? APR_EAGAIN : APR_FROM_OS_ERROR(errno);
}

/* mod_ssl says EAGAIN for each record without data (session tickets), though the next may be in a
 * buffer already, where no poll() sees it: nothing is left only when the socket was found empty. */
static apr_status_t read_records(aip_backend_t *b, ap_input_mode_t mode, apr_size_t room)
{
    apr_status_t rv = APR_EAGAIN;
    b->state->dry = false;
    for (int i = 0; i < EMPTY_RECORDS && rv == APR_EAGAIN && !b->state->dry; i++) {
        rv = ap_get_brigade(b->tls->input_filters, b->in, mode, APR_NONBLOCK_READ, (apr_off_t)room);
        if (APR_STATUS_IS_EAGAIN(rv) || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(b->in))) {
            rv = APR_EAGAIN;
        }
    }
    return rv;
}

static apr_status_t read_tls(void *ctx, char *buf, apr_size_t *len)
{
    aip_backend_t *b = ctx;
    apr_status_t rv = read_records(b, AP_MODE_READBYTES, *len);
    if (rv == APR_SUCCESS && APR_BUCKET_IS_EOS(APR_BRIGADE_FIRST(b->in))) {
        rv = APR_EOF;
    }
    if (rv == APR_SUCCESS) {
        rv = apr_brigade_flatten(b->in, buf, len);
        b->state->received = true;
        rv = rv == APR_SUCCESS && *len == 0 ? APR_EAGAIN : rv;
    }
    apr_brigade_cleanup(b->in);
    return rv;
}

static apr_status_t pass_tls(aip_backend_t *b, apr_bucket_brigade *out)
{
    APR_BRIGADE_INSERT_TAIL(out, apr_bucket_flush_create(out->bucket_alloc));
    apr_status_t rv = ap_pass_brigade(b->tls->output_filters, out);
    apr_brigade_cleanup(out);
    return rv == APR_SUCCESS && b->tls->aborted ? APR_ECONNABORTED : rv;
}

/* By itself, because its limit is another one: it belongs to connecting. */
static apr_status_t shake_hands(aip_backend_t *b, apr_bucket_brigade *out)
{
    apr_interval_time_t limit = b->endpoint->connect_timeout;
    if (b->deadline && b->deadline - apr_time_now() < limit) {
        limit = b->deadline - apr_time_now() > 1000 ? b->deadline - apr_time_now() : 1000;
    }
    apr_socket_timeout_set(b->conn->sock, limit);
    apr_status_t rv = pass_tls(b, out);
    b->handshake = false;
    if (b->write_timeout) {
        apr_socket_timeout_set(b->conn->sock, b->write_timeout);
    }
    return rv;
}

/* Blocks up to the socket's time-out; all or nothing, as far as one can know. */
static apr_status_t write_tls(void *ctx, const struct iovec *vec, int n, apr_size_t *written)
{
    aip_backend_t *b = ctx;
    apr_bucket_alloc_t *alloc = b->tls->bucket_alloc;
    apr_bucket_brigade *out = apr_brigade_create(b->r->pool, alloc);
    apr_size_t total = 0;
    apr_status_t rv = b->handshake ? shake_hands(b, out) : APR_SUCCESS;
    *written = 0;
    if (rv != APR_SUCCESS) {
        return rv;
    }
    for (int i = 0; i < n; i++) {
        if (vec[i].iov_len) {
            APR_BRIGADE_INSERT_TAIL(
                out, apr_bucket_transient_create(vec[i].iov_base, vec[i].iov_len, alloc));
            total += vec[i].iov_len;
        }
    }
    rv = pass_tls(b, out);
    *written = total; /* after a failure, too, bytes may have gone out */
    return rv;
}

static bool tls_failed(void *ctx) /* as mod_ssl says it */
{
    const aip_backend_t *b = ctx;
    const char *rv = b->tls ? apr_table_get(b->tls->notes, "SSL_connect_rv") : NULL;
    return rv && strcmp(rv, "err") == 0;
}

static apr_time_t now(void *ctx)
{
    (void)ctx;
    return apr_time_now();
}

static bool client_gone(const aip_backend_t *b, short events)
{
    if (events & CLIENT_GONE) {
        b->r->connection->aborted = 1;
    }
    return b->r->connection->aborted;
}

static apr_status_t wait_both(void *ctx, aip_wait_e what, apr_interval_time_t timeout)
{
    aip_backend_t *b = ctx;
    apr_time_t end = apr_time_now() + timeout;
    short events =
        (short)((what & AIP_WAIT_READ ? POLLIN : 0) | (what & AIP_WAIT_WRITE ? POLLOUT : 0));
    struct pollfd fds[2] = {{.fd = b->fd, .events = events},
                            {.fd = b->client_fd, .events = POLLRDHUP}};
    for (;;) {
        apr_interval_time_t slice = b->r->connection->master ? SECONDARY_SLICE : CLIENT_SLICE;
        apr_interval_time_t step = timeout < slice ? timeout : slice;
        int n = poll(fds, b->client_fd >= 0 ? 2 : 1, (int)((step + 999) / 1000));
        if (n < 0 && errno != EINTR) {
            return APR_FROM_OS_ERROR(errno);
        }
        if (client_gone(b, n > 0 ? fds[1].revents : 0)) {
            return APR_ECONNABORTED;
        }
        if (n > 0 && fds[0].revents) {
            return APR_SUCCESS;
        }
        timeout = end - apr_time_now();
        if (timeout <= 0) {
            return APR_TIMEUP;
        }
    }
}

/* What the pool has, or an address to connect to. Through a proxy that is the proxy's; mod_proxy is
 * not told that TLS will follow, because it would make the tunnel itself. */
static bool determine(aip_backend_t *b, const aip_proxy_api_t *proxy, proxy_server_conf *conf)
{
    const aip_endpoint_t *e = b->endpoint;
    request_rec *r = b->r;
    apr_uri_t uri;
    char port[32];
    /* determine_connection leaves only the path in it */
    char *url = apr_pstrcat(r->pool, e->url.origin, e->url.path, NULL);
    b->conn->is_ssl = e->url.tls && !e->proxied;
    if (proxy->determine_connection(r->pool, r, conf, e->worker, b->conn, &uri, &url,
                                    e->proxied ? e->egress->proxy_host : NULL,
                                    e->proxied ? (apr_port_t)e->egress->proxy_port : 0, port,
                                    sizeof port) != OK) {
        return false;
    }
    if (b->conn->sock) { /* a dead one is closed within */
        proxy->check_connection("AI", b->conn, r->server, 0, 0);
    }
    b->conn->is_ssl = e->url.tls;
    if (e->proxied && e->url.tls && !b->conn->ssl_hostname) {
        b->conn->ssl_hostname = apr_pstrdup(b->conn->scpool, e->url.host);
    }
    return true;
}

static bool connect_to(aip_backend_t *b, const aip_proxy_api_t *proxy, aip_outcome_e *outcome)
{
    const aip_endpoint_t *e = b->endpoint;
    proxy_server_conf *conf = ap_get_module_config(e->server->module_config, proxy->module);
    apr_time_t end = apr_time_now() + e->connect_timeout;
    end = b->deadline && b->deadline < end ? b->deadline : end;
    *outcome = AIP_OUTCOME_CONNECT;
    if (proxy->acquire_connection("AI", &b->conn, e->worker, b->r->server) != OK ||
        !determine(b, proxy, conf)) {
        return false;
    }
    b->reused = b->conn->sock != NULL;
    if (b->reused) {
        apr_os_sock_get(&b->fd, b->conn->sock);
        return true;
    }
    aip_conn_t plain = {b, read_plain, write_plain, wait_both, now, tls_failed};
    aip_dial_t dial = {.r = b->r,
                       .endpoint = e,
                       .conn = b->conn,
                       .plain = &plain,
                       .fd = &b->fd,
                       .source = conf->source_address,
                       .end = end,
                       .deadline = b->deadline};
    return aip_dial(&dial, outcome);
}

/* mod_proxy hands the request's own configuration to mod_ssl, so the endpoint's section is merged
 * in for that moment. */
static bool connect_tls(aip_backend_t *b, const aip_proxy_api_t *proxy)
{
    request_rec *r = b->r;
    ap_conf_vector_t *own = r->per_dir_config;
    r->per_dir_config = ap_merge_per_dir_configs(r->pool, own, b->endpoint->section);
    b->handshake = b->conn->connection == NULL;
    int rc = proxy->connection_create_ex("AI", b->conn, r);
    r->per_dir_config = own;
    if (rc != OK) {
        return false;
    }
    b->tls = b->conn->connection;
    b->state = ap_get_module_config(b->tls->conn_config, &ai_proxy_adv_module);
    if (!b->state) {
        b->state = apr_pcalloc(b->tls->pool, sizeof *b->state);
        b->state->host = b->endpoint->url.host;
        ap_set_module_config(b->tls->conn_config, &ai_proxy_adv_module, b->state);
        ap_add_input_filter_handle(dry_filter, b->state, NULL, b->tls);
    }
    b->in = apr_brigade_create(r->pool, b->tls->bucket_alloc);
    return true;
}

/* A pooled connection has nothing to say before it is asked: bytes that came behind the last answer
 * would be taken for the next one, and each request would get the answer of the one before. */
static bool has_leftovers(aip_backend_t *b)
{
    char byte;
    apr_status_t rv = APR_EAGAIN;
    if (b->tls) {
        rv = read_records(b, AP_MODE_SPECULATIVE, 1);
        apr_brigade_cleanup(b->in);
    } else {
        ssize_t n;
        do {
            n = recv(b->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        rv = n > 0 ? APR_SUCCESS : n == 0 ? APR_EOF : APR_FROM_OS_ERROR(errno);
    }
    if (rv == APR_SUCCESS) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, b->r,
                      "AIP0023: %s: %s sent something that nobody asked for on an idle connection, "
                      "which is closed",
                      b->endpoint->name, b->endpoint->url.origin);
    }
    return !APR_STATUS_IS_EAGAIN(rv);
}

/* One connection, made or out of the pool. */
static bool open_one(aip_backend_t *b, aip_outcome_e *outcome)
{
    const aip_proxy_api_t *proxy = aip_proxy_api();
    if (!connect_to(b, proxy, outcome)) {
        return false;
    }
    if (b->endpoint->url.tls && !connect_tls(b, proxy)) {
        *outcome = AIP_OUTCOME_TLS;
        return false;
    }
    return true;
}

aip_backend_t *aip_backend_open(request_rec *r, const aip_endpoint_t *endpoint, apr_time_t deadline,
                                aip_outcome_e *outcome)
{
    aip_backend_t *b = apr_pcalloc(r->pool, sizeof *b);
    *b = (aip_backend_t){.r = r,
                         .endpoint = endpoint,
                         .fd = -1,
                         .client_fd = client_socket(r),
                         .deadline = deadline};
    b->api = endpoint->url.tls
                 ? (aip_conn_t){b, read_tls, write_tls, wait_both, now, tls_failed}
                 : (aip_conn_t){b, read_plain, write_plain, wait_both, now, tls_failed};
    while (open_one(b, outcome)) {
        if (!b->reused || !has_leftovers(b)) {
            return b;
        }
        aip_backend_close(b, false); /* there are only so many of them */
    }
    if (b->conn) {
        aip_backend_close(b, false);
    }
    return NULL;
}

const aip_conn_t *aip_backend_conn(const aip_backend_t *backend)
{
    return &backend->api;
}

void aip_backend_write_timeout(aip_backend_t *backend, apr_interval_time_t timeout)
{
    backend->write_timeout = timeout;
    if (backend->tls && !backend->handshake) {
        apr_socket_timeout_set(backend->conn->sock, timeout);
    }
}

bool aip_backend_ready(aip_backend_t *backend)
{
    return !backend->tls || !backend->handshake ||
           shake_hands(backend, apr_brigade_create(backend->r->pool, backend->tls->bucket_alloc)) ==
               APR_SUCCESS;
}

bool aip_backend_reused(const aip_backend_t *backend)
{
    return backend->reused;
}

static void log_tls(const aip_backend_t *b)
{
    const char *reason = aip_tls_reason(b->state, tls_failed((void *)b));
    if (reason) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, b->r, "AIP0071: %s: TLS with %s failed: %s",
                      b->endpoint->name, b->endpoint->url.origin, reason);
    }
}

void aip_backend_close(aip_backend_t *backend, bool reusable)
{
    if (!reusable && backend->state) {
        log_tls(backend);
    }
    backend->conn->close = !reusable;
    aip_proxy_api()->release_connection("AI", backend->conn, backend->r->server);
    backend->conn = NULL;
}
