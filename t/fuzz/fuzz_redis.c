/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what a Redis says: the bytes of the input, behind the first one, are read by hiredis'
 * parser as replies, and the store takes them as answers to FT.INFO, HSTRLEN, HSET and FT.SEARCH.
 * The first byte chooses metric, number of references and call. What must hold: distances that are
 * accepted are finite and in the metric's range; each failure has a code and a reason of bounded
 * length. */

#include "../../src/net/redis_pool.h"

#include <apr_general.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DIMS 3
#define MOST 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
apr_status_t __wrap_aip_redis_run(aip_redis_pool_t *redis, const aip_redis_command_t *commands,
                                  int n, redisReply **replies, apr_pool_t *pool, aip_error_t *err);

static redisReader *reader;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static apr_status_t drop(void *reply)
{
    freeReplyObject(reply);
    return APR_SUCCESS;
}

static apr_status_t gone(aip_error_t *err)
{
    *err = (aip_error_t){.status = 503, .code = "vectordb_unreachable", .message = "gone"};
    return APR_EGENERAL;
}

/* fuzz.sh links this in place of aip_redis_run(). */
apr_status_t __wrap_aip_redis_run(aip_redis_pool_t *redis, const aip_redis_command_t *commands,
                                  int n, redisReply **replies, apr_pool_t *pool, aip_error_t *err)
{
    (void)redis;
    for (int i = 0; i < n; i++) {
        void *reply = NULL;

        for (int k = 0; k < commands[i].argc; k++)
            require(commands[i].argv[k] != NULL);
        if (redisReaderGetReply(reader, &reply) != REDIS_OK || !reply)
            return gone(err);
        apr_pool_cleanup_register(pool, reply, drop, apr_pool_cleanup_null);
        replies[i] = reply;
    }
    return APR_SUCCESS;
}

static void check_error(const aip_error_t *err)
{
    require(err->code && strncmp(err->code, "vectordb_", 9) == 0);
    require(err->message && *err->message && strlen(err->message) < 2048);
}

static void check_query(aip_vectordb_t *db, const aip_references_t *refs, apr_pool_t *pool)
{
    static const float vector[DIMS] = {1, 0, 0};
    float *distances = malloc((size_t)refs->n * sizeof *distances); /* ends where they do */
    aip_error_t err = {0};

    require(distances != NULL);
    if (db->kind->query(db, refs, vector, distances, pool, &err) == APR_SUCCESS) {
        for (int i = 0; i < refs->n; i++) {
            require(isfinite(distances[i]) && distances[i] >= 0);
            require(db->metric != AIP_METRIC_COSINE || distances[i] <= 2);
        }
    } else {
        check_error(&err);
    }
    free(distances);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const float vectors[MOST * DIMS] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0};
    static const aip_redis_conf_t conf = {.host = "127.0.0.1", .port = 1, .backlog = -1};
    static apr_pool_t *pool;
    aip_error_t err = {0};

    if (size < 1)
        return 0;
    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    reader = redisReaderCreate();
    require(reader && redisReaderFeed(reader, (const char *)data + 1, size - 1) == REDIS_OK);
    aip_metric_e metric = data[0] & 1 ? AIP_METRIC_EUCLIDEAN : AIP_METRIC_COSINE;
    aip_vectordb_t *db = aip_vectordb_redis(&conf, metric, pool);
    aip_references_t refs = {
        .n = 1 + (data[0] >> 1) % MOST, .dims = DIMS, .vectors = vectors, .digest = "d"};
    if (data[0] & 0x80) {
        if (db->kind->sync(db, &refs, pool, &err) != APR_SUCCESS)
            check_error(&err);
    } else {
        check_query(db, &refs, pool);
    }
    apr_pool_clear(pool);
    redisReaderFree(reader);
    return 0;
}
