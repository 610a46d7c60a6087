/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to one PostgreSQL server: a few for each process. Called by the vector store from
 * request threads and from background threads. */

#include "pg_pool.h"

#include "aip/secret.h"

#include "shelf.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define SLOT_PAUSE apr_time_from_msec(1)

struct aip_pg_pool_t {
    aip_pgvector_conf_t conf;
    aip_shelves_t *shelves;
};

#define FAIL(err, pool, status, code, ...)                                                         \
    aip_error_set(err, pool, status, "gateway_error", code, NULL, __VA_ARGS__)

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

static void close_connection(void *conn, bool own)
{
    if (own) {
        PQfinish(conn);
    } else {
        disown(conn);
    }
}

aip_pg_pool_t *aip_pg_pool_create(const aip_pgvector_conf_t *conf, apr_pool_t *pool)
{
    aip_pg_pool_t *pg = apr_pcalloc(pool, sizeof(*pg));

    pg->conf = *conf;
    pg->shelves = aip_shelves_create(close_connection, pool);
    return pg;
}

/** Waits for the right to one connection. Polls: prefork may end the child out of this very wait,
 * and a condition that is waited for cannot be destroyed.
 * @return false when the time is up */
static bool take(aip_shelf_t *shelf, apr_time_t deadline, PGconn **conn)
{
    void *kept;

    while (!aip_shelf_take(shelf, AIP_PG_CONNECTIONS, &kept)) {
        if (apr_time_now() >= deadline) {
            return false;
        }
        apr_sleep(SLOT_PAUSE);
    }
    *conn = kept;
    return true;
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
static apr_status_t run(aip_pg_pool_t *pg, aip_shelf_t *shelf, PGconn **conn,
                        const aip_pg_command_t *command, apr_time_t deadline, PGresult **result,
                        apr_pool_t *pool, aip_error_t *err)
{
    aip_pg_outcome_e outcome = AIP_PG_CLOSED;
    apr_status_t status;

    while (*conn && !quiet(*conn)) {
        PQfinish(*conn);
        *conn = aip_shelf_next(shelf);
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
    aip_shelf_t *shelf = aip_shelf_get(pg->shelves);
    PGconn *conn = NULL;
    apr_status_t status;

    if (!shelf) {
        return FAIL(err, pool, 502, "vectordb_error", "postgresql: no memory for the connections");
    }
    deadline = deadline && deadline < own ? deadline : own;
    if (!take(shelf, deadline, &conn)) {
        return FAIL(err, pool, 504, "vectordb_timeout",
                    "postgresql: the %d connections of this process were all in use",
                    AIP_PG_CONNECTIONS);
    }
    status = run(pg, shelf, &conn, command, deadline, result, pool, err);
    aip_shelf_give(shelf, AIP_PG_CONNECTIONS, conn);
    if (status == APR_SUCCESS) {
        apr_pool_cleanup_register(pool, *result, clear_result, apr_pool_cleanup_null);
    }
    return status;
}

apr_status_t aip_pg_run_refused(const aip_pg_pool_t *pg, const PGresult *result, const char *doing,
                                apr_pool_t *pool, aip_error_t *err)
{
    aip_error_t unknown; /* at this moment: there is none to look for */
    const char *password = aip_secret_text(pg->conf.password, pool, &unknown);

    return aip_pg_refused(result, doing, password, pool, err);
}
