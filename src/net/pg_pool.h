/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_NET_PG_POOL_H
#define AIP_NET_PG_POOL_H
/* Connections to one PostgreSQL server, shared by the threads of a process; private to the core. A
 * caller never holds a connection: it hands over a statement and gets its result. */

#include "pg_connection.h"

typedef struct aip_pg_pool_t aip_pg_pool_t;

/** Connections that one process has at most: each costs the server a process, and it takes a
 * hundred by default. */
#define AIP_PG_CONNECTIONS 4

/**
 * Makes no connection. Every process that uses it after a fork gets connections of its own; `conf`
 * is copied, its strings must live as long as `pool`, whose end closes everything.
 */
aip_pg_pool_t *aip_pg_pool_create(const aip_pgvector_conf_t *conf, apr_pool_t *pool);

/**
 * Runs a statement on a kept connection or a new one. It must be idempotent: when a kept connection
 * turns out to be dead, it is sent once more on a new one. Thread-safe; waiting for a connection,
 * connecting and the statement together take at most the time-out of the configuration, and end
 * before `deadline` (0: none).
 * @param result  out, never NULL, cleared when `pool` is; an error of the server is for the caller
 * to judge
 * @return APR_SUCCESS, or APR_EGENERAL with err->code vectordb_unreachable, _timeout, _auth, _index
 * or _error
 */
apr_status_t aip_pg_run(aip_pg_pool_t *pg, const aip_pg_command_t *command, apr_time_t deadline,
                        PGresult **result, apr_pool_t *pool, aip_error_t *err);

/** aip_pg_refused() for a result of aip_pg_run(). @return APR_EGENERAL */
apr_status_t aip_pg_run_refused(const aip_pg_pool_t *pg, const PGresult *result, const char *doing,
                                apr_pool_t *pool, aip_error_t *err);

#endif
