/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process vector store: an exact scan over the references, which are in memory anyway. It is
 * the default strategy and the mirror that answers while another store is away. No state of its
 * own, so nothing to lock. */

#include "aip/vectordb.h"

#include <math.h>

/* The compiler may not reorder float additions, so one running sum costs a full add latency per
 * element. Independent sums let it use vector registers at plain -O2; eight are enough to hide the
 * latency. */
enum { LANES = 8 };

static float lanes_total(const float *sum)
{
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static float dot_product(const float *a, const float *b, int dims)
{
    float sum[LANES] = {0};
    int i = 0;

    for (; i + LANES <= dims; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            sum[lane] += a[i + lane] * b[i + lane];
        }
    }
    for (int lane = 0; i < dims; i++, lane++) {
        sum[lane] += a[i] * b[i];
    }
    return lanes_total(sum);
}

/** |a - b|^2, from the differences: |a|^2 + |b|^2 - 2ab loses all digits where a is near b. */
static float difference_square(const float *a, const float *b, int dims)
{
    float sum[LANES] = {0};
    int i = 0;

    for (; i + LANES <= dims; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            float d = a[i + lane] - b[i + lane];

            sum[lane] += d * d;
        }
    }
    for (int lane = 0; i < dims; i++, lane++) {
        float d = a[i] - b[i];

        sum[lane] += d * d;
    }
    return lanes_total(sum);
}

static float distance(aip_metric_e metric, const float *a, const float *b, int dims)
{
    switch (metric) {
    case AIP_METRIC_COSINE: {
        float d = 1 - dot_product(a, b, dims);

        /* Rounding takes equal vectors below 0; written so that NaN stays NaN. */
        return d < 0 ? 0 : d > 2 ? 2 : d;
    }
    case AIP_METRIC_EUCLIDEAN:
        return difference_square(a, b, dims) / 2;
    }
    return NAN;
}

static apr_status_t memory_sync(aip_vectordb_t *db, const aip_references_t *refs, apr_pool_t *pool,
                                aip_error_t *err)
{
    (void)db, (void)refs, (void)pool, (void)err;
    return APR_SUCCESS;
}

static apr_status_t memory_query(aip_vectordb_t *db, const aip_references_t *refs,
                                 const float *vector, float *distances, apr_pool_t *pool,
                                 aip_error_t *err)
{
    for (int i = 0; i < refs->n; i++) {
        const float *reference = refs->vectors + (size_t)i * (size_t)refs->dims;

        distances[i] = distance(db->metric, reference, vector, refs->dims);
        if (!isfinite(distances[i])) {
            return aip_error_set(err, pool, 502, "gateway_error", "vectordb_error", NULL,
                                 "the distance of reference %d is not finite", i);
        }
    }
    return APR_SUCCESS;
}

static const aip_vectordb_kind_t memory_kind = {
    .name = "memory", .sync = memory_sync, .query = memory_query};

aip_vectordb_t *aip_vectordb_memory(aip_metric_e metric, apr_pool_t *pool)
{
    aip_vectordb_t *db = apr_pcalloc(pool, sizeof(*db));

    db->kind = &memory_kind;
    db->metric = metric;
    return db;
}
