/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to one PostgreSQL server: a few for each process, last in first out, behind one
 * mutex. Connecting, waiting and closing happen outside the lock. Called by the vector store from
 * request threads and from background threads. */

#include "pg_pool.h"

#include <apr_thread_mutex.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

#define SLOT_PAUSE apr_time_from_msec(1)

/** What one process has. Never shared across fork(): neither the sockets nor a mutex that some
 * thread may have held. */
typedef struct shelf_t {
    pid_t pid;
    apr_pool_t *pool;
    apr_thread_mutex_t *lock;
    PGconn *idle[AIP_PG_CONNECTIONS];
    int n_idle, in_use;
    /* Of the parent process: emptied, but kept, because other threads may look at its pid. */
    struct shelf_t *inherited;
} shelf_t;

struct aip_pg_pool_t {
    aip_pgvector_conf_t conf;
    _Atomic(shelf_t *) shelf;
};

#define FAIL(err, pool, status, code, ...)                                                         \
    aip_error_set(err, pool, status, "gateway_error", code, NULL, __VA_ARGS__)

/* ---- The shelf of this process ---- */

/** Closes our copy of a connection that a parent process goes on using. PQfinish() says goodbye to
 * the server, so the goodbye must go nowhere. */
static void disown(PGconn *conn)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (nowhere >= 0 && PQsocket(conn) >= 0) {
        dup2(nowhere, PQsocket(conn));
        PQfinish(conn);
    }
    if (nowhere >= 0) {
        close(nowhere);
    }
}

static void shelf_empty(shelf_t *shelf)
{
    bool own = shelf->pid == getpid();

    while (shelf->n_idle > 0) {
        PGconn *conn = shelf->idle[--shelf->n_idle];

        if (own) {
            PQfinish(conn);
        } else {
            disown(conn);
        }
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
static shelf_t *shelf_get(aip_pg_pool_t *pg)
{
    shelf_t *found = atomic_load(&pg->shelf);
    shelf_t *own;

    if (found && found->pid == getpid()) {
        return found;
    }
    own = shelf_create(found);
    if (!own) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&pg->shelf, &found, own)) {
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
    aip_pg_pool_t *pg = data;
    shelf_t *shelf = atomic_exchange(&pg->shelf, NULL);

    if (shelf) {
        shelf_destroy(shelf);
    }
    return APR_SUCCESS;
}

aip_pg_pool_t *aip_pg_pool_create(const aip_pgvector_conf_t *conf, apr_pool_t *pool)
{
    aip_pg_pool_t *pg = apr_pcalloc(pool, sizeof(*pg));

    pg->conf = *conf;
    atomic_init(&pg->shelf, NULL);
    apr_pool_cleanup_register(pool, pg, pool_cleanup, apr_pool_cleanup_null);
    return pg;
}

/** Takes the right to one connection, and a kept one if there is any. Polls: prefork may end the
 * child out of this very wait, and a condition that is waited for cannot be destroyed.
 * @return false when the time is up */
static bool shelf_take(shelf_t *shelf, apr_time_t deadline, PGconn **conn)
{
    for (;;) {
        bool allowed;

        apr_thread_mutex_lock(shelf->lock);
        allowed = shelf->in_use < AIP_PG_CONNECTIONS;
        *conn = allowed && shelf->n_idle > 0 ? shelf->idle[--shelf->n_idle] : NULL;
        shelf->in_use += allowed;
        apr_thread_mutex_unlock(shelf->lock);
        if (allowed) {
            return true;
        }
        if (apr_time_now() >= deadline) {
            return false;
        }
        apr_sleep(SLOT_PAUSE);
    }
}

/** Gives the right back, and keeps `conn` if there is one. */
static void shelf_give(shelf_t *shelf, PGconn *conn)
{
    PGconn *surplus = NULL;

    apr_thread_mutex_lock(shelf->lock);
    shelf->in_use--;
    if (conn && shelf->n_idle + shelf->in_use < AIP_PG_CONNECTIONS) {
        shelf->idle[shelf->n_idle++] = conn;
    } else {
        surplus = conn;
    }
    apr_thread_mutex_unlock(shelf->lock);
    PQfinish(surplus);
}

/** Another kept connection instead of a dead one; the right to one is held already. */
static PGconn *shelf_next(shelf_t *shelf)
{
    PGconn *conn;

    apr_thread_mutex_lock(shelf->lock);
    conn = shelf->n_idle > 0 ? shelf->idle[--shelf->n_idle] : NULL;
    apr_thread_mutex_unlock(shelf->lock);
    return conn;
}

/** A kept connection that has something to say was closed, or is about to be. */
static bool quiet(const PGconn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

    return poll(&fd, 1, 0) == 0;
}

/* ---- Running a statement ---- */

static apr_status_t clear_result(void *result)
{
    PQclear(result);
    return APR_SUCCESS;
}

/** Runs the statement; *conn is what goes back to the shelf afterwards, or NULL. */
static apr_status_t run(aip_pg_pool_t *pg, shelf_t *shelf, PGconn **conn,
                        const aip_pg_command_t *command, apr_time_t deadline, PGresult **result,
                        apr_pool_t *pool, aip_error_t *err)
{
    aip_pg_outcome_e outcome = AIP_PG_CLOSED;
    apr_status_t status;

    while (*conn && !quiet(*conn)) {
        PQfinish(*conn);
        *conn = shelf_next(shelf);
    }
    if (*conn) {
        outcome = aip_pg_exchange(*conn, command, deadline, result);
        if (outcome == AIP_PG_CLOSED) {
            /* It ended between the check and the answer: as good as never taken. */
            PQfinish(*conn);
            *conn = NULL;
        }
    }
    if (!*conn) {
        status = aip_pg_connect(&pg->conf, deadline, conn, pool, err);
        if (status != APR_SUCCESS) {
            return status;
        }
        outcome = aip_pg_exchange(*conn, command, deadline, result);
    }
    if (outcome == AIP_PG_DONE) {
        return APR_SUCCESS;
    }
    status = aip_pg_exchange_failed(*conn, outcome, &pg->conf, pool, err);
    PQfinish(*conn); /* a late answer would be the next one's */
    *conn = NULL;
    return status;
}

apr_status_t aip_pg_run(aip_pg_pool_t *pg, const aip_pg_command_t *command, apr_time_t deadline,
                        PGresult **result, apr_pool_t *pool, aip_error_t *err)
{
    apr_time_t own = apr_time_now() + apr_time_from_msec(pg->conf.timeout);
    shelf_t *shelf = shelf_get(pg);
    PGconn *conn = NULL;
    apr_status_t status;

    if (!shelf) {
        return FAIL(err, pool, 502, "vectordb_error", "postgresql: no memory for the connections");
    }
    deadline = deadline && deadline < own ? deadline : own;
    if (!shelf_take(shelf, deadline, &conn)) {
        return FAIL(err, pool, 504, "vectordb_timeout",
                    "postgresql: the %d connections of this process were all in use",
                    AIP_PG_CONNECTIONS);
    }
    status = run(pg, shelf, &conn, command, deadline, result, pool, err);
    shelf_give(shelf, conn);
    if (status == APR_SUCCESS) {
        apr_pool_cleanup_register(pool, *result, clear_result, apr_pool_cleanup_null);
    }
    return status;
}
