/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to Redis: made ready (TLS, AUTH, SELECT), used within the configured time, and
 * judged when it fails; and what the server's error replies mean. Stateless, called by the pool in
 * redis_pool.c and by the vector store. Works with hiredis 0.14 and 1.x. A plain connection blocks
 * within the time-outs of its socket; one with TLS (redis_tls.c) does not block and is waited for.
 */

#include "redis_connection.h"

#include "aip/provider.h"
#include "aip/secret.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "redis_tls.h"

/* Answers are about a hundred bytes per reference: whoever sends this much is no Redis of ours. */
#define REPLY_MAX_BYTES ((size_t)64 << 20)

#define FAIL(err, pool, status, code, ...)                                                         \
    aip_error_set(err, pool, status, "gateway_error", code, NULL, __VA_ARGS__)

aip_redis_endpoint_t *aip_redis_endpoint_create(const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    aip_redis_endpoint_t *endpoint = apr_pcalloc(pool, sizeof(*endpoint));

    endpoint->conf = *conf;
    endpoint->tls = conf->ssl ? aip_redis_tls_create(conf, pool) : NULL;
    return endpoint;
}

/* ---- Exchanges ---- */

static bool is_blocking(const redisContext *c)
{
    return c->flags & REDIS_BLOCK;
}

/** Before each call of hiredis whose failure is going to be judged. */
static void forget_errors(const redisContext *c)
{
    errno = 0;
    if (!is_blocking(c)) {
        aip_redis_tls_forget();
    }
}

static apr_time_t deadline_of(int timeout_ms)
{
    return timeout_ms > 0 ? apr_time_now() + apr_time_from_msec(timeout_ms) : 0;
}

static void set_socket_timeout(const redisContext *c, int option, apr_interval_time_t timeout)
{
    const struct timeval tv = {.tv_sec = (time_t)(timeout / APR_USEC_PER_SEC),
                               .tv_usec = (suseconds_t)(timeout % APR_USEC_PER_SEC)};

    setsockopt(c->fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

static bool is_timeout(const redisContext *c, int error)
{
#ifdef REDIS_ERR_TIMEOUT
    if (c->err == REDIS_ERR_TIMEOUT) {
        return true;
    }
#endif
    return c->err == REDIS_ERR_IO &&
           (error == EAGAIN || error == EWOULDBLOCK || error == ETIMEDOUT);
}

/** What became of the exchange after hiredis set c->err. `error`: errno right after the call. */
static aip_redis_outcome_e judge(const redisContext *c, int error)
{
    const redisReader *reader = c->reader;
    bool untouched = !reader->reply && reader->pos == reader->len;

    if (is_timeout(c, error)) {
        return AIP_REDIS_TIMEOUT;
    }
    if (untouched && (c->err == REDIS_ERR_EOF ||
                      (c->err == REDIS_ERR_IO && (error == ECONNRESET || error == EPIPE)))) {
        return AIP_REDIS_CLOSED;
    }
    return AIP_REDIS_FAILED;
}

static aip_redis_outcome_e send_commands(redisContext *c, const aip_redis_command_t *commands,
                                         int n, int timeout_ms)
{
    apr_time_t deadline = deadline_of(timeout_ms);
    int done = 0;

    for (int i = 0; i < n; i++) {
        if (redisAppendCommandArgv(c, commands[i].argc, commands[i].argv, commands[i].lens) !=
            REDIS_OK) {
            return AIP_REDIS_FAILED;
        }
    }
    while (!done) {
        forget_errors(c);
        if (redisBufferWrite(c, &done) != REDIS_OK) {
            return judge(c, errno);
        }
        /* The socket's time-out bounds one write; this, a peer that takes a little each time. */
        if (!done && deadline && apr_time_now() > deadline) {
            return AIP_REDIS_TIMEOUT;
        }
        if (!done && !is_blocking(c) && !aip_redis_wait(c, POLLOUT, deadline)) {
            return AIP_REDIS_TIMEOUT;
        }
    }
    return AIP_REDIS_DONE;
}

/** What is left of the time becomes the limit of the next read. *narrowed: the socket's standing
 * time-out had to be changed for it. */
static bool limit_read(const redisContext *c, apr_time_t deadline, bool *narrowed)
{
    apr_interval_time_t left = deadline - apr_time_now();

    if (left > 0 && is_blocking(c)) {
        set_socket_timeout(c, SO_RCVTIMEO, left);
        *narrowed = true;
    }
    return left > 0;
}

/**
 * Reads one reply; `deadline` 0: no limit. The first read of a blocking connection is bounded by
 * the socket's standing time-out. *narrowed: see limit_read().
 */
static aip_redis_outcome_e read_reply(redisContext *c, apr_time_t deadline, bool *narrowed,
                                      redisReply **reply)
{
    void *got = NULL;

    for (int reads = 0;; reads++) {
        size_t had;

        if (redisGetReplyFromReader(c, &got) != REDIS_OK) {
            return AIP_REDIS_FAILED;
        }
        if (got) {
            *reply = got;
            return AIP_REDIS_DONE;
        }
        if (c->reader->len > REPLY_MAX_BYTES) {
            return AIP_REDIS_FAILED;
        }
        if (reads > 0 && deadline && !limit_read(c, deadline, narrowed)) {
            return AIP_REDIS_TIMEOUT;
        }
        had = c->reader->len;
        forget_errors(c);
        if (redisBufferRead(c) != REDIS_OK) {
            return judge(c, errno);
        }
        /* Only when TLS has nothing left: what it holds already is not seen at the socket. */
        if (!is_blocking(c) && c->reader->len == had && !aip_redis_wait(c, POLLIN, deadline)) {
            return AIP_REDIS_TIMEOUT;
        }
    }
}

aip_redis_outcome_e aip_redis_exchange(redisContext *c, const aip_redis_conf_t *conf,
                                       const aip_redis_command_t *commands, int n,
                                       redisReply **replies)
{
    aip_redis_outcome_e outcome = send_commands(c, commands, n, conf->send_timeout);
    apr_time_t deadline = deadline_of(conf->read_timeout);
    bool narrowed = false;
    int got = 0;

    while (outcome == AIP_REDIS_DONE && got < n) {
        outcome = read_reply(c, deadline, &narrowed, &replies[got]);
        got += outcome == AIP_REDIS_DONE;
    }
    if (outcome != AIP_REDIS_DONE) {
        outcome = outcome == AIP_REDIS_CLOSED && got > 0 ? AIP_REDIS_FAILED : outcome;
        while (got > 0) {
            freeReplyObject(replies[--got]);
        }
        return outcome;
    }
    if (narrowed) {
        set_socket_timeout(c, SO_RCVTIMEO, apr_time_from_msec(conf->read_timeout));
    }
    return AIP_REDIS_DONE;
}

apr_status_t aip_redis_exchange_failed(const redisContext *c, aip_redis_outcome_e outcome,
                                       const aip_redis_conf_t *conf, apr_pool_t *pool,
                                       aip_error_t *err)
{
    const char *reason = is_blocking(c) ? NULL : aip_redis_tls_reason();

    switch (outcome) {
    case AIP_REDIS_TIMEOUT:
        return FAIL(err, pool, 504, "vectordb_timeout",
                    "redis did not answer in time (send %d ms, read %d ms)", conf->send_timeout,
                    conf->read_timeout);
    case AIP_REDIS_CLOSED:
        return FAIL(err, pool, 502, "vectordb_unreachable", "redis closed the connection%s",
                    conf->ssl && !conf->client_cert
                        ? "; over TLS, and no client certificate is configured"
                        : "");
    case AIP_REDIS_FAILED:
    case AIP_REDIS_DONE:
        break;
    }
    if (c->err == REDIS_ERR_IO || c->err == REDIS_ERR_EOF) {
        return FAIL(err, pool, 502, "vectordb_unreachable", "redis: the connection broke: %s%s",
                    reason ? "TLS: " : "", reason ? reason : c->errstr);
    }
    /* A protocol error's text quotes what was received: keep it out of messages. */
    return FAIL(err, pool, 502, "vectordb_error", "redis: the answer is no RESP2, or too long");
}

/* ---- Connecting ---- */

/** One command of the handshake. */
static apr_status_t handshake(redisContext *c, const aip_redis_conf_t *conf, int argc,
                              const char **argv, apr_pool_t *pool, aip_error_t *err)
{
    size_t lens[3];
    const aip_redis_command_t command = {.argc = argc, .argv = argv, .lens = lens};
    redisReply *reply;
    aip_redis_outcome_e outcome;
    apr_status_t status = APR_SUCCESS;

    for (int i = 0; i < argc; i++) {
        lens[i] = strlen(argv[i]);
    }
    outcome = aip_redis_exchange(c, conf, &command, 1, &reply);
    if (outcome != AIP_REDIS_DONE) {
        return aip_redis_exchange_failed(c, outcome, conf, pool, err);
    }
    if (reply->type != REDIS_REPLY_STATUS) {
        status = aip_redis_refused(reply, argv[0], pool, err);
    }
    freeReplyObject(reply);
    return status;
}

/** What a fresh TCP connection needs before its first command; TLS until `deadline`, 0: no limit.
 */
static apr_status_t prepare(const aip_redis_endpoint_t *endpoint, redisContext *c,
                            apr_time_t deadline, apr_pool_t *pool, aip_error_t *err)
{
    const aip_redis_conf_t *conf = &endpoint->conf;
    const int on = 1;

    fcntl(c->fd, F_SETFD, FD_CLOEXEC); /* not for piped loggers and CGI programs */
    setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (conf->ssl &&
        aip_redis_tls_start(endpoint->tls, conf, c, deadline, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    set_socket_timeout(c, SO_SNDTIMEO, apr_time_from_msec(conf->send_timeout));
    set_socket_timeout(c, SO_RCVTIMEO, apr_time_from_msec(conf->read_timeout));
    if (conf->password) {
        const char *auth[3] = {"AUTH", conf->username ? conf->username : conf->password,
                               conf->password};

        if (handshake(c, conf, conf->username ? 3 : 2, auth, pool, err) != APR_SUCCESS) {
            return APR_EGENERAL;
        }
    }
    if (conf->database != 0 && !conf->proxied) {
        const char *select[2] = {"SELECT", apr_itoa(pool, conf->database)};

        return handshake(c, conf, 2, select, pool, err);
    }
    return APR_SUCCESS;
}

/** The endpoint of one connection: secrets may have changed since the last one. */
static apr_status_t resolve(aip_redis_conf_t *conf, apr_pool_t *pool, aip_error_t *err)
{
    const char **members[] = {&conf->host, &conf->port_text, &conf->username, &conf->password,
                              &conf->server_name};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (*members[i] && !(*members[i] = aip_secret_text(*members[i], pool, err))) {
            return APR_EGENERAL;
        }
    }
    if (conf->port_text) {
        if (!aip_port_ok(conf->port_text)) {
            return FAIL(err, pool, 502, "vectordb_error", "redis: the port is no number");
        }
        conf->port = (int)strtol(conf->port_text, NULL, 10);
    }
    return APR_SUCCESS;
}

apr_status_t aip_redis_connect(const aip_redis_endpoint_t *written, redisContext **connected,
                               apr_pool_t *pool, aip_error_t *err)
{
    aip_redis_endpoint_t resolved = *written, *endpoint = &resolved;
    const aip_redis_conf_t *conf = &endpoint->conf;
    if (resolve(&endpoint->conf, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    apr_interval_time_t limit = apr_time_from_msec(conf->connect_timeout);
    const struct timeval tv = {.tv_sec = (time_t)(limit / APR_USEC_PER_SEC),
                               .tv_usec = (suseconds_t)(limit % APR_USEC_PER_SEC)};
    apr_time_t start = apr_time_now();
    redisContext *c = limit > 0 ? redisConnectWithTimeout(conf->host, conf->port, tv)
                                : redisConnect(conf->host, conf->port);

    if (!c) {
        return FAIL(err, pool, 502, "vectordb_error", "redis: no memory for a connection");
    }
    if (!c->err) {
        if (prepare(endpoint, c, limit > 0 ? start + limit : 0, pool, err) == APR_SUCCESS) {
            *connected = c;
            return APR_SUCCESS;
        }
    } else if (limit > 0 && apr_time_now() - start >= limit) {
        /* By the clock: which errno or text says so differs between the versions of hiredis. */
        FAIL(err, pool, 504, "vectordb_timeout", "redis took no connection within %d ms",
             conf->connect_timeout);
    } else {
        FAIL(err, pool, 502, "vectordb_unreachable", "redis: cannot connect: %s", c->errstr);
    }
    if (err->code && strcmp(err->code, "vectordb_auth") == 0) {
        (void)aip_secret_refused(written->conf.password, conf->password, pool);
    }
    redisFree(c);
    return APR_EGENERAL;
}

/* ---- Error replies ---- */

/** First match wins; the words of Redis 6-8, RediSearch 2.x and Valkey, compared without case. */
static const struct {
    const char *words;
    const char *code;
    const char *advice; /* what the operator should look at, or NULL */
} causes[] = {
    {"noauth", "vectordb_auth", "a password is needed"},
    {"unauthenticated", "vectordb_auth", "a password is needed"}, /* a long command before AUTH */
    {"wrongpass", "vectordb_auth", "user name or password is wrong"},
    {"invalid password", "vectordb_auth", "the password is wrong"},
    {"without any password configured", "vectordb_auth",
     "the server has no password, but one is configured"},
    {"noperm", "vectordb_auth", NULL},
    {"unknown command", "vectordb_error",
     "the server has no vector search: load RediSearch (Redis Stack, Redis 8)"},
    {"on db != 0", "vectordb_error", "RediSearch keeps indexes in database 0 only: use database 0"},
    {"no such index", "vectordb_index", NULL},
    {"unknown index", "vectordb_index", NULL},
    {"index not found", "vectordb_index", NULL},
    {"index_not_found", "vectordb_index", NULL},
    {"does not match index", "vectordb_index", NULL},
    {"unknown field", "vectordb_index", NULL},
    {"loading", "vectordb_unreachable", NULL},
    {"masterdown", "vectordb_unreachable", NULL},
    {"clusterdown", "vectordb_unreachable", NULL},
    {"max number of clients", "vectordb_unreachable", NULL},
};

static bool contains(const char *text, const char *words)
{
    size_t len = strlen(words);

    for (; *text; text++) {
        if (!strncasecmp(text, words, len)) {
            return true;
        }
    }
    return false;
}

/** The server's words: printable, short, and without the arguments that some errors repeat. */
static const char *quotable(const redisReply *reply, const char *doing, apr_pool_t *pool)
{
    char *text = apr_pstrmemdup(pool, reply->str, reply->len < 160 ? (size_t)reply->len : 160);
    char *end = strstr(text, ", with args");

    /* A renamed or proxied AUTH could repeat the password in any words: only the first one. */
    if (!strcmp(doing, "AUTH")) {
        end = text + strcspn(text, " ");
    }
    if (end) {
        *end = '\0';
    }
    for (char *c = text; *c; c++) {
        if (!apr_isprint(*c)) {
            *c = '?';
        }
    }
    return text;
}

apr_status_t aip_redis_refused(const redisReply *reply, const char *doing, apr_pool_t *pool,
                               aip_error_t *err)
{
    const char *text;

    if (reply->type != REDIS_REPLY_ERROR) {
        return FAIL(err, pool, 502, "vectordb_error",
                    "redis: %s: the answer has an unexpected form", doing);
    }
    text = quotable(reply, doing, pool);
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        if (contains(reply->str, causes[i].words)) {
            return FAIL(err, pool, 502, causes[i].code, "redis: %s: %s%s%s", doing, text,
                        causes[i].advice ? "; " : "", causes[i].advice ? causes[i].advice : "");
        }
    }
    return FAIL(err, pool, 502, "vectordb_error", "redis: %s: %s", doing, text);
}
