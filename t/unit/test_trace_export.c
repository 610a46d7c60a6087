/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of spans, what answers of a collector mean, and the names of OpenTelemetry. */
#include "aip/trace_export.h"
#include "aip/trace_names.h"

#include <pthread.h>
#include <string.h>

#include "fixture.h"

Suite *trace_export_suite(void);

static aip_span_t text(const char *s)
{
    return (aip_span_t){s, strlen(s)};
}

/* Takes a batch, and gives it back. */
static void take(aip_trace_queue_t *queue, const char *data, int requests, int spans)
{
    aip_trace_batch_t *batch = aip_trace_queue_take(queue);
    ck_assert_ptr_nonnull(batch);
    ck_assert_uint_eq(batch->len, strlen(data));
    ck_assert_mem_eq(batch->data + AIP_TRACE_HEAD, data, batch->len);
    ck_assert_int_eq(batch->requests, requests);
    ck_assert_int_eq(batch->spans, spans);
    aip_trace_queue_give_back(queue, batch);
}

START_TEST(bounded)
{
    aip_trace_queue_t *queue = aip_trace_queue_create(4, 100, pool);
    ck_assert_ptr_null(aip_trace_queue_take(queue));
    ck_assert_int_eq(aip_trace_queue_push(queue, text("a"), 1), AIP_TRACE_QUEUED);
    ck_assert(!aip_trace_queue_pressed(queue));
    ck_assert_int_eq(aip_trace_queue_push(queue, text("b"), 2), AIP_TRACE_QUEUED_WAKE);
    ck_assert(aip_trace_queue_pressed(queue));
    ck_assert_int_eq(aip_trace_queue_push(queue, text("c"), 3), AIP_TRACE_QUEUED);
    ck_assert_int_eq(aip_trace_queue_push(queue, text("d"), 4), AIP_TRACE_QUEUED);
    ck_assert_int_eq(aip_trace_queue_push(queue, text("e"), 5), AIP_TRACE_FULL);
    take(queue, "abcd", 4, 10);
    ck_assert_ptr_null(aip_trace_queue_take(queue));
    ck_assert_int_eq(aip_trace_queue_push(queue, text("f"), 1), AIP_TRACE_QUEUED);
    take(queue, "f", 1, 1);
}
END_TEST

START_TEST(batches)
{
    aip_trace_queue_t *queue = aip_trace_queue_create(10, 8, pool);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++) {
            aip_trace_queue_push(queue, text(i == 2 ? "0123456789" : "0123"), 1);
        }
        take(queue, "01230123", 2, 2);
        take(queue, "0123456789", 1, 1);              /* alone, though too long */
        aip_trace_queue_push(queue, text("last"), 7); /* what comes meanwhile goes to the end */
        take(queue, "01230123", 2, 2);
        take(queue, "last", 1, 7);
        ck_assert_ptr_null(aip_trace_queue_take(queue));
    }
}
END_TEST

/* A long batch that was given back is not the spare one: the next may be of the usual length. */
START_TEST(given_back)
{
    aip_trace_queue_t *queue = aip_trace_queue_create(10, 8, pool);
    aip_trace_queue_push(queue, text("0123456789"), 1);
    take(queue, "0123456789", 1, 1);
    aip_trace_queue_push(queue, text("01234567"), 1);
    aip_trace_queue_push(queue, text("8"), 1);
    aip_trace_batch_t *one = aip_trace_queue_take(queue), *two = aip_trace_queue_take(queue);
    ck_assert_uint_eq(one->room, 8);
    ck_assert_uint_eq(two->room, 8);
    aip_trace_queue_give_back(queue, one);
    aip_trace_queue_give_back(queue, two);
    aip_trace_queue_push(queue, text("0123456789"), 1);
    aip_trace_queue_push(queue, text("again"), 1);
    take(queue, "0123456789", 1, 1);
    ck_assert_ptr_eq(aip_trace_queue_take(queue), one);
    aip_trace_queue_give_back(queue, one);
}
END_TEST

#define THREADS 8
#define PUSHES 5000

static void *push_many(void *queue)
{
    long taken = 0;
    for (int i = 0; i < PUSHES; i++) {
        taken += aip_trace_queue_push(queue, text("x"), 1) != AIP_TRACE_FULL;
    }
    return (void *)taken;
}

START_TEST(threads)
{
    aip_trace_queue_t *queue = aip_trace_queue_create(100, 10, pool);
    pthread_t ids[THREADS];
    long pushed = 0, got = 0;
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&ids[i], NULL, push_many, queue), 0);
    }
    for (int i = 0; i < THREADS + 1; i++) {
        void *n = NULL;
        aip_trace_batch_t *batch;
        if (i < THREADS) {
            pthread_join(ids[i], &n);
        }
        pushed += (long)n;
        while ((batch = aip_trace_queue_take(queue)) != NULL) {
            got += batch->requests;
            aip_trace_queue_give_back(queue, batch);
        }
    }
    ck_assert_int_ge(pushed, 100);
    ck_assert_int_eq(pushed, got);
}
END_TEST

/* clang-format off */
static const struct {
    int status;
    aip_export_verdict_e verdict;
} verdicts[] = {
    {0, AIP_EXPORT_AGAIN}, {200, AIP_EXPORT_TAKEN}, {202, AIP_EXPORT_TAKEN}, {301, AIP_EXPORT_REFUSED},
    {400, AIP_EXPORT_REFUSED}, {401, AIP_EXPORT_REFUSED}, {404, AIP_EXPORT_REFUSED}, {413, AIP_EXPORT_REFUSED},
    {429, AIP_EXPORT_AGAIN}, {500, AIP_EXPORT_REFUSED}, {501, AIP_EXPORT_REFUSED}, {502, AIP_EXPORT_AGAIN},
    {503, AIP_EXPORT_AGAIN}, {504, AIP_EXPORT_AGAIN},
};

static const struct {
    int failed;
    apr_interval_time_t retry_after, pause; /* milliseconds */
} pauses[] = {
    {1, -1, 500}, {2, -1, 1000}, {3, -1, 2000}, {4, -1, 4000}, {7, -1, 30000}, {1000, -1, 30000},
    {1, 0, 100}, {4, 1000, 1000}, {1, 7000, 7000}, {1, 86400000, 30000},
};
/* clang-format on */

START_TEST(answers)
{
    ck_assert_int_eq(aip_export_verdict(verdicts[_i].status), verdicts[_i].verdict);
}
END_TEST

START_TEST(patience)
{
    apr_interval_time_t wish = pauses[_i].retry_after;
    ck_assert_int_eq(aip_export_pause(pauses[_i].failed, wish < 0 ? -1 : wish * 1000),
                     pauses[_i].pause * 1000);
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(aip_trace_provider("openai"), "openai");
    ck_assert_str_eq(aip_trace_provider("azure"), "azure.ai.openai");
    ck_assert_str_eq(aip_trace_provider("bedrock"), "aws.bedrock");
    ck_assert_str_eq(aip_trace_provider("gemini"), "gcp.gemini");
    ck_assert_str_eq(aip_trace_provider("mistral"), "mistral_ai");
    ck_assert_str_eq(aip_trace_provider("xai"), "x_ai");
    ck_assert_str_eq(aip_trace_provider("vllm"), "vllm");
    ck_assert_str_eq(aip_trace_database("pgvector"), "postgresql");
    ck_assert_str_eq(aip_trace_database("redis"), "redis");
    ck_assert_ptr_null(aip_trace_database("memory"));
    ck_assert_str_eq(aip_trace_name(AIP_TRACE_NAME_CACHE_WRITE, AIP_SEMCONV_V1_41),
                     "gen_ai.usage.cache_creation.input_tokens");
    ck_assert_str_eq(aip_trace_name(AIP_TRACE_NAME_CACHE_WRITE, AIP_SEMCONV_LATEST),
                     "gen_ai.usage.cache_write.input_tokens");
}
END_TEST

Suite *trace_export_suite(void)
{
    Suite *suite = suite_create("trace_export");
    TCase *tcase = tcase_create("trace_export");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_test(tcase, bounded);
    tcase_add_test(tcase, batches);
    tcase_add_test(tcase, given_back);
    tcase_add_test(tcase, threads);
    tcase_add_loop_test(tcase, answers, 0, ROWS(verdicts));
    tcase_add_loop_test(tcase, patience, 0, ROWS(pauses));
    tcase_add_test(tcase, names);
    suite_add_tcase(suite, tcase);
    return suite;
}
