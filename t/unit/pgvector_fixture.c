/* SPDX-License-Identifier: Apache-2.0 */
/* The fixture of the tests against a real PostgreSQL; see the header. */

#include "pgvector_fixture.h"

#include <apr_strings.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

#include "aip/embeddings.h"

apr_pool_t *pg_test_pool;
PGconn *pg_admin;
aip_pgvector_conf_t pg_conf;
aip_error_t pg_err;

long long pg_admin_do(const char *sql)
{
    PGresult *result = PQexec(pg_admin, sql);
    long long value;

    ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK ||
                      PQresultStatus(result) == PGRES_TUPLES_OK,
                  "%s: %s", sql, PQerrorMessage(pg_admin));
    value = apr_atoi64(PQntuples(result) ? PQgetvalue(result, 0, 0) : PQcmdTuples(result));
    PQclear(result);
    return value;
}

int pg_connections(void)
{
    return (int)pg_admin_do("SELECT count(*) FROM pg_stat_activity WHERE "
                            "application_name = 'mod_ai_proxy_adv'");
}

static void no_notice(void *data, const PGresult *result)
{
    (void)data, (void)result;
}

static void setup(void)
{
    const char *port = getenv("AIP_TEST_PGSQL_PORT");
    const char *settings;

    signal(SIGPIPE, SIG_IGN);
    apr_initialize();
    apr_pool_create(&pg_test_pool, NULL);
    pg_conf = (aip_pgvector_conf_t){.host = "127.0.0.1",
                                    .port = (int)apr_atoi64(port),
                                    .database = "postgres",
                                    .user = ADMIN,
                                    .password = ADMIN_PASSWORD,
                                    .timeout = 3000,
                                    .min_tls = "TLSv1.2"};
    settings = apr_psprintf(pg_test_pool,
                            "host=127.0.0.1 port=%s dbname=postgres user=" ADMIN
                            " password=" ADMIN_PASSWORD " connect_timeout=10 sslmode=disable",
                            port);
    pg_admin = PQconnectdb(settings);
    ck_assert_msg(PQstatus(pg_admin) == CONNECTION_OK, "%s", PQerrorMessage(pg_admin));
    PQsetNoticeReceiver(pg_admin, no_notice, NULL);
    pg_admin_do("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP ROLE IF EXISTS plain");
    pg_err = (aip_error_t){0};
}

static void teardown(void)
{
    PQfinish(pg_admin);
    apr_pool_destroy(pg_test_pool);
}

aip_vectordb_t *pg_store(aip_metric_e metric)
{
    return aip_vectordb_pgvector(&pg_conf, metric, pg_test_pool);
}

/** A small generator of our own: the same vectors on every machine. */
static float next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

float *pg_vectors(int n, int dims, unsigned seed, bool unit)
{
    float *vectors = apr_palloc(pg_test_pool, (size_t)n * (size_t)dims * sizeof(float));

    for (int i = 0; i < n; i++) {
        float *vector = vectors + (size_t)i * (size_t)dims;

        for (int k = 0; k < dims; k++) {
            vector[k] = next_random(&seed);
        }
        ck_assert(aip_vector_normalize(vector, dims));
        for (int k = 0; !unit && k < dims; k++) {
            vector[k] *= 1.0f + 0.1f * (float)(i % 7);
        }
    }
    return vectors;
}

aip_references_t pg_references(int n, int dims)
{
    return (aip_references_t){
        .n = n, .dims = dims, .vectors = pg_vectors(n, dims, 7, true), .digest = DIGEST};
}

apr_status_t pg_do_sync(aip_vectordb_t *db, const aip_references_t *refs)
{
    pg_err = (aip_error_t){0};
    return db->kind->sync(db, refs, pg_test_pool, &pg_err);
}

apr_status_t pg_do_query(aip_vectordb_t *db, const aip_references_t *refs, const float *vector,
                         float *distances)
{
    pg_err = (aip_error_t){0};
    return db->kind->query(db, refs, vector, distances, pg_test_pool, &pg_err);
}

void pg_assert_equal_stores(aip_vectordb_t *db, const aip_references_t *refs, const float *vector)
{
    aip_vectordb_t *memory = aip_vectordb_memory(db->metric, pg_test_pool);
    float *got = apr_pcalloc(pg_test_pool, (size_t)refs->n * sizeof(float));
    float *expected = apr_pcalloc(pg_test_pool, (size_t)refs->n * sizeof(float));

    memset(got, 0xff, (size_t)refs->n * sizeof(float));
    ASSERT_OK(pg_do_query(db, refs, vector, got));
    ASSERT_OK(pg_do_query(memory, refs, vector, expected));
    for (int i = 0; i < refs->n; i++) {
        ck_assert_msg(fabsf(got[i] - expected[i]) <= 1e-5f,
                      "reference %d of %d: %.9g, expected %.9g", i, refs->n, (double)got[i],
                      (double)expected[i]);
        ck_assert(got[i] >= 0);
    }
}

TCase *pg_tcase_add(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}
