/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis vector store: an exact (FLAT) RediSearch index over hashes that hold one reference each
 * as raw float32. Names hold the digest of the references, so servers that share a configuration
 * share an index, a changed configuration makes a new one, and nothing has ever to be updated in
 * place. sync() is run in the background, query() in request threads. FT.CREATE, FT.INFO,
 * FT.SEARCH: https://redis.io/docs/latest/develop/ai/search-and-query/vectors/ */

#include "aip/vectordb.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <math.h>
#include <string.h>

#include "../net/redis_pool.h"
#include "aip/json.h"

#if APR_IS_BIGENDIAN
#error "Redis wants little-endian float32; this store sends vectors as they are in memory"
#endif

/* How long sync() waits for the index to take in what was written. */
#define SYNC_LIMIT apr_time_from_sec(5)
#define SYNC_PAUSE_MIN apr_time_from_msec(2)
#define SYNC_PAUSE_MAX apr_time_from_msec(100)
/* Vectors sent in one go: 64 of 1536 dimensions are 400 KB in the send buffer. */
enum { BATCH = 64 };

typedef struct redis_db_t {
    aip_vectordb_t base;
    aip_redis_pool_t *redis;
} redis_db_t;

/** One sync: what it is about and what its steps have found out. */
typedef struct sync_t {
    redis_db_t *db;
    const aip_references_t *refs;
    const char *index, *prefix;
    apr_pool_t *pool; /* cleared after every round */
    aip_error_t *err;
    bool wrote; /* in this round */
    /* Once per sync: two processes that disagree must not drop each other's index for ever. */
    bool dropped;
} sync_t;

#define FAIL(err, pool, code, ...)                                                                 \
    aip_error_set(err, pool, 502, "gateway_error", code, NULL, __VA_ARGS__)

/* All names begin alike, so that an ACL can say ~aip:* (an index name counts as a key there). */
static const char *index_name(const aip_references_t *refs, apr_pool_t *pool)
{
    return apr_psprintf(pool, "aip:index:%.32s", refs->digest);
}

static const char *key_prefix(const aip_references_t *refs, apr_pool_t *pool)
{
    return apr_psprintf(pool, "aip:ref:%.32s:", refs->digest);
}

static const char *metric_name(const redis_db_t *db)
{
    switch (db->base.metric) {
    case AIP_METRIC_COSINE:
        return "COSINE";
    case AIP_METRIC_EUCLIDEAN:
        return "L2";
    }
    return "";
}

/** Longest command here, for arrays of lengths. */
enum { ARGS_MAX = 24 };

/** Fills `lens` for a command of strings; `argv` ends with NULL. @return the number of arguments */
static int measure(const char *const *argv, size_t *lens)
{
    int argc = 0;

    for (; argv[argc]; argc++) {
        lens[argc] = strlen(argv[argc]);
    }
    return argc;
}

static apr_status_t run_one(const sync_t *sync, const char **argv, redisReply **reply)
{
    size_t lens[ARGS_MAX];
    const aip_redis_command_t command = {.argc = measure(argv, lens), .argv = argv, .lens = lens};

    return aip_redis_run(sync->db->redis, &command, 1, reply, sync->pool, sync->err);
}

static bool is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
}

/* ---- sync ---- */

/**
 * The value that follows `name` in a reply of names and values, at any level: the servers nest
 * FT.INFO differently. NULL when it is not there.
 */
static const redisReply *info_find(const redisReply *info, const char *name)
{
    for (size_t i = 0; info->type == REDIS_REPLY_ARRAY && i < info->elements; i++) {
        const redisReply *item = info->element[i];
        const redisReply *found = info_find(item, name);

        if (found) {
            return found;
        }
        if (is_text(item) && !strcasecmp(item->str, name) && i + 1 < info->elements) {
            return info->element[i + 1];
        }
    }
    return NULL;
}

/** A number of FT.INFO, which comes as an integer or as text; -1 when absent. */
static apr_int64_t info_number(const redisReply *info, const char *name)
{
    const redisReply *value = info_find(info, name);

    if (!value) {
        return -1;
    }
    return value->type == REDIS_REPLY_INTEGER ? value->integer
           : is_text(value)                   ? apr_atoi64(value->str)
                                              : -1;
}

/** Whether a text of FT.INFO is absent (other servers leave some out) or as expected. */
static bool info_agrees(const redisReply *info, const char *name, const char *expected)
{
    const redisReply *value = info_find(info, name);

    if (value && value->type == REDIS_REPLY_ARRAY && value->elements == 1) {
        value = value->element[0];
    }
    return !value || (is_text(value) && !strcasecmp(value->str, expected));
}

/** Whether the index is the one that sync would have made. */
static bool index_fits(const sync_t *sync, const redisReply *info)
{
    apr_int64_t dims = info_number(info, "dim");

    if (dims < 0) {
        dims = info_number(info, "dimensions"); /* Valkey's word */
    }
    return (dims < 0 || dims == sync->refs->dims) &&
           info_agrees(info, "distance_metric", metric_name(sync->db)) &&
           info_agrees(info, "data_type", "FLOAT32") && info_agrees(info, "identifier", "vec") &&
           info_agrees(info, "key_type", "HASH") && info_agrees(info, "prefixes", sync->prefix);
}

static apr_status_t index_create(const sync_t *sync)
{
    const char *argv[] = {"FT.CREATE",
                          sync->index,
                          "ON",
                          "HASH",
                          "PREFIX",
                          "1",
                          sync->prefix,
                          "SCHEMA",
                          "vec",
                          "VECTOR",
                          "FLAT",
                          "6",
                          "TYPE",
                          "FLOAT32",
                          "DIM",
                          apr_itoa(sync->pool, sync->refs->dims),
                          "DISTANCE_METRIC",
                          metric_name(sync->db),
                          NULL};
    redisReply *reply;

    if (run_one(sync, argv, &reply) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    /* Somebody else was faster: what they made is looked at in the next round. */
    if (reply->type == REDIS_REPLY_STATUS ||
        (reply->type == REDIS_REPLY_ERROR && strstr(reply->str, "already exists"))) {
        return APR_SUCCESS;
    }
    return aip_redis_refused(reply, "FT.CREATE", sync->pool, sync->err);
}

/** Drops the index and its documents: both are under names of ours, so there is nothing of anybody
 * else's in them. */
static apr_status_t index_drop(sync_t *sync, const char *why)
{
    const char *argv[] = {"FT.DROPINDEX", sync->index, "DD", NULL};
    redisReply *reply;
    apr_status_t status;

    if (sync->dropped) {
        return FAIL(sync->err, sync->pool, "vectordb_index", "redis: %s, although it was made anew",
                    why);
    }
    sync->dropped = true;
    status = run_one(sync, argv, &reply);
    if (status == APR_SUCCESS && reply->type == REDIS_REPLY_ERROR) {
        status = aip_redis_refused(reply, "FT.DROPINDEX", sync->pool, sync->err);
        if (!strcmp(sync->err->code, "vectordb_index")) {
            *sync->err = (aip_error_t){0};
            status = APR_SUCCESS; /* gone already */
        }
    }
    return status;
}

/** Sends `n` commands for the references from `first` on; `with_vector` adds field and vector
 * (HSET). */
static apr_status_t send_batch(const sync_t *sync, const char *verb, const int *numbers, int n,
                               bool with_vector, redisReply **replies)
{
    const aip_references_t *refs = sync->refs;
    aip_redis_command_t commands[BATCH];

    for (int i = 0; i < n; i++) {
        const char **argv = apr_palloc(sync->pool, 4 * sizeof(*argv));
        size_t *lens = apr_palloc(sync->pool, 4 * sizeof(*lens));

        argv[0] = verb;
        argv[1] = apr_psprintf(sync->pool, "%s%d", sync->prefix, numbers[i]);
        argv[2] = "vec";
        argv[3] = (const char *)(refs->vectors + (size_t)numbers[i] * (size_t)refs->dims);
        for (int k = 0; k < 3; k++) {
            lens[k] = strlen(argv[k]);
        }
        lens[3] = (size_t)refs->dims * sizeof(float);
        commands[i] =
            (aip_redis_command_t){.argc = with_vector ? 4 : 3, .argv = argv, .lens = lens};
    }
    return aip_redis_run(sync->db->redis, commands, n, replies, sync->pool, sync->err);
}

/** Writes those of the `n` references from `first` on that are missing or of another length. */
static apr_status_t write_batch(sync_t *sync, int first, int n)
{
    const apr_int64_t want = (apr_int64_t)sync->refs->dims * (apr_int64_t)sizeof(float);
    redisReply *replies[BATCH];
    int numbers[BATCH] = {0};
    int missing = 0;

    for (int i = 0; i < n; i++) {
        numbers[i] = first + i;
    }
    if (send_batch(sync, "HSTRLEN", numbers, n, false, replies) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    for (int i = 0; i < n; i++) {
        if (replies[i]->type != REDIS_REPLY_INTEGER) {
            return aip_redis_refused(replies[i], "HSTRLEN", sync->pool, sync->err);
        }
        if (replies[i]->integer != want) {
            numbers[missing++] = first + i;
        }
    }
    if (missing == 0) {
        return APR_SUCCESS;
    }
    sync->wrote = true;
    if (send_batch(sync, "HSET", numbers, missing, true, replies) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    for (int i = 0; i < missing; i++) {
        if (replies[i]->type != REDIS_REPLY_INTEGER) {
            return aip_redis_refused(replies[i], "HSET", sync->pool, sync->err);
        }
    }
    return APR_SUCCESS;
}

/** One round: looks at everything, does what is missing. *complete: nothing was. */
static apr_status_t sync_round(sync_t *sync, bool *complete)
{
    const char *argv[] = {"FT.INFO", sync->index, NULL};
    const int n = sync->refs->n;
    redisReply *info;
    apr_int64_t docs;

    *complete = false;
    if (run_one(sync, argv, &info) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (info->type == REDIS_REPLY_ERROR) {
        aip_redis_refused(info, "FT.INFO", sync->pool, sync->err);
        if (strcmp(sync->err->code, "vectordb_index")) {
            return APR_EGENERAL;
        }
        *sync->err = (aip_error_t){0};
        return index_create(sync);
    }
    if (info->type != REDIS_REPLY_ARRAY) {
        return aip_redis_refused(info, "FT.INFO", sync->pool, sync->err);
    }
    docs = info_number(info, "num_docs");
    sync->wrote = false;
    if (!index_fits(sync, info)) {
        return index_drop(sync, "the index has other dimensions, metric or form");
    }
    if (docs > n) {
        return index_drop(sync, "the index has foreign documents");
    }
    for (int first = 0; first < n; first += BATCH) {
        if (write_batch(sync, first, n - first < BATCH ? n - first : BATCH) != APR_SUCCESS) {
            return APR_EGENERAL;
        }
    }
    *complete = !sync->wrote && docs == n && info_number(info, "indexing") <= 0;
    return APR_SUCCESS;
}

static apr_status_t redis_sync(aip_vectordb_t *db, const aip_references_t *refs, apr_pool_t *pool,
                               aip_error_t *err)
{
    const apr_time_t deadline = apr_time_now() + SYNC_LIMIT;
    apr_interval_time_t pause = SYNC_PAUSE_MIN;
    sync_t sync = {.db = (redis_db_t *)db, .refs = refs, .err = err};
    bool complete = refs->n == 0;
    apr_status_t status = apr_pool_create(&sync.pool, pool);

    if (status != APR_SUCCESS) {
        return FAIL(err, pool, "vectordb_error", "redis: no memory");
    }
    sync.index = index_name(refs, pool);
    sync.prefix = key_prefix(refs, pool);
    while (status == APR_SUCCESS && !complete) {
        apr_pool_clear(sync.pool);
        status = sync_round(&sync, &complete);
        if (status == APR_SUCCESS && !complete) {
            if (apr_time_now() > deadline) {
                status = FAIL(err, pool, "vectordb_index",
                              "redis: the index did not take in %d references within %d s", refs->n,
                              (int)apr_time_sec(SYNC_LIMIT));
                break;
            }
            apr_sleep(pause);
            pause = pause * 2 < SYNC_PAUSE_MAX ? pause * 2 : SYNC_PAUSE_MAX;
        }
    }
    if (status != APR_SUCCESS && err->message) {
        err->message = apr_pstrdup(pool, err->message);
    }
    apr_pool_destroy(sync.pool);
    return status;
}

/* ---- query ---- */

/** The number of a key of ours, or -1: `prefix` and a plain decimal below `n`. */
static int key_number(const redisReply *key, const char *prefix, int n)
{
    const size_t skip = strlen(prefix);
    int number = 0;

    if (!is_text(key) || (size_t)key->len <= skip || memcmp(key->str, prefix, skip)) {
        return -1;
    }
    for (size_t i = skip; i < (size_t)key->len; i++) {
        if (!apr_isdigit(key->str[i]) || (i > skip && number == 0)) {
            return -1;
        }
        number = number * 10 + (key->str[i] - '0');
        if (number >= n) {
            return -1;
        }
    }
    return number;
}

/** The value of ["d", "0.25"], in the metric's scale; false when it is absent or not finite. */
static bool read_distance(const redisReply *fields, aip_metric_e metric, float *distance)
{
    aip_span_t text;
    double value;

    if (fields->type != REDIS_REPLY_ARRAY || fields->elements != 2 ||
        !is_text(fields->element[0]) || strcmp(fields->element[0]->str, "d") ||
        !is_text(fields->element[1])) {
        return false;
    }
    /* As JSON: the C library would read a decimal comma under some locales, and nan. */
    text = (aip_span_t){fields->element[1]->str, (size_t)fields->element[1]->len};
    if (aip_json_validate(text, NULL) != AIP_JSON_OK || !aip_json_double(text, &value)) {
        return false;
    }
    value = value > 0 ? value : 0; /* rounding takes equal vectors below 0 */
    switch (metric) {
    case AIP_METRIC_COSINE:
        value = value < 2 ? value : 2;
        break;
    case AIP_METRIC_EUCLIDEAN:
        value /= 2; /* L2 is the squared distance */
        break;
    }
    *distance = (float)value;
    return isfinite(*distance);
}

/** Reads [total, key, [fields], key, [fields] ...] into distances by number. */
static apr_status_t read_hits(const redisReply *reply, const aip_vectordb_t *db,
                              const aip_references_t *refs, const char *prefix, float *distances,
                              apr_pool_t *pool, aip_error_t *err)
{
    char *seen = apr_pcalloc(pool, (size_t)refs->n);
    int count = 0;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements % 2 == 0 ||
        reply->element[0]->type != REDIS_REPLY_INTEGER) {
        return aip_redis_refused(reply, "FT.SEARCH", pool, err);
    }
    for (size_t i = 1; i < reply->elements; i += 2) {
        int number = key_number(reply->element[i], prefix, refs->n);

        if (number < 0 || seen[number]) {
            continue; /* not ours; whether it pushed one of ours out shows in the count */
        }
        if (!read_distance(reply->element[i + 1], db->metric, &distances[number])) {
            return FAIL(err, pool, "vectordb_error",
                        "redis: FT.SEARCH: the distance of reference %d is no number", number);
        }
        seen[number] = 1;
        count++;
    }
    if (count != refs->n) {
        return FAIL(err, pool, "vectordb_index", "redis: the index answered %d of %d references",
                    count, refs->n);
    }
    return APR_SUCCESS;
}

static apr_status_t redis_query(aip_vectordb_t *db, const aip_references_t *refs,
                                const float *vector, float *distances, apr_pool_t *pool,
                                aip_error_t *err)
{
    const char *n = apr_itoa(pool, refs->n);
    const char *argv[] = {"FT.SEARCH",
                          index_name(refs, pool),
                          apr_pstrcat(pool, "*=>[KNN ", n, " @vec $q AS d]", NULL),
                          "RETURN",
                          "1",
                          "d",
                          "SORTBY",
                          "d",
                          "LIMIT",
                          "0",
                          n,
                          "DIALECT",
                          "2",
                          "PARAMS",
                          "2",
                          "q",
                          NULL,
                          NULL};
    size_t lens[ARGS_MAX];
    const int at = measure(argv, lens); /* the vector's place */
    const aip_redis_command_t command = {.argc = at + 1, .argv = argv, .lens = lens};
    redisReply *reply;

    if (refs->n == 0) {
        return APR_SUCCESS;
    }
    argv[at] = (const char *)vector;
    lens[at] = (size_t)refs->dims * sizeof(float);
    if (aip_redis_run(((redis_db_t *)db)->redis, &command, 1, &reply, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    return read_hits(reply, db, refs, key_prefix(refs, pool), distances, pool, err);
}

static const aip_vectordb_kind_t redis_kind = {
    .name = "redis", .sync = redis_sync, .query = redis_query};

aip_vectordb_t *aip_vectordb_redis(const aip_redis_conf_t *conf, aip_metric_e metric,
                                   apr_pool_t *pool)
{
    redis_db_t *db = apr_pcalloc(pool, sizeof(*db));

    db->base.kind = &redis_kind;
    db->base.metric = metric;
    db->redis = aip_redis_pool_create(conf, pool);
    return &db->base;
}
