/* SPDX-License-Identifier: Apache-2.0 */
/* TLS for connections to Redis: trust, client certificate and protocol of one configuration, the
 * handshake within its time, and the words for what went wrong. The SSL object is ours, because
 * hiredis' own context checks no name before 1.5. Stateless but for the SSL_CTX, which threads
 * share; called from redis_connection.c. Without hiredis_ssl (before 1.0) every start fails. */

#include "redis_tls.h"

#include <apr_strings.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#ifdef HAVE_HIREDIS_SSL
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#endif

#define FAIL(err, pool, status, code, ...)                                                         \
    aip_error_set(err, pool, status, "gateway_error", code, NULL, __VA_ARGS__)

bool aip_redis_wait(const redisContext *c, short events, apr_time_t deadline)
{
    for (;;) {
        struct pollfd fd = {.fd = c->fd, .events = events};
        apr_time_t left = deadline ? deadline - apr_time_now() : 0;
        int ms = -1;

        if (deadline) {
            if (left <= 0) {
                return false;
            }
            ms = apr_time_as_msec(left) < INT_MAX ? (int)apr_time_as_msec(left) + 1 : INT_MAX;
        }
        /* An error is for the read or write to find. */
        if (poll(&fd, 1, ms) != 0 && fd.revents) {
            return true;
        }
    }
}

#ifndef HAVE_HIREDIS_SSL

bool aip_redis_has_tls(void)
{
    return false;
}

const char *aip_redis_tls_check(const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    (void)conf, (void)pool;
    return "this build has no TLS to Redis (hiredis_ssl)";
}

const aip_redis_tls_t *aip_redis_tls_create(const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    (void)conf, (void)pool;
    return NULL;
}

apr_status_t aip_redis_tls_start(const aip_redis_tls_t *shared, const aip_redis_conf_t *conf,
                                 redisContext *c, apr_time_t deadline, apr_pool_t *pool,
                                 aip_error_t *err)
{
    (void)shared, (void)conf, (void)c, (void)deadline;
    return FAIL(err, pool, 502, "vectordb_error",
                "redis: this build has no TLS to Redis (hiredis_ssl)");
}

void aip_redis_tls_forget(void)
{
}

const char *aip_redis_tls_reason(void)
{
    return NULL;
}

#else

struct aip_redis_tls_t {
    SSL_CTX *ctx;
    const char *fault;     /* why there is none; NULL: there is one */
    const char *name;      /* of the server, without a dot at the end */
    bool is_address;       /* name is an IP address: no SNI, another field of the certificate */
    bool verify;           /* chain and name */
    bool with_certificate; /* we show one */
};

bool aip_redis_has_tls(void)
{
    return true;
}

void aip_redis_tls_forget(void)
{
    ERR_clear_error();
}

const char *aip_redis_tls_reason(void)
{
    unsigned long error = ERR_peek_last_error();

    return error ? ERR_reason_error_string(error) : NULL;
}

/* ---- What connections share ---- */

static apr_status_t free_ctx(void *ctx)
{
    SSL_CTX_free(ctx);
    return APR_SUCCESS;
}

/** An encrypted key is an error; OpenSSL would ask the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *data)
{
    (void)buf, (void)size, (void)writing, (void)data;
    return -1;
}

static const char *file_fault(const char *what, const char *path, apr_pool_t *pool)
{
    /* The first error is the cause. A missing file is one of the system's, for which OpenSSL has no
     * words. */
    unsigned long first = ERR_peek_error();
    const char *reason = ERR_GET_LIB(first) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(first))
                         : first                           ? ERR_reason_error_string(first)
                                                           : NULL;

    return apr_psprintf(pool, "%s %s: %s", what, path, reason ? reason : "cannot be used");
}

static const char *load_files(SSL_CTX *ctx, const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    const char *own = conf->client_cert;

    if (conf->ssl_verify && conf->ca_file &&
        !SSL_CTX_load_verify_locations(ctx, conf->ca_file, NULL)) {
        return file_fault("the CA file", conf->ca_file, pool);
    }
    if (conf->ssl_verify && !conf->ca_file && !SSL_CTX_set_default_verify_paths(ctx)) {
        return "the system's CA bundle cannot be used";
    }
    if (own && SSL_CTX_use_certificate_chain_file(ctx, own) != 1) {
        return file_fault("the client certificate", own, pool);
    }
    if (own && (SSL_CTX_use_PrivateKey_file(ctx, own, SSL_FILETYPE_PEM) != 1 ||
                SSL_CTX_check_private_key(ctx) != 1)) {
        return file_fault("the client certificate's key (in the same file, not encrypted)", own,
                          pool);
    }
    return NULL;
}

static const char *set_up(aip_redis_tls_t *tls, const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (!ctx) {
        return "no memory";
    }
    tls->ctx = ctx;
    apr_pool_cleanup_register(pool, ctx, free_ctx, apr_pool_cleanup_null);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_verify(ctx, tls->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (!SSL_CTX_set_min_proto_version(ctx,
                                       conf->min_tls == 13 ? TLS1_3_VERSION : TLS1_2_VERSION)) {
        return "OpenSSL does not take the minimum protocol";
    }
    return load_files(ctx, conf, pool);
}

static void take_name(aip_redis_tls_t *tls, const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    const char *name = conf->server_name ? conf->server_name : conf->host;
    apr_size_t len = strlen(name);
    unsigned char address[sizeof(struct in6_addr)];

    /* "redis.example." is an absolute name; certificates and SNI have it without the dot. */
    tls->name = apr_pstrmemdup(pool, name, len > 1 && name[len - 1] == '.' ? len - 1 : len);
    tls->is_address =
        inet_pton(AF_INET, tls->name, address) == 1 || inet_pton(AF_INET6, tls->name, address) == 1;
}

const aip_redis_tls_t *aip_redis_tls_create(const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    aip_redis_tls_t *tls = apr_pcalloc(pool, sizeof(*tls));

    take_name(tls, conf, pool);
    tls->verify = conf->ssl_verify;
    tls->with_certificate = conf->client_cert != NULL;
    ERR_clear_error();
    tls->fault = set_up(tls, conf, pool);
    ERR_clear_error();
    return tls;
}

const char *aip_redis_tls_check(const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    return aip_redis_tls_create(conf, pool)->fault;
}

/* ---- The handshake ---- */

/** A session of our own: whom it must be with, and who is asked for. */
static SSL *session_create(const aip_redis_tls_t *tls)
{
    SSL *ssl = SSL_new(tls->ctx);
    X509_VERIFY_PARAM *param = ssl ? SSL_get0_param(ssl) : NULL;
    /* OpenSSL takes an empty name for "any": nothing has that name. */
    bool good = ssl && tls->name[0];

    if (good && tls->verify) {
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        good = tls->is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, tls->name) == 1
                               : SSL_set1_host(ssl, tls->name) == 1;
    }
    if (good && !tls->is_address) {
        good = SSL_set_tlsext_host_name(ssl, tls->name) == 1;
    }
    if (!good) {
        SSL_free(ssl);
        return NULL;
    }
    return ssl;
}

/** Why a handshake failed: the certificate, the peer's or our own complaint, or the connection.
 * `error`: errno right after it */
static apr_status_t handshake_failed(const aip_redis_tls_t *tls, const SSL *ssl, int error,
                                     apr_pool_t *pool, aip_error_t *err)
{
    long verdict = SSL_get_verify_result(ssl);
    const char *reason = aip_redis_tls_reason(), *hint = "";

    if (tls->verify && verdict != X509_V_OK) {
        return FAIL(err, pool, 502, "vectordb_unreachable",
                    "redis: TLS: certificate verify failed: %s (for %s)",
                    X509_verify_cert_error_string(verdict), tls->name);
    }
    switch (ERR_GET_REASON(ERR_peek_last_error())) {
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE: /* what TLS 1.2 says to it */
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case 0: /* just closed */
        hint = tls->with_certificate ? "" : "; no client certificate is configured";
        break;
    default:
        break;
    }
    if (!reason) {
        reason = error ? strerror(error) : "the server closed the connection";
    }
    return FAIL(err, pool, 502, "vectordb_unreachable", "redis: TLS: the handshake failed: %s%s",
                reason, hint);
}

/** Goes on until the handshake is done. @return 1 done, 0 failed, -1 out of time */
static int handshake_finish(SSL *ssl, const redisContext *c, apr_time_t deadline)
{
    for (;;) {
        int result, events;

        ERR_clear_error();
        errno = 0;
        result = SSL_do_handshake(ssl);
        if (result == 1) {
            return 1;
        }
        switch (SSL_get_error(ssl, result)) {
        case SSL_ERROR_WANT_READ:
            events = POLLIN;
            break;
        case SSL_ERROR_WANT_WRITE:
            events = POLLOUT;
            break;
        default:
            return 0;
        }
        if (!aip_redis_wait(c, (short)events, deadline)) {
            return -1;
        }
    }
}

apr_status_t aip_redis_tls_start(const aip_redis_tls_t *shared, const aip_redis_conf_t *conf,
                                 redisContext *c, apr_time_t deadline, apr_pool_t *pool,
                                 aip_error_t *err)
{
    apr_status_t status = APR_SUCCESS;
    SSL *ssl;
    int done;
    aip_redis_tls_t own = *shared, *tls = &own;

    take_name(tls, conf, pool); /* as the secrets of this connection say */

    if (tls->fault) {
        return FAIL(err, pool, 502, "vectordb_error", "redis: TLS: %s", tls->fault);
    }
    ERR_clear_error();
    ssl = session_create(tls);
    if (!ssl) {
        ERR_clear_error();
        return FAIL(err, pool, 502, "vectordb_error", "redis: TLS does not take the server name");
    }
    c->flags &= ~REDIS_BLOCK;
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    errno = 0;
    if (redisInitiateSSL(c, ssl) != REDIS_OK) {
        status = handshake_failed(tls, ssl, errno, pool, err);
        SSL_free(ssl); /* the connection owns it only after success */
    } else if ((done = handshake_finish(ssl, c, deadline)) == 0) {
        status = handshake_failed(tls, ssl, errno, pool, err);
    } else if (done < 0) {
        status = FAIL(err, pool, 504, "vectordb_timeout",
                      "redis: TLS: no handshake in time; is it the port for TLS?");
    }
    ERR_clear_error();
    return status;
}

#endif
