/* SPDX-License-Identifier: Apache-2.0 */
/* The router: nearest routes by the local embedder and by a provider, and its background thread
 * with providers and stores that are away. */

#include "references_fixture.h"

Suite *router_suite(void);

static apr_pool_t *router_pool;

static aip_router_t *start(void)
{
    aip_router_t *router = NULL;
    apr_pool_create(&router_pool, pool);
    ck_assert_int_eq(aip_router_create(&router, &conf, router_pool), APR_SUCCESS);
    ck_assert_str_eq(aip_router_conf(router)->name, "test");
    return router;
}

START_TEST(routes_by_meaning)
{
    static const struct {
        const char *prompt;
        int nearest;
    } rows[] = {
        {"what is the derivative of x squared", 0},
        {"solve this equation for me", 0},
        {"how long do I bake bread", 1},
        {"a sauce for pasta with garlic", 1},
    };
    use_shipped_model(
        "questions about mathematics, algebra and equations|cooking recipes, baking and food");
    aip_router_t *router = start();
    float *vector = apr_palloc(pool, (apr_size_t)conf.embedder.dims * sizeof *vector), distances[2];
    bool degraded = true;
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert(aip_router_embed_local(
            router, (aip_span_t){rows[i].prompt, strlen(rows[i].prompt)}, vector));
        aip_router_distances(router, vector, distances, 0, &degraded, pool);
        ck_assert(!degraded);
        ck_assert_msg(distances[rows[i].nearest] < distances[1 - rows[i].nearest], "%s: %f %f",
                      rows[i].prompt, (double)distances[0], (double)distances[1]);
    }
    ck_assert(aip_router_embed_local(router, conf.routes->texts[0], vector));
    aip_router_distances(router, vector, distances, 0, &degraded, pool);
    ck_assert_float_eq_tol(distances[0], 0.0f, 1e-5f);
    ck_assert(!aip_router_embed_local(router, AIP_SPAN(""), vector));
    ck_assert(!aip_router_embed_local(router, AIP_SPAN(" \t\n"), vector));
    apr_pool_destroy(router_pool);
    ck_assert_int_eq(logged("[6] AIP0102: test: 2 references"), 1);
    ck_assert_int_eq(logged("AIP"), 1);
}
END_TEST

/* A provider that is away at the start is asked again until it is there; the operator is told once.
 */
START_TEST(asks_again)
{
    peer.fail_first = 2;
    aip_router_t *router = start();
    ck_assert(!aip_router_ready(router, apr_time_from_msec(50)));
    ck_assert(aip_router_ready(router, apr_time_from_sec(10)));
    ck_assert(aip_router_ready(router, 0));
    ck_assert_uint_eq(peer.requests, 3);
    apr_pool_destroy(router_pool);
    ck_assert_int_eq(logged("[4] AIP0103: test: "), 1);
    ck_assert_int_eq(logged("503"), 1);
    ck_assert_int_eq(logged("AIP0102"), 1);
}
END_TEST

START_TEST(waits_no_longer_than_told)
{
    peer.fail_first = 1000;
    aip_router_t *router = start();
    apr_time_t begin = apr_time_now();
    ck_assert(!aip_router_ready(router, apr_time_from_msec(300)));
    apr_interval_time_t took = apr_time_now() - begin;
    ck_assert_int_ge(took, apr_time_from_msec(290));
    ck_assert_int_lt(took, apr_time_from_msec(1500));
    begin = apr_time_now();
    ck_assert(!aip_router_ready(router, 0));
    ck_assert_int_lt(apr_time_now() - begin, apr_time_from_msec(200));
    begin = apr_time_now();
    apr_pool_destroy(router_pool); /* while it waits for its next try */
    ck_assert_int_lt(apr_time_now() - begin, apr_time_from_msec(1500));
}
END_TEST

START_TEST(remote_answers)
{
    float v[DIMS], distances[3];
    bool degraded = true;
    aip_error_t err = {0};
    aip_router_t *router = start();
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    aip_span_t body = aip_router_request(&conf.embedder, &conf.routes->texts[1], 1, pool);
    ck_assert_str_eq(apr_pstrmemdup(pool, body.data, body.len),
                     "{\"model\":\"embed-1\",\"input\":[\"two\"],\"encoding_format\":\"base64\"}");
    char *made = vectors_json(body.data);
    ck_assert_int_eq(aip_router_response(router, (aip_span_t){made, strlen(made)}, v, pool, &err),
                     APR_SUCCESS);
    free(made);
    float norm = 0;
    for (int i = 0; i < DIMS; i++) {
        norm += v[i] * v[i];
    }
    ck_assert_float_eq_tol(norm, 1.0f, 1e-5f);
    aip_router_distances(router, v, distances, 0, &degraded, pool);
    ck_assert(!degraded);
    ck_assert_float_eq_tol(distances[1], 0.0f, 1e-5f);
    ck_assert_float_gt(distances[0], 1e-4f);
    ck_assert_int_ne(aip_router_response(router, AIP_SPAN("{\"data\":[]}"), v, pool, &err),
                     APR_SUCCESS);
    ck_assert_ptr_nonnull(err.message);
    apr_pool_destroy(router_pool);
}
END_TEST

static int wait_for_log(const char *what)
{
    for (int i = 0; i < 100 && !logged(what); i++) {
        usleep(50000);
    }
    return logged(what);
}

/* A store that is away: the mirror answers, the operator is told once. */
START_TEST(store_is_away)
{
    aip_redis_conf_t redis = {.host = "127.0.0.1",
                              .port = 1,
                              .connect_timeout = 500,
                              .send_timeout = 500,
                              .read_timeout = 500,
                              .pool_size = 4,
                              .backlog = -1};
    float v[DIMS], distances[3], plain[3];
    bool degraded;
    aip_router_t *router = start();
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    vector_of("three", v);
    ck_assert(aip_vector_normalize(v, DIMS));
    aip_router_distances(router, v, plain, 0, &degraded, pool);
    apr_pool_destroy(router_pool);
    conf.redis = &redis;
    router = start();
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    ck_assert_int_eq(wait_for_log("[4] AIP0105: test: "), 1);
    for (int i = 0; i < 50; i++) {
        degraded = false;
        aip_router_distances(router, v, distances, 0, &degraded, pool);
        ck_assert(degraded);
        for (int t = 0; t < 3; t++) {
            ck_assert_float_eq_tol(distances[t], plain[t], 1e-6f);
        }
    }
    apr_pool_destroy(router_pool);
    ck_assert_int_eq(logged("AIP0105"), 1);
}
END_TEST

Suite *router_suite(void)
{
    Suite *suite = suite_create("router");
    TCase *tcase = tcase_create("router");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, routes_by_meaning);
    tcase_add_test(tcase, asks_again);
    tcase_add_test(tcase, waits_no_longer_than_told);
    tcase_add_test(tcase, remote_answers);
    tcase_add_test(tcase, store_is_away);
    suite_add_tcase(suite, tcase);
    return suite;
}
