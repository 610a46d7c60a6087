/* SPDX-License-Identifier: Apache-2.0 */
/* The fixture of the tests against a real Redis; see the header. Without the variable every test
 * fails: a store that was not tried is not tested. */

#include "redis_fixture.h"

#include <apr_strings.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

#include "aip/embeddings.h"

apr_pool_t *redis_test_pool;
redisContext *redis_admin;
aip_redis_conf_t redis_conf;
aip_error_t redis_err;

/* ---- Fixture and helpers ---- */

/** One administrative command of plain words; the reply must be no error. */
long long redis_admin_do(const char *line)
{
    char *copy = apr_pstrdup(redis_test_pool, line), *state, *word;
    const char *argv[32];
    int argc = 0;
    redisReply *reply;
    long long value;

    for (word = strtok_r(copy, " ", &state); word && argc < 32;
         word = strtok_r(NULL, " ", &state)) {
        argv[argc++] = word;
    }
    reply = redisCommandArgv(redis_admin, argc, argv, NULL);
    ck_assert_msg(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", line,
                  reply ? reply->str : redis_admin->errstr);
    value = reply->integer;
    freeReplyObject(reply);
    return value;
}

/** Back to a server without passwords and users, whatever an earlier test left behind. */
void redis_open_access(void)
{
    static const char *const commands[][4] = {
        {"AUTH", PASSWORD}, {"CONFIG", "SET", "requirepass", ""}, {"ACL", "DELUSER", "gw"}};
    static const int lengths[] = {2, 4, 3};

    for (int i = 0; i < 3; i++) {
        const char *argv[4];

        memcpy(argv, commands[i], sizeof(argv));
        freeReplyObject(redisCommandArgv(redis_admin, lengths[i], argv,
                                         NULL)); /* may be refused: nothing to undo */
    }
}

const char *redis_admin_text(const char *a, const char *b)
{
    const char *argv[] = {a, b};
    redisReply *reply = redisCommandArgv(redis_admin, 2, argv, NULL);
    const char *text;

    ck_assert_ptr_nonnull(reply);
    text = apr_pstrdup(redis_test_pool, reply->str ? reply->str : "");
    freeReplyObject(reply);
    return text;
}

/** Connections that the server has besides the administrator's. */
int redis_connections(void)
{
    int lines = 0;

    for (const char *c = redis_admin_text("CLIENT", "LIST"); *c; c++) {
        lines += *c == '\n';
    }
    return lines - 1;
}

int redis_plain_port(void)
{
    return (int)apr_atoi64(getenv("AIP_TEST_REDIS_PORT"));
}

const char *redis_tls_file(const char *name)
{
    const char *dir = getenv("AIP_TEST_CERTS");

    ck_assert_msg(dir && *dir, "AIP_TEST_CERTS is not set: see scripts/lib/redis-certs.sh");
    return apr_pstrcat(redis_test_pool, dir, "/", name, NULL);
}

void redis_tls_server(const char *certificate, const char *protocols, const char *clients)
{
    const char *path = redis_tls_file(certificate);
    /* Its OpenSSL does not offer TLS 1.1 at the usual level. */
    const char *ciphers = !strcmp(protocols, "TLSv1.1") ? "DEFAULT@SECLEVEL=0" : "";
    const char *argv[] = {"CONFIG",           "SET",
                          "tls-cert-file",    apr_pstrcat(redis_test_pool, path, ".pem", NULL),
                          "tls-key-file",     apr_pstrcat(redis_test_pool, path, ".key", NULL),
                          "tls-protocols",    protocols,
                          "tls-ciphers",      ciphers,
                          "tls-auth-clients", clients};
    redisReply *reply =
        redisCommandArgv(redis_admin, (int)(sizeof(argv) / sizeof(argv[0])), argv, NULL);

    ck_assert_msg(reply && reply->type == REDIS_REPLY_STATUS, "%s: %s", certificate,
                  reply ? reply->str : redis_admin->errstr);
    freeReplyObject(reply);
}

/** The same server by its other port. */
static void use_tls(const char *port)
{
    redis_conf.port = (int)apr_atoi64(port);
    redis_conf.ssl = redis_conf.ssl_verify = true;
    redis_conf.ca_file = redis_tls_file("ca.pem");
    redis_tls_server("good", "", "no");
}

static void setup(void)
{
    const char *port = getenv("AIP_TEST_REDIS_PORT"), *tls = getenv("AIP_TEST_REDIS_TLS_PORT");

    ck_assert_msg(port && *port,
                  "AIP_TEST_REDIS_PORT is not set: start one with scripts/lib/redis.sh");
    signal(SIGPIPE, SIG_IGN);
    apr_initialize();
    apr_pool_create(&redis_test_pool, NULL);
    redis_conf = (aip_redis_conf_t){.host = "127.0.0.1",
                                    .port = (int)apr_atoi64(port),
                                    .connect_timeout = 2000,
                                    .send_timeout = 2000,
                                    .read_timeout = 2000,
                                    .pool_size = 4,
                                    .backlog = -1};
    redis_admin = redisConnect("127.0.0.1", redis_conf.port);
    ck_assert_msg(redis_admin && !redis_admin->err, "no Redis on port %s", port);
    redis_open_access();
    redis_admin_do("FLUSHALL");
    if (tls && *tls) {
        use_tls(tls);
    }
    redis_err = (aip_error_t){0};
}

static void teardown(void)
{
    redisFree(redis_admin);
    apr_pool_destroy(redis_test_pool);
}

/** A small generator of our own: the same vectors on every machine. */
static float next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

float *redis_vectors(int n, int dims, unsigned seed, bool unit)
{
    float *vectors = apr_palloc(redis_test_pool, (size_t)n * (size_t)dims * sizeof(float));

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

aip_references_t redis_references(int n, int dims)
{
    return (aip_references_t){
        .n = n, .dims = dims, .vectors = redis_vectors(n, dims, 7, true), .digest = DIGEST};
}

apr_status_t redis_do_sync(aip_vectordb_t *db, const aip_references_t *refs)
{
    redis_err = (aip_error_t){0};
    return db->kind->sync(db, refs, redis_test_pool, &redis_err);
}

apr_status_t redis_do_query(aip_vectordb_t *db, const aip_references_t *refs, const float *vector,
                            float *distances)
{
    redis_err = (aip_error_t){0};
    return db->kind->query(db, refs, vector, distances, redis_test_pool, &redis_err);
}

/** The store answers what the exact one answers. */
void redis_assert_equal_stores(aip_vectordb_t *db, const aip_references_t *refs,
                               const float *vector)
{
    aip_vectordb_t *memory = aip_vectordb_memory(db->metric, redis_test_pool);
    float *got = apr_pcalloc(redis_test_pool, (size_t)refs->n * sizeof(float));
    float *expected = apr_pcalloc(redis_test_pool, (size_t)refs->n * sizeof(float));

    memset(got, 0xff, (size_t)refs->n * sizeof(float));
    ASSERT_OK(redis_do_query(db, refs, vector, got));
    ASSERT_OK(redis_do_query(memory, refs, vector, expected));
    for (int i = 0; i < refs->n; i++) {
        ck_assert_msg(fabsf(got[i] - expected[i]) <= 1e-5f,
                      "reference %d of %d: %.9g, expected %.9g", i, refs->n, (double)got[i],
                      (double)expected[i]);
        ck_assert(got[i] >= 0);
    }
}

TCase *redis_tcase_add(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}
