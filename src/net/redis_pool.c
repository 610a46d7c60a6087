/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to one Redis server: a capped last-in-first-out pool per process behind one mutex.
 * Connecting, waiting and closing happen outside the lock, so a slow server delays only those who
 * ask it. Called by the vector store from request threads and from background threads. */

#include "redis_pool.h"

#include <apr_thread_mutex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct connection_t {
    redisContext *redis;
    struct connection_t *next;
} connection_t;

/** What one process has. Never shared across fork(): neither the sockets nor a mutex that some
 * thread may have held. */
typedef struct shelf_t {
    pid_t pid;
    apr_pool_t *pool;
    apr_thread_mutex_t *lock;
    connection_t *idle;
    int n_idle, in_use;
    /* Of the parent process: emptied, but kept, because other threads may look at its pid. */
    struct shelf_t *inherited;
} shelf_t;

struct aip_redis_pool_t {
    const aip_redis_endpoint_t *endpoint;
    _Atomic(shelf_t *) shelf;
};

#define FAIL(err, pool, status, code, ...)                                                         \
    aip_error_set(err, pool, status, "gateway_error", code, NULL, __VA_ARGS__)

/* ---- The shelf of this process ---- */

static void connection_close(connection_t *connection)
{
    /* Sends nothing, so it is right for a connection that a parent process goes on using, too. */
    redisFree(connection->redis);
    free(connection);
}

static void shelf_empty(shelf_t *shelf)
{
    while (shelf->idle) {
        connection_t *connection = shelf->idle;

        shelf->idle = connection->next;
        connection_close(connection);
    }
}

static void shelf_destroy(shelf_t *shelf)
{
    while (shelf) {
        shelf_t *inherited = shelf->inherited;

        shelf_empty(shelf);
        apr_pool_destroy(shelf->pool);
        shelf = inherited;
    }
}

static shelf_t *shelf_create(shelf_t *inherited)
{
    apr_pool_t *pool;
    shelf_t *shelf;

    /* Unmanaged: the configuration pool that a managed one would hang on must not be touched by
     * request threads. */
    if (apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return NULL;
    }
    shelf = apr_pcalloc(pool, sizeof(*shelf));
    shelf->pid = getpid();
    shelf->pool = pool;
    shelf->inherited = inherited;
    if (apr_thread_mutex_create(&shelf->lock, APR_THREAD_MUTEX_DEFAULT, pool) != APR_SUCCESS) {
        apr_pool_destroy(pool);
        return NULL;
    }
    return shelf;
}

/** The shelf of this process, made on first use and after a fork; NULL when there is no memory. */
static shelf_t *shelf_get(aip_redis_pool_t *redis)
{
    shelf_t *found = atomic_load(&redis->shelf);
    shelf_t *own;

    if (found && found->pid == getpid()) {
        return found;
    }
    own = shelf_create(found);
    if (!own) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&redis->shelf, &found, own)) {
        /* Another thread of this process was first; `found` is its shelf now. */
        own->inherited = NULL;
        shelf_destroy(own);
        return found;
    }
    if (own->inherited) {
        shelf_empty(own->inherited);
    }
    return own;
}

static apr_status_t pool_cleanup(void *data)
{
    aip_redis_pool_t *redis = data;
    shelf_t *shelf = atomic_exchange(&redis->shelf, NULL);

    if (shelf) {
        shelf_destroy(shelf);
    }
    return APR_SUCCESS;
}

aip_redis_pool_t *aip_redis_pool_create(const aip_redis_conf_t *conf, apr_pool_t *pool)
{
    aip_redis_pool_t *redis = apr_pcalloc(pool, sizeof(*redis));

    redis->endpoint = aip_redis_endpoint_create(conf, pool);
    atomic_init(&redis->shelf, NULL);
    apr_pool_cleanup_register(pool, redis, pool_cleanup, apr_pool_cleanup_null);
    return redis;
}

/** The most recently used idle connection, or NULL. The caller holds the lock. */
static connection_t *shelf_pop(shelf_t *shelf)
{
    connection_t *connection = shelf->idle;

    if (connection) {
        shelf->idle = connection->next;
        shelf->n_idle--;
    }
    return connection;
}

/**
 * Takes the right to one connection, and the most recently used idle one if there is any.
 * @return false when the configured number of connections is in use
 */
static bool shelf_take(const aip_redis_conf_t *conf, shelf_t *shelf, connection_t **connection)
{
    apr_int64_t most = (apr_int64_t)conf->pool_size + conf->backlog;
    bool allowed;

    apr_thread_mutex_lock(shelf->lock);
    allowed = shelf->idle || conf->backlog < 0 || shelf->in_use < (most > 1 ? most : 1);
    *connection = shelf_pop(shelf);
    shelf->in_use += allowed;
    apr_thread_mutex_unlock(shelf->lock);
    return allowed;
}

/** Gives the right back and shelves `connection`, or closes it when the shelf is full. */
static void shelf_give(const aip_redis_conf_t *conf, shelf_t *shelf, connection_t *connection)
{
    apr_thread_mutex_lock(shelf->lock);
    shelf->in_use--;
    if (connection && shelf->n_idle < conf->pool_size) {
        connection->next = shelf->idle;
        shelf->idle = connection;
        shelf->n_idle++;
        connection = NULL;
    }
    apr_thread_mutex_unlock(shelf->lock);
    if (connection) {
        connection_close(connection);
    }
}

/** The next idle connection instead of a dead one; the right to one is held already. */
static connection_t *shelf_next(shelf_t *shelf)
{
    connection_t *connection;

    apr_thread_mutex_lock(shelf->lock);
    connection = shelf_pop(shelf);
    apr_thread_mutex_unlock(shelf->lock);
    return connection;
}

/** An idle connection that has something to say was closed, or holds a reply nobody waits for. */
static bool connection_quiet(const connection_t *connection)
{
    const redisReader *reader = connection->redis->reader;
    struct pollfd fd = {.fd = connection->redis->fd, .events = POLLIN};

    return reader->pos == reader->len && poll(&fd, 1, 0) == 0;
}

/* ---- Running commands ---- */

static apr_status_t free_reply(void *reply)
{
    freeReplyObject(reply);
    return APR_SUCCESS;
}

static apr_status_t connection_open(const aip_redis_pool_t *redis, connection_t **connection,
                                    apr_pool_t *pool, aip_error_t *err)
{
    redisContext *c;

    if (aip_redis_connect(redis->endpoint, &c, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    *connection = malloc(sizeof(**connection));
    if (!*connection) {
        redisFree(c);
        return FAIL(err, pool, 502, "vectordb_error", "redis: no memory for a connection");
    }
    (*connection)->redis = c;
    return APR_SUCCESS;
}

/** Runs the commands; *connection is what goes back to the shelf afterwards, or NULL. */
static apr_status_t run(aip_redis_pool_t *redis, shelf_t *shelf, connection_t **connection,
                        const aip_redis_command_t *commands, int n, redisReply **replies,
                        apr_pool_t *pool, aip_error_t *err)
{
    const aip_redis_conf_t *conf = &redis->endpoint->conf;
    aip_redis_outcome_e outcome = AIP_REDIS_CLOSED;
    apr_status_t status;

    while (*connection && !connection_quiet(*connection)) {
        connection_close(*connection);
        *connection = shelf_next(shelf);
    }
    if (*connection) {
        outcome = aip_redis_exchange((*connection)->redis, conf, commands, n, replies);
        if (outcome == AIP_REDIS_CLOSED) {
            /* It ended between the check and the write: as good as never taken. */
            connection_close(*connection);
            *connection = NULL;
        }
    }
    if (!*connection) {
        status = connection_open(redis, connection, pool, err);
        if (status != APR_SUCCESS) {
            return status;
        }
        outcome = aip_redis_exchange((*connection)->redis, conf, commands, n, replies);
    }
    if (outcome == AIP_REDIS_DONE) {
        return APR_SUCCESS;
    }
    status = aip_redis_exchange_failed((*connection)->redis, outcome, conf, pool, err);
    connection_close(*connection); /* a late reply would answer the next question */
    *connection = NULL;
    return status;
}

apr_status_t aip_redis_run(aip_redis_pool_t *redis, const aip_redis_command_t *commands, int n,
                           redisReply **replies, apr_pool_t *pool, aip_error_t *err)
{
    const aip_redis_conf_t *conf = &redis->endpoint->conf;
    shelf_t *shelf = shelf_get(redis);
    connection_t *connection;
    apr_status_t status;

    if (!shelf) {
        return FAIL(err, pool, 502, "vectordb_error", "redis: no memory for the connection pool");
    }
    if (!shelf_take(conf, shelf, &connection)) {
        return FAIL(err, pool, 502, "vectordb_unreachable",
                    "redis: all connections that this process may have are in use (pool size %d, "
                    "backlog %d)",
                    conf->pool_size, conf->backlog);
    }
    status = run(redis, shelf, &connection, commands, n, replies, pool, err);
    shelf_give(conf, shelf, connection);
    for (int i = 0; status == APR_SUCCESS && i < n; i++) {
        apr_pool_cleanup_register(pool, replies[i], free_reply, apr_pool_cleanup_null);
    }
    return status;
}
