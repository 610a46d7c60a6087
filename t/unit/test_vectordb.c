/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process vector store against the plain formulas in double, for every loop remainder. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aip/embeddings.h"
#include "aip/vectordb.h"
#include "fixture.h"

Suite *vectordb_suite(void);

/** Unit vectors, the same on every machine; they end where their memory ends, so that tools see a
 * read beyond. */
static float *unit_vectors(int n, int dims, unsigned state)
{
    float *vectors = malloc((size_t)n * (size_t)dims * sizeof(float));

    for (int i = 0; i < n * dims; i++) {
        state = state * 1664525u + 1013904223u;
        vectors[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    for (int i = 0; i < n; i++) {
        ck_assert(aip_vector_normalize(vectors + (size_t)i * (size_t)dims, dims));
    }
    return vectors;
}

static double plain_distance(aip_metric_e metric, const float *a, const float *b, int dims)
{
    double dot = 0, square = 0;

    for (int i = 0; i < dims; i++) {
        dot += (double)a[i] * (double)b[i];
        square += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return metric == AIP_METRIC_COSINE ? 1 - dot : square / 2;
}

static const int dims_of[] = {1, 2, 7, 8, 9, 15, 16, 17, 256, 384, 1023, 1536, 3072};

START_TEST(equals_plain_formulas)
{
    const int dims = dims_of[_i], n = 20;
    float *vectors = unit_vectors(n, dims, 3), *queries = unit_vectors(5, dims, 77);
    aip_references_t refs = {.n = n, .dims = dims, .vectors = vectors, .digest = ""};
    float distances[20];
    aip_error_t err = {0};

    for (int m = 0; m < 2; m++) {
        aip_metric_e metric = m ? AIP_METRIC_EUCLIDEAN : AIP_METRIC_COSINE;
        aip_vectordb_t *db = aip_vectordb_memory(metric, pool);

        ck_assert_str_eq(db->kind->name, "memory");
        ck_assert_int_eq(db->metric, metric);
        ck_assert_int_eq(db->kind->sync(db, &refs, pool, &err), APR_SUCCESS);
        for (int q = 0; q < 5; q++) {
            const float *query = queries + (size_t)q * (size_t)dims;

            ck_assert_int_eq(db->kind->query(db, &refs, query, distances, pool, &err), APR_SUCCESS);
            for (int i = 0; i < n; i++) {
                double expected =
                    plain_distance(metric, vectors + (size_t)i * (size_t)dims, query, dims);

                ck_assert_msg(fabs((double)distances[i] - expected) < 1e-6,
                              "dims %d, reference %d: %.9g, expected %.9g", dims, i,
                              (double)distances[i], expected);
            }
        }
    }
    free(vectors);
    free(queries);
}
END_TEST

/** For unit vectors the two metrics are one scale, so a threshold means the same in both. */
START_TEST(metrics_agree_on_unit_vectors)
{
    const int dims = dims_of[_i], n = 20;
    float *vectors = unit_vectors(n, dims, 11);
    aip_references_t refs = {.n = n, .dims = dims, .vectors = vectors, .digest = ""};
    aip_vectordb_t *cosine = aip_vectordb_memory(AIP_METRIC_COSINE, pool);
    aip_vectordb_t *euclidean = aip_vectordb_memory(AIP_METRIC_EUCLIDEAN, pool);
    float a[20], b[20];
    aip_error_t err = {0};

    ck_assert_int_eq(cosine->kind->query(cosine, &refs, vectors, a, pool, &err), APR_SUCCESS);
    ck_assert_int_eq(euclidean->kind->query(euclidean, &refs, vectors, b, pool, &err), APR_SUCCESS);
    ck_assert(b[0] == 0 && a[0] >= 0 && a[0] < 1e-6f);
    for (int i = 0; i < n; i++) {
        ck_assert_msg(fabsf(a[i] - b[i]) < 1e-6f, "dims %d, reference %d: %.9g, %.9g", dims, i,
                      (double)a[i], (double)b[i]);
    }
    free(vectors);
}
END_TEST

START_TEST(cosine_stays_in_range)
{
    /* Lengths a little off 1, as rounding makes them. */
    const float vectors[] = {1.00001f, 0, -1.00001f, 0, 0, 1};
    aip_references_t refs = {.n = 3, .dims = 2, .vectors = vectors, .digest = ""};
    aip_vectordb_t *db = aip_vectordb_memory(AIP_METRIC_COSINE, pool);
    float distances[3];
    aip_error_t err = {0};

    ck_assert_int_eq(db->kind->query(db, &refs, vectors, distances, pool, &err), APR_SUCCESS);
    ck_assert(distances[0] == 0 && distances[1] == 2 && distances[2] == 1);
}
END_TEST

START_TEST(not_finite)
{
    const float vectors[] = {1, 0, 0, 1};
    const float queries[][2] = {{NAN, 1}, {1, INFINITY}};
    aip_references_t refs = {.n = 2, .dims = 2, .vectors = vectors, .digest = ""};
    float distances[2];

    for (int i = 0; i < 4; i++) {
        aip_vectordb_t *db =
            aip_vectordb_memory(i % 2 ? AIP_METRIC_EUCLIDEAN : AIP_METRIC_COSINE, pool);
        aip_error_t err = {0};

        ck_assert_int_eq(db->kind->query(db, &refs, queries[i / 2], distances, pool, &err),
                         APR_EGENERAL);
        ck_assert_str_eq(err.code, "vectordb_error");
    }
}
END_TEST

START_TEST(no_references)
{
    const float query[2] = {1, 0};
    aip_references_t refs = {.n = 0, .dims = 2, .digest = ""};
    aip_vectordb_t *db = aip_vectordb_memory(AIP_METRIC_COSINE, pool);
    aip_error_t err = {0};

    ck_assert_int_eq(db->kind->query(db, &refs, query, NULL, pool, &err), APR_SUCCESS);
}
END_TEST

Suite *vectordb_suite(void)
{
    Suite *suite = suite_create("vectordb");
    TCase *tcase = tcase_create("memory");

    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, equals_plain_formulas, 0, sizeof(dims_of) / sizeof(dims_of[0]));
    tcase_add_loop_test(tcase, metrics_agree_on_unit_vectors, 0,
                        sizeof(dims_of) / sizeof(dims_of[0]));
    tcase_add_test(tcase, cosine_stays_in_range);
    tcase_add_test(tcase, not_finite);
    tcase_add_test(tcase, no_references);
    suite_add_tcase(suite, tcase);
    return suite;
}
