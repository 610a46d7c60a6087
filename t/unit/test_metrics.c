/* SPDX-License-Identifier: Apache-2.0 */
/* Books of metrics: buckets, series that stay few whatever names come, labels that cannot be broken
 * out of, and that nothing is lost when threads and processes count together while others read. */
#include "aip/metrics.h"

#include "aip/http1.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

Suite *metrics_suite(void);

/* ---- histograms ---- */

static const struct {
    aip_scale_e scale;
    int n;
    const char *first, *last;
} scales[] = {
    {AIP_SCALE_TOKENS, 14, "1", "6.7108864e+07"}, {AIP_SCALE_DURATION, 14, "0.01", "81.92"},
    {AIP_SCALE_FIRST_TOKEN, 16, "0.001", "10"},   {AIP_SCALE_PER_TOKEN, 13, "0.01", "2.5"},
    {AIP_SCALE_SHORT, 16, "0.0001", "10"},        {AIP_SCALE_SHORT_MS, 16, "0.1", "10000"},
    {AIP_SCALE_KONG_MS, 14, "250", "60000"},      {AIP_SCALE_DISTANCE, 16, "0.05", "2"},
};

/* Every bound ascends, and its text is the bound in the unit that is shown. */
START_TEST(bounds)
{
    const aip_scale_t *s = aip_scale(scales[_i].scale);
    double unit = 1;
    for (int i = 0; i < s->digits; i++) {
        unit *= 10;
    }
    ck_assert_int_eq(s->n, scales[_i].n);
    ck_assert_int_le(s->n, AIP_BUCKETS_MAX);
    ck_assert_str_eq(s->text[0], scales[_i].first);
    ck_assert_str_eq(s->text[s->n - 1], scales[_i].last);
    for (int i = 0; i < s->n; i++) {
        ck_assert_double_eq_tol(strtod(s->text[i], NULL), (double)s->upto[i] / unit, 1e-12);
        ck_assert(i == 0 || s->upto[i] > s->upto[i - 1]);
    }
}
END_TEST

START_TEST(counting)
{
    static const apr_int64_t values[] = {-5, 0, 1, 2, 4, 5, 67108864, 67108865, APR_INT64_MAX / 2};
    static const apr_uint64_t upto[] = {3, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7, 9};
    aip_histogram_t h = {0};
    aip_snapshot_t got = {0};
    apr_uint64_t sum = 0;
    for (int i = 0; i < COUNT(values); i++) {
        aip_histogram_add(&h, AIP_SCALE_TOKENS, values[i]);
        sum += values[i] > 0 ? (apr_uint64_t)values[i] : 0;
    }
    aip_histogram_read(&h, AIP_SCALE_TOKENS, &got);
    for (int i = 0; i < COUNT(upto); i++) {
        ck_assert_uint_eq(got.upto[i], upto[i]);
    }
    ck_assert_uint_eq(got.count, COUNT(values));
    ck_assert_uint_eq(got.sum, sum);
    aip_histogram_read(&h, AIP_SCALE_TOKENS, &got); /* two targets that are shown as one */
    ck_assert_uint_eq(got.upto[0], 6);
    ck_assert_uint_eq(got.count, 2 * COUNT(values));
    ck_assert_uint_eq(got.sum, 2 * sum);
}
END_TEST

/* ---- labels ---- */

static const struct {
    const char *name, *text, *expected;
} labels[] = {
    {"nothing", NULL, ""},
    {"plain", "gpt-4o:2024/05", "gpt-4o:2024/05"},
    {"quotes and ends", "a\"} 1\nb\\c\r\t\x7f", "a_} 1_b_c___"},
    {"UTF-8", "mod\xc3\xa8le \xe2\x82\xac \xf0\x9f\x98\x80",
     "mod\xc3\xa8le \xe2\x82\xac \xf0\x9f\x98\x80"},
    {"no UTF-8", "a\xff\xc0\xaf\xed\xa0\x80\xf5z", "a_______z"},
    {"cut off", "a\xe2\x82", "a__"},
    {"too long", "0123456789012345678901234567890123456789012345678901234567890123x",
     "0123456789012345678901234567890123456789012345678901234567890123"},
    {"never half a character",
     "012345678901234567890123456789012345678901234567890123456789012\xe2\x82\xac",
     "012345678901234567890123456789012345678901234567890123456789012"},
};

START_TEST(clean_labels)
{
    char got[AIP_LABEL_BYTES + 1];
    aip_label_clean(got, sizeof got, labels[_i].text);
    ck_assert_msg(strcmp(got, labels[_i].expected) == 0, "%s: '%s'", labels[_i].name, got);
}
END_TEST

START_TEST(words)
{
    for (int i = 0; i < AIP_CODES - 1; i++) {
        ck_assert_int_eq(aip_code_index((int)strtol(aip_code_text(i), NULL, 10)), i);
    }
    ck_assert_str_eq(aip_code_text(aip_code_index(299)), "other");
    ck_assert_str_eq(aip_code_text(aip_code_index(-1)), "other");
    ck_assert_str_eq(aip_cause_text(aip_cause_index(AIP_OUTCOME_OK, 500)), "ok");
    ck_assert_str_eq(aip_cause_text(aip_cause_index(AIP_OUTCOME_SECRET, 0)), "no-secret");
    ck_assert_str_eq(aip_cause_text(aip_cause_index(AIP_OUTCOME_WITHHELD, 503)), "http_503");
    ck_assert_str_eq(aip_cause_text(aip_cause_index(AIP_OUTCOME_WITHHELD, 200)), "error_event");
    ck_assert_str_eq(aip_cause_text(aip_cause_index(AIP_OUTCOME_WITHHELD, 401)), "http_other");
    ck_assert_str_eq(aip_cause_text(AIP_OUTCOMES - 1), "");
}
END_TEST

/* ---- series ---- */

START_TEST(one_series_each)
{
    aip_series_t *table = calloc(AIP_SERIES, sizeof *table);
    aip_series_t *a = aip_series_find(table, NULL, "a", NULL);
    ck_assert_ptr_eq(aip_series_find(table, "", "a", ""), a);
    ck_assert_ptr_ne(aip_series_find(table, "", "a", "500"), a);
    ck_assert_ptr_ne(aip_series_find(table, "r", "a", NULL), a);
    ck_assert_ptr_ne(aip_series_find(table, "", "b", NULL), a);
    ck_assert_str_eq(a->response_model, "a");
    ck_assert(aip_series_used(a) && !aip_series_used(&table[4]));
    free(table);
}
END_TEST

START_TEST(never_more)
{
    aip_series_t *table = calloc(AIP_SERIES, sizeof *table);
    char name[32];
    aip_series_t *first = aip_series_find(table, NULL, "model 0", NULL);
    for (int i = 1; i < 1000; i++) {
        snprintf(name, sizeof name, "model %d", i);
        aip_series_t *got = aip_series_find(table, NULL, name, NULL);
        ck_assert_ptr_eq(got, &table[i < AIP_SERIES ? i : AIP_SERIES - 1]);
    }
    ck_assert_ptr_eq(aip_series_find(table, NULL, "model 0", NULL), first);
    ck_assert_str_eq(table[AIP_SERIES - 1].response_model, "");
    free(table);
}
END_TEST

/* Else two series would have the same labels. */
START_TEST(a_model_called_other)
{
    aip_series_t *table = calloc(AIP_SERIES, sizeof *table);
    ck_assert_ptr_eq(aip_series_find(table, NULL, AIP_SERIES_OTHER, NULL), &table[AIP_SERIES - 1]);
    ck_assert_ptr_eq(aip_series_find(table, "x", AIP_SERIES_OTHER, "500"), &table[AIP_SERIES - 1]);
    ck_assert(!aip_series_used(&table[0]));
    free(table);
}
END_TEST

/* A child that died while it was claiming one does not hold up the others. */
START_TEST(died_while_claiming)
{
    aip_series_t *table = calloc(AIP_SERIES, sizeof *table);
    aip_series_t *good = aip_series_find(table, NULL, "good", NULL);
    atomic_store(&table[1].state, 1);
    ck_assert_ptr_eq(aip_series_find(table, NULL, "good", NULL), good);
    ck_assert_ptr_eq(aip_series_find(table, NULL, "new", NULL), &table[AIP_SERIES - 1]);
    free(table);
}
END_TEST

/* ---- together ---- */

enum { PROCESSES = 4, THREADS = 4, ADDS = 4000, MODELS = 12 };

typedef struct shared_t {
    aip_target_metrics_t target;
    _Atomic int ready, done;
} shared_t;

static void *count(void *data)
{
    shared_t *s = data;
    char name[16];
    atomic_fetch_add(&s->ready, 1);
    while (atomic_load(&s->ready) < PROCESSES * THREADS) {
        sched_yield();
    }
    for (int i = 0; i < ADDS; i++) {
        snprintf(name, sizeof name, "m%d", i % MODELS);
        aip_series_t *series = aip_series_find(s->target.series, NULL, name, NULL);
        aip_histogram_add(&series->input, AIP_SCALE_TOKENS, i % 7);
        atomic_fetch_add(&s->target.requests, 1);
    }
    return NULL;
}

static int count_in_threads(shared_t *shared)
{
    pthread_t threads[THREADS];
    int failed = 0;
    for (int i = 0; i < THREADS; i++) {
        failed += pthread_create(&threads[i], NULL, count, shared) != 0;
    }
    for (int i = 0; i < THREADS && !failed; i++) {
        pthread_join(threads[i], NULL);
    }
    return failed;
}

static apr_uint64_t look(shared_t *s, apr_uint64_t *sum)
{
    apr_uint64_t n = 0;
    for (int i = 0; i < AIP_SERIES; i++) {
        aip_snapshot_t got = {0};
        aip_histogram_read(&s->target.series[i].input, AIP_SCALE_TOKENS, &got);
        ck_assert_uint_eq(got.upto[aip_scale(AIP_SCALE_TOKENS)->n], got.count);
        n += got.count;
        *sum += got.sum;
    }
    return n;
}

START_TEST(threads_of_processes)
{
    shared_t *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    apr_uint64_t expected = 0, sum = 0, before = 0;
    ck_assert_ptr_ne(s, MAP_FAILED);
    for (int process = 0; process < PROCESSES; process++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            int failed = count_in_threads(s);
            atomic_fetch_add(&s->done, 1);
            _exit(failed);
        }
    }
    while (atomic_load(&s->done) < PROCESSES) { /* a reader beside them: counts only grow */
        apr_uint64_t unused = 0, now = look(s, &unused);
        ck_assert(now >= before);
        before = now;
    }
    for (int process = 0, status; process < PROCESSES; process++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    for (int i = 0; i < ADDS; i++) {
        expected += (apr_uint64_t)(i % 7) * PROCESSES * THREADS;
    }
    ck_assert_uint_eq(look(s, &sum), PROCESSES * THREADS * ADDS);
    ck_assert_uint_eq(sum, expected);
    ck_assert_uint_eq(atomic_load(&s->target.requests), PROCESSES * THREADS * ADDS);
    for (int i = 0; i < AIP_SERIES; i++) { /* one for each model, none twice */
        ck_assert(aip_series_used(&s->target.series[i]) == (i < MODELS));
    }
    munmap(s, sizeof *s);
}
END_TEST

Suite *metrics_suite(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tc = tcase_create("metrics");
    tcase_add_loop_test(tc, bounds, 0, COUNT(scales));
    tcase_add_test(tc, counting);
    tcase_add_loop_test(tc, clean_labels, 0, COUNT(labels));
    tcase_add_test(tc, words);
    tcase_add_test(tc, one_series_each);
    tcase_add_test(tc, never_more);
    tcase_add_test(tc, a_model_called_other);
    tcase_add_test(tc, died_while_claiming);
    suite_add_tcase(suite, tc);
    tc = tcase_create("together");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, threads_of_processes);
    suite_add_tcase(suite, tc);
    return suite;
}
