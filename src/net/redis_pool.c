/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to one Redis server: a capped pool for each process. Called by the vector store from
 * request threads and from background threads. */

#include "redis_pool.h"

#include "shelf.h"

#include <poll.h>

struct aip_redis_pool_t {
    const aip_redis_endpoint_t *endpoint;
    aip_shelves_t *shelves;
};

#define FAIL(err, pool, status, code, ...)                                                         \
    aip_error_set(err, pool, status, "gateway_error", code, NULL, __VA_ARGS__)

/** Sends nothing, so it is right for a connection that a parent process goes on using, too. */
static void close_connection(void *redis, bool own)
{
    (void)own;
    redisFree(redis);
}

aip_redis_pool_t *aip_redis_pool_create(const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    aip_redis_pool_t *redis = apr_pcalloc(pool, sizeof(*redis));

    redis->endpoint = aip_redis_endpoint_create(conf, pool);
    redis->shelves = aip_shelves_create(close_connection, pool);
    return redis;
}

/** Connections that may be in use at once; -1: no limit. */
static apr_int64_t most_in_use(const aip_redis_conf_t *conf)
{
    apr_int64_t most = (apr_int64_t)conf->pool_size + conf->backlog;

    return conf->backlog < 0 ? -1 : most > 1 ? most : 1;
}

/** An idle connection that has something to say was closed, or holds a reply nobody waits for. */
static bool quiet(const redisContext *connection)
{
    const redisReader *reader = connection->reader;
    struct pollfd fd = {.fd = connection->fd, .events = POLLIN};

    return reader->pos == reader->len && poll(&fd, 1, 0) == 0;
}

/* ---- Running commands ---- */

static apr_status_t free_reply(void *reply)
{
    freeReplyObject(reply);
    return APR_SUCCESS;
}

/** Runs the commands; *connection is what goes back to the shelf afterwards, or NULL. */
static apr_status_t run(aip_redis_pool_t *redis, aip_shelf_t *shelf, redisContext **connection,
                        const aip_redis_command_t *commands, int n, redisReply **replies,
                        apr_pool_t *pool, aip_error_t *err)
{
    const aip_redis_conf_t *conf = &redis->endpoint->conf;
    aip_redis_outcome_e outcome = AIP_REDIS_CLOSED;
    apr_status_t status;

    while (*connection && !quiet(*connection)) {
        redisFree(*connection);
        *connection = aip_shelf_next(shelf);
    }
    if (*connection) {
        outcome = aip_redis_exchange(*connection, conf, commands, n, replies);
        if (outcome == AIP_REDIS_CLOSED) {
            /* It ended between the check and the write: as good as never taken. */
            redisFree(*connection);
            *connection = NULL;
        }
    }
    if (!*connection) {
        status = aip_redis_connect(redis->endpoint, connection, pool, err);
        if (status != APR_SUCCESS) {
            return status;
        }
        outcome = aip_redis_exchange(*connection, conf, commands, n, replies);
    }
    if (outcome == AIP_REDIS_DONE) {
        return APR_SUCCESS;
    }
    status = aip_redis_exchange_failed(*connection, outcome, conf, pool, err);
    redisFree(*connection); /* a late reply would answer the next question */
    *connection = NULL;
    return status;
}

apr_status_t aip_redis_run(aip_redis_pool_t *redis, const aip_redis_command_t *commands, int n,
                           redisReply **replies, apr_pool_t *pool, aip_error_t *err)
{
    const aip_redis_conf_t *conf = &redis->endpoint->conf;
    aip_shelf_t *shelf = aip_shelf_get(redis->shelves);
    redisContext *connection;
    void *kept;
    apr_status_t status;

    if (!shelf) {
        return FAIL(err, pool, 502, "vectordb_error", "redis: no memory for the connection pool");
    }
    if (!aip_shelf_take(shelf, most_in_use(conf), &kept)) {
        return FAIL(err, pool, 502, "vectordb_unreachable",
                    "redis: all connections that this process may have are in use (pool size %d, "
                    "backlog %d)",
                    conf->pool_size, conf->backlog);
    }
    connection = kept;
    status = run(redis, shelf, &connection, commands, n, replies, pool, err);
    aip_shelf_give(shelf, conf->pool_size, connection);
    for (int i = 0; status == APR_SUCCESS && i < n; i++) {
        apr_pool_cleanup_register(pool, replies[i], free_reply, apr_pool_cleanup_null);
    }
    return status;
}
