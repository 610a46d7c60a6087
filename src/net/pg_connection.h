/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_NET_PG_CONNECTION_H
#define AIP_NET_PG_CONNECTION_H
/* One connection to PostgreSQL, and what its errors mean; private to the core. Everybody but the
 * pool uses pg_pool.h. */

#include <libpq-fe.h>

#include "aip/vectordb.h"

/** One statement. Types of parameters are the server's to infer: write casts. */
typedef struct aip_pg_command_t {
    const char *doing; /**< for messages: "SELECT" */
    const char *sql;
    int n; /**< parameters */
    const char *const *values;
    const int *lengths; /**< of binary values */
    const int *formats; /**< 0: text, 1: binary */
} aip_pg_command_t;

/** How an exchange on a connection ended. */
typedef enum aip_pg_outcome_e {
    AIP_PG_DONE,
    AIP_PG_CLOSED, /* the connection is gone */
    AIP_PG_TIMEOUT,
    AIP_PG_FAILED /* what came is no answer to one statement, or too long */
} aip_pg_outcome_e;

/** A connection that is ready for statements; ended by PQfinish(). err->code as in vectordb.h. Only
 * the look-up of the host's name can take longer than the deadline: libpq leaves that to the C
 * library. */
apr_status_t aip_pg_connect(const aip_pgvector_conf_t *conf, apr_time_t deadline,
                            PGconn **connected, apr_pool_t *pool, aip_error_t *err);

/** Sends a statement and reads its one result, in binary form; it may be an error. On any other
 * outcome than done there is no result and the connection must be closed. */
aip_pg_outcome_e aip_pg_exchange(PGconn *conn, const aip_pg_command_t *command, apr_time_t deadline,
                                 PGresult **result);

/** Fills `err` for an exchange that was not done. @return APR_EGENERAL */
apr_status_t aip_pg_exchange_failed(const PGconn *conn, aip_pg_outcome_e outcome,
                                    const aip_pgvector_conf_t *conf, apr_pool_t *pool,
                                    aip_error_t *err);

/** The five characters of a result's SQLSTATE; "" when it is no error. */
const char *aip_pg_state(const PGresult *result);

/**
 * Fills `err` from an error result, or from one of an unexpected kind: the code by its SQLSTATE,
 * the message from the server's words, which end where they repeat the password.
 * @param password  the one in use, or NULL; one from before it was changed is not known any more
 * @return APR_EGENERAL
 */
apr_status_t aip_pg_refused(const PGresult *result, const char *doing, const char *password,
                            apr_pool_t *pool, aip_error_t *err);

#endif
