/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REDIS_FIXTURE_H
#define REDIS_FIXTURE_H
/* What the tests against a real Redis share: its connection as administrator, a configuration that
 * reaches it, and references. Port: AIP_TEST_REDIS_PORT. The server is flushed and opened to
 * everybody before each test. With AIP_TEST_REDIS_TLS_PORT and AIP_TEST_CERTS (redis-certs.sh) the
 * configuration is one of TLS; the administrator speaks plainly. */

#include <check.h>
#include <hiredis/hiredis.h>
#include <string.h>

#include "aip/vectordb.h"

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define INDEX "aip:index:0123456789abcdef0123456789abcdef"
#define PREFIX "aip:ref:0123456789abcdef0123456789abcdef:"
#define PASSWORD "pa55-w0rd-never-shown"
#define CREATE(prefix, dim, metric)                                                                \
    "FT.CREATE " INDEX " ON HASH PREFIX 1 " prefix                                                 \
    " SCHEMA vec VECTOR FLAT 6 TYPE FLOAT32 DIM " dim " DISTANCE_METRIC " metric

/* Of the running test. */
extern apr_pool_t *redis_test_pool;
extern redisContext *redis_admin;
extern aip_redis_conf_t redis_conf;
extern aip_error_t redis_err; /* of the last redis_do_...() */

/** One administrative command of plain words; it must succeed. @return its reply as a number */
long long redis_admin_do(const char *line);

/** The text that the command `a b` answers. */
const char *redis_admin_text(const char *a, const char *b);

/** Connections that the server has besides the administrator's. */
int redis_connections(void);

/** Back to a server without passwords and users, whatever an earlier test left behind. */
void redis_open_access(void);

/** Where the server speaks plainly. */
int redis_plain_port(void);

/** The path of a file that redis-certs.sh made. */
const char *redis_tls_file(const char *name);

/** What the server shows and wants over TLS from now on, until the next test: its certificate
 * ("good"), tls-protocols ("": as it likes), tls-auth-clients. */
void redis_tls_server(const char *certificate, const char *protocols, const char *clients);

/** float[n * dims], the same on every machine; not unit: of lengths from 1 to 1.6. */
float *redis_vectors(int n, int dims, unsigned seed, bool unit);

/** Unit vectors under DIGEST. */
aip_references_t redis_references(int n, int dims);

apr_status_t redis_do_sync(aip_vectordb_t *db, const aip_references_t *refs);
apr_status_t redis_do_query(aip_vectordb_t *db, const aip_references_t *refs, const float *vector,
                            float *distances);

/** The store answers what the exact in-process one answers, within 1e-5. */
void redis_assert_equal_stores(aip_vectordb_t *db, const aip_references_t *refs,
                               const float *vector);

/** A test case with this fixture. */
TCase *redis_tcase_add(Suite *suite, const char *name);

#define ASSERT_OK(call)                                                                            \
    ck_assert_msg((call) == APR_SUCCESS, "%s: %s", redis_err.code, redis_err.message)
#define ASSERT_CODE(call, expected)                                                                \
    do {                                                                                           \
        ck_assert_int_eq((call), APR_EGENERAL);                                                    \
        ck_assert_msg(redis_err.code && !strcmp(redis_err.code, expected), "expected %s: %s: %s",  \
                      expected, redis_err.code, redis_err.message);                                \
        ck_assert_ptr_null(strstr(redis_err.message, PASSWORD));                                   \
    } while (0)

#endif
