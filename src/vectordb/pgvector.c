/* SPDX-License-Identifier: Apache-2.0 */
/* The PostgreSQL vector store: one table for each number of dimensions, one row for each reference.
 * Rows are named by the digest of the references, so servers that share a configuration share rows,
 * a changed configuration makes new ones, and nothing has ever to be updated in place. sync() is
 * run in the background, query() in request threads. https://github.com/pgvector/pgvector
 *
 * A number of dimensions cannot be a parameter of a table's name or of a type, so SQL is made with
 * numbers of ours, and with nothing else. Whatever is not a number goes as a parameter. */

#include "aip/vectordb.h"

#include <apr_strings.h>
#include <math.h>
#include <string.h>

#include "../net/pg_pool.h"

#define TABLE "ai_proxy_adv_vectors_%d"
/* Vectors written by one statement: 64 of 1536 dimensions are 800 KB. */
enum { BATCH = 64 };
/* https://www.postgresql.org/docs/current/catalog-pg-type.html */
enum { OID_INT4 = 23, OID_FLOAT4 = 700 };
enum { TEXT = 0, BINARY = 1 };

typedef struct pgvector_db_t {
    aip_vectordb_t base;
    aip_pg_pool_t *pg;
    const char *database;
} pgvector_db_t;

/** One sync: what it is about. */
typedef struct sync_t {
    pgvector_db_t *db;
    const aip_references_t *refs;
    const char *namespace;
    apr_pool_t *pool; /* cleared after every batch */
    aip_error_t *err;
} sync_t;

#define FAIL(err, pool, code, ...)                                                                 \
    aip_error_set(err, pool, 502, "gateway_error", code, NULL, __VA_ARGS__)

/** As the index of the Redis store is named. */
static const char *namespace_of(const aip_references_t *refs, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%.32s", refs->digest);
}

/* ---- Binary values, big-endian ---- */

static unsigned char *put32(unsigned char *at, apr_uint32_t value)
{
    *at++ = (unsigned char)(value >> 24);
    *at++ = (unsigned char)(value >> 16);
    *at++ = (unsigned char)(value >> 8);
    *at++ = (unsigned char)value;
    return at;
}

static unsigned char *put_float(unsigned char *at, float value)
{
    apr_uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return put32(at, bits);
}

static apr_uint64_t get(const char *at, int bytes)
{
    apr_uint64_t value = 0;

    while (bytes-- > 0) {
        value = value << 8 | (unsigned char)*at++;
    }
    return value;
}

/** The value of type vector: two bytes of dimensions, two that are unused, the elements. */
static const char *vector_value(const float *vector, int dims, int *length, apr_pool_t *pool)
{
    unsigned char *value = apr_palloc(pool, 4 + 4 * (size_t)dims);
    unsigned char *at = put32(value, (apr_uint32_t)dims << 16);

    for (int i = 0; i < dims; i++) {
        at = put_float(at, vector[i]);
    }
    *length = (int)(at - value);
    return (const char *)value;
}

/** The head of an array of one dimension: each of its elements has a length in front. */
static unsigned char *array_head(apr_uint32_t oid, size_t n, unsigned char **value,
                                 apr_pool_t *pool)
{
    const apr_uint32_t head[] = {1, 0, oid, (apr_uint32_t)n, 1};
    unsigned char *at = *value = apr_palloc(pool, sizeof(head) + 8 * n);

    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++) {
        at = put32(at, head[i]);
    }
    return at;
}

static const char *numbers_value(const int *numbers, int n, int *length, apr_pool_t *pool)
{
    unsigned char *value, *at = array_head(OID_INT4, (size_t)n, &value, pool);

    for (int i = 0; i < n; i++) {
        at = put32(put32(at, 4), (apr_uint32_t)numbers[i]);
    }
    *length = (int)(at - value);
    return (const char *)value;
}

/** The vectors of these references, one after another, as one real[]. */
static const char *floats_value(const aip_references_t *refs, const int *numbers, int n,
                                int *length, apr_pool_t *pool)
{
    unsigned char *value,
        *at = array_head(OID_FLOAT4, (size_t)n * (size_t)refs->dims, &value, pool);

    for (int i = 0; i < n; i++) {
        const float *vector = refs->vectors + (size_t)numbers[i] * (size_t)refs->dims;

        for (int k = 0; k < refs->dims; k++) {
            at = put_float(put32(at, 4), vector[k]);
        }
    }
    *length = (int)(at - value);
    return (const char *)value;
}

/* ---- sync ---- */

static apr_status_t run(const sync_t *sync, const aip_pg_command_t *command, PGresult **result)
{
    return aip_pg_run(sync->db->pg, command, 0, result, sync->pool, sync->err);
}

/** A statement without parameters that makes something, unless it is there. Two servers may do it
 * at once: "if not exists" does not keep them from colliding in the catalog. */
static apr_status_t make(const sync_t *sync, const char *doing, const char *sql, PGresult **result)
{
    static const char *const there[] = {"42P07", "42710", "23505"};
    const aip_pg_command_t command = {.doing = doing, .sql = sql};

    if (run(sync, &command, result) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++) {
        if (!strcmp(aip_pg_state(*result), there[i])) {
            return APR_SUCCESS;
        }
    }
    return PQresultStatus(*result) == PGRES_COMMAND_OK
               ? APR_SUCCESS
               : aip_pg_run_refused(sync->db->pg, *result, doing, sync->pool, sync->err);
}

static apr_status_t make_extension(const sync_t *sync)
{
    PGresult *result = NULL;
    const char *why;

    if (make(sync, "CREATE EXTENSION", "CREATE EXTENSION IF NOT EXISTS vector", &result) ==
        APR_SUCCESS) {
        return APR_SUCCESS;
    }
    why = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    return why ? FAIL(sync->err, sync->pool, "vectordb_index",
                      "postgresql: the database %s lacks the extension vector, and it cannot be "
                      "made: %s; install pgvector on the server and let an administrator say "
                      "CREATE EXTENSION vector in that database",
                      sync->db->database, sync->err->message)
               : APR_EGENERAL;
}

static apr_status_t make_table(const sync_t *sync)
{
    const int dims = sync->refs->dims;
    const char *sql = apr_psprintf(sync->pool,
                                   "CREATE TABLE IF NOT EXISTS " TABLE
                                   " (namespace text NOT NULL, number integer NOT NULL, "
                                   "embedding vector(%d) NOT NULL, PRIMARY KEY (namespace, "
                                   "number))",
                                   dims, dims);
    PGresult *result = NULL;

    if (make(sync, "CREATE TABLE", sql, &result) == APR_SUCCESS) {
        return APR_SUCCESS;
    }
    if (!result || strcmp(aip_pg_state(result), "42704")) {
        return APR_EGENERAL;
    }
    *sync->err = (aip_error_t){0}; /* no type vector */
    return make_extension(sync) == APR_SUCCESS ? make(sync, "CREATE TABLE", sql, &result)
                                               : APR_EGENERAL;
}

/** Which references are there already; *exists: whether the table is. */
static apr_status_t look(const sync_t *sync, char *present, bool *exists)
{
    const char *values[] = {sync->namespace, apr_itoa(sync->pool, sync->refs->n)};
    const aip_pg_command_t command = {
        .doing = "SELECT",
        .sql = apr_psprintf(sync->pool,
                            "SELECT number::integer FROM " TABLE
                            " WHERE namespace = $1 AND number >= 0 AND number < $2::integer "
                            "AND vector_dims(embedding) = %d",
                            sync->refs->dims, sync->refs->dims),
        .n = 2,
        .values = values};
    PGresult *result;

    *exists = false;
    if (run(sync, &command, &result) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (!strcmp(aip_pg_state(result), "42P01")) {
        return APR_SUCCESS;
    }
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQnfields(result) != 1) {
        return aip_pg_run_refused(sync->db->pg, result, command.doing, sync->pool, sync->err);
    }
    *exists = true;
    for (int i = 0; i < PQntuples(result); i++) {
        apr_uint64_t number = PQgetlength(result, i, 0) == 4 ? get(PQgetvalue(result, i, 0), 4)
                                                             : (apr_uint64_t)sync->refs->n;

        if (number < (apr_uint64_t)sync->refs->n) {
            present[number] = 1;
        }
    }
    return APR_SUCCESS;
}

/** Writes these references; what another server has written meanwhile is as good. They are in
 * order, so that two servers cannot wait for each other. */
static apr_status_t write_batch(const sync_t *sync, const int *numbers, int n)
{
    const int dims = sync->refs->dims;
    int lengths[3] = {0};
    const char *values[] = {sync->namespace, numbers_value(numbers, n, &lengths[1], sync->pool),
                            floats_value(sync->refs, numbers, n, &lengths[2], sync->pool)};
    const int formats[] = {TEXT, BINARY, BINARY};
    const aip_pg_command_t command = {
        .doing = "INSERT",
        .sql = apr_psprintf(sync->pool,
                            "INSERT INTO " TABLE " (namespace, number, embedding) "
                            "SELECT $1::text, u.number, "
                            "(($3::real[])[(u.i::integer - 1) * %d + 1 : u.i::integer * %d])"
                            "::vector FROM unnest($2::integer[]) WITH ORDINALITY AS u (number, i) "
                            "ON CONFLICT (namespace, number) DO NOTHING",
                            dims, dims, dims),
        .n = 3,
        .values = values,
        .lengths = lengths,
        .formats = formats};
    PGresult *result;

    if (run(sync, &command, &result) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    return PQresultStatus(result) == PGRES_COMMAND_OK
               ? APR_SUCCESS
               : aip_pg_run_refused(sync->db->pg, result, command.doing, sync->pool, sync->err);
}

static apr_status_t write_missing(sync_t *sync, const char *present)
{
    int numbers[BATCH], n = 0;

    for (int i = 0; i < sync->refs->n; i++) {
        if (!present[i]) {
            numbers[n++] = i;
        }
        if (n == BATCH || (n > 0 && i == sync->refs->n - 1)) {
            if (write_batch(sync, numbers, n) != APR_SUCCESS) {
                return APR_EGENERAL;
            }
            n = 0;
            apr_pool_clear(sync->pool);
        }
    }
    return APR_SUCCESS;
}

/** A row that is there already keeps its place, whatever it holds. */
static apr_status_t look_again(const sync_t *sync)
{
    char *present = apr_pcalloc(sync->pool, (size_t)sync->refs->n);
    bool exists;

    if (look(sync, present, &exists) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    return memchr(present, 0, (size_t)sync->refs->n)
               ? FAIL(sync->err, sync->pool, "vectordb_index",
                      "postgresql: some references cannot be written: rows of another form hold "
                      "their place in " TABLE,
                      sync->refs->dims)
               : APR_SUCCESS;
}

static apr_status_t sync_rows(sync_t *sync, char *present)
{
    bool exists;

    if (look(sync, present, &exists) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (exists && !memchr(present, 0, (size_t)sync->refs->n)) {
        return APR_SUCCESS;
    }
    if (!exists && make_table(sync) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    return write_missing(sync, present) == APR_SUCCESS ? look_again(sync) : APR_EGENERAL;
}

static apr_status_t pgvector_sync(aip_vectordb_t *db, const aip_references_t *refs,
                                  apr_pool_t *pool, aip_error_t *err)
{
    sync_t sync = {.db = (pgvector_db_t *)db, .refs = refs, .err = err};
    apr_status_t status;

    if (refs->n == 0) {
        return APR_SUCCESS;
    }
    if (refs->dims > AIP_PGVECTOR_DIMENSIONS_MAX) {
        return FAIL(err, pool, "vectordb_index", "postgresql: vectors have at most %d dimensions",
                    AIP_PGVECTOR_DIMENSIONS_MAX);
    }
    if (apr_pool_create(&sync.pool, pool) != APR_SUCCESS) {
        return FAIL(err, pool, "vectordb_error", "postgresql: no memory");
    }
    sync.namespace = namespace_of(refs, pool);
    status = sync_rows(&sync, apr_pcalloc(pool, (size_t)refs->n));
    if (status != APR_SUCCESS && err->message) {
        err->message = apr_pstrdup(pool, err->message);
    }
    apr_pool_destroy(sync.pool);
    return status;
}

/* ---- query ---- */

/** A double of the answer in the metric's scale; not finite when it is none. */
static float read_distance(const char *value, int length, aip_metric_e metric)
{
    apr_uint64_t bits = length == 8 ? get(value, 8) : 0;
    double distance;

    memcpy(&distance, &bits, sizeof(distance));
    if (length != 8 || !isfinite(distance)) {
        return NAN;
    }
    distance = distance > 0 ? distance : 0; /* rounding takes equal vectors below 0 */
    switch (metric) {
    case AIP_METRIC_COSINE:
        return (float)(distance < 2 ? distance : 2);
    case AIP_METRIC_EUCLIDEAN:
        return (float)(distance * distance / 2);
    }
    return NAN;
}

/** Reads rows of number and distance into distances by number. */
static apr_status_t read_rows(const aip_pg_pool_t *pg, const PGresult *result, aip_metric_e metric,
                              const aip_references_t *refs, float *distances, apr_pool_t *pool,
                              aip_error_t *err)
{
    char *seen = apr_pcalloc(pool, (size_t)refs->n);
    int count = 0;

    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQnfields(result) != 2) {
        return aip_pg_run_refused(pg, result, "SELECT", pool, err);
    }
    for (int row = 0; row < PQntuples(result); row++) {
        apr_uint64_t number = PQgetlength(result, row, 0) == 4 ? get(PQgetvalue(result, row, 0), 4)
                                                               : (apr_uint64_t)refs->n;
        float distance =
            read_distance(PQgetvalue(result, row, 1), PQgetlength(result, row, 1), metric);

        if (number >= (apr_uint64_t)refs->n || seen[number]) {
            continue; /* no row of ours */
        }
        if (!isfinite(distance)) {
            return FAIL(err, pool, "vectordb_error",
                        "postgresql: the distance of reference %d is not finite", (int)number);
        }
        distances[number] = distance;
        seen[number] = 1;
        count++;
    }
    if (count != refs->n) {
        return FAIL(err, pool, "vectordb_index",
                    "postgresql: the table answered %d of %d references", count, refs->n);
    }
    return APR_SUCCESS;
}

static const char *operator_of(aip_metric_e metric)
{
    switch (metric) {
    case AIP_METRIC_COSINE:
        return "<=>";
    case AIP_METRIC_EUCLIDEAN:
        return "<->";
    }
    return "";
}

/* No ORDER BY: all rows are wanted, and with one an approximate index that somebody made would be
 * used, which leaves rows out. */
static apr_status_t pgvector_query_by(aip_vectordb_t *db, const aip_references_t *refs,
                                      const float *vector, float *distances, apr_time_t deadline,
                                      apr_pool_t *pool, aip_error_t *err)
{
    int lengths[3] = {0};
    const int formats[] = {BINARY, TEXT, TEXT};
    const char *values[] = {vector_value(vector, refs->dims, &lengths[0], pool),
                            namespace_of(refs, pool), apr_itoa(pool, refs->n)};
    const aip_pg_command_t command = {
        .doing = "SELECT",
        .sql = apr_psprintf(pool,
                            "SELECT number::integer, (embedding %s $1::vector)::double precision "
                            "FROM " TABLE
                            " WHERE namespace = $2 AND number >= 0 AND number < $3::integer",
                            operator_of(db->metric), refs->dims),
        .n = 3,
        .values = values,
        .lengths = lengths,
        .formats = formats};
    aip_pg_pool_t *pg = ((pgvector_db_t *)db)->pg;
    PGresult *result;

    if (refs->n == 0) {
        return APR_SUCCESS;
    }
    if (aip_pg_run(pg, &command, deadline, &result, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    return read_rows(pg, result, db->metric, refs, distances, pool, err);
}

static apr_status_t pgvector_query(aip_vectordb_t *db, const aip_references_t *refs,
                                   const float *vector, float *distances, apr_pool_t *pool,
                                   aip_error_t *err)
{
    return pgvector_query_by(db, refs, vector, distances, 0, pool, err);
}

static const aip_vectordb_kind_t pgvector_kind = {.name = "pgvector",
                                                  .sync = pgvector_sync,
                                                  .query = pgvector_query,
                                                  .query_by = pgvector_query_by};

aip_vectordb_t *aip_vectordb_pgvector(const aip_pgvector_conf_t *conf, aip_metric_e metric,
                                      apr_pool_t *pool)
{
    pgvector_db_t *db = apr_pcalloc(pool, sizeof(*db));

    db->base.kind = &pgvector_kind;
    db->base.metric = metric;
    db->pg = aip_pg_pool_create(conf, pool);
    db->database = conf->database;
    return &db->base;
}
