/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGVECTOR_FIXTURE_H
#define PGVECTOR_FIXTURE_H
/* What the tests against a real PostgreSQL share: a connection as administrator, a configuration
 * that reaches the server, and references. Port: AIP_TEST_PGSQL_PORT, of scripts/lib/pgsql.sh.
 * Schema and users are as new before each test. */

#include <check.h>
#include <libpq-fe.h>
#include <string.h>

#include "aip/vectordb.h"

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NAMESPACE "0123456789abcdef0123456789abcdef"
#define ADMIN "gw"
#define ADMIN_PASSWORD "s3cret-of-gw"
#define PASSWORD "pa55-w0rd-never-shown"

/* Of the running test. */
extern apr_pool_t *pg_test_pool;
extern PGconn *pg_admin;
extern aip_pgvector_conf_t pg_conf; /* as administrator, time-out 3 s */
extern aip_error_t pg_err;          /* of the last pg_do_...() */

/** One statement; it must succeed. @return the number that it answers or the rows it touched */
long long pg_admin_do(const char *sql);

/** Connections of the store that the server has. */
int pg_connections(void);

/** A store with pg_conf as it is now. */
aip_vectordb_t *pg_store(aip_metric_e metric);

/** float[n * dims], the same on every machine; not unit: of lengths from 1 to 1.6. */
float *pg_vectors(int n, int dims, unsigned seed, bool unit);

/** Unit vectors under DIGEST. */
aip_references_t pg_references(int n, int dims);

apr_status_t pg_do_sync(aip_vectordb_t *db, const aip_references_t *refs);
apr_status_t pg_do_query(aip_vectordb_t *db, const aip_references_t *refs, const float *vector,
                         float *distances);

/** The store answers what the exact in-process one answers, within 1e-5. */
void pg_assert_equal_stores(aip_vectordb_t *db, const aip_references_t *refs, const float *vector);

/** A test case with this fixture. */
TCase *pg_tcase_add(Suite *suite, const char *name);

#define ASSERT_OK(call) ck_assert_msg((call) == APR_SUCCESS, "%s: %s", pg_err.code, pg_err.message)
#define ASSERT_CODE(call, expected)                                                                \
    do {                                                                                           \
        ck_assert_int_eq((call), APR_EGENERAL);                                                    \
        ck_assert_msg(pg_err.code && !strcmp(pg_err.code, expected), "expected %s: %s: %s",        \
                      expected, pg_err.code, pg_err.message);                                      \
        ck_assert_ptr_null(strstr(pg_err.message, PASSWORD));                                      \
        ck_assert_ptr_null(strstr(pg_err.message, ADMIN_PASSWORD));                                \
    } while (0)
#define ASSERT_SAYS(words)                                                                         \
    ck_assert_msg(strstr(pg_err.message, words) != NULL, "'%s' is not in: %s", words,              \
                  pg_err.message)

#endif
