/* SPDX-License-Identifier: Apache-2.0 */
/* Fading values: what time does to them, clocks that go back and wrap around, and that nothing is
 * lost when threads and processes change one word together. Times are made up; nothing sleeps. */
#include "aip/decay.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))
#define SEC apr_time_from_sec(1)
#define MS apr_time_from_msec(1)
#define DAY (86400 * SEC)
#define WINDOW (10 * SEC)
#define T0 apr_time_from_sec(1795000000)
#define CIRCLE apr_time_from_msec(4294967296) /* after so much time the stamp is the same again */

Suite *decay_suite(void);

static void expect(const char *name, double got, double expected)
{
    double tolerance = fabs(expected) * 1e-6 + 1e-9;
    ck_assert_msg(fabs(got - expected) <= tolerance, "%s: %.9g, not %.9g", name, got, expected);
}

START_TEST(nothing_put_in)
{
    aip_decay_t d = 0;
    ck_assert_double_eq(aip_decay_read(&d, T0, SEC), 0);
    ck_assert_double_eq(aip_decay_last(&d), -1);
    ck_assert(aip_decay_age(&d, T0) == APR_INT64_MAX);
    ck_assert(atomic_load(&d) == 0);
}
END_TEST

/* Zero is something: put in, it has an age. */
START_TEST(zero_put_in)
{
    for (int i = 0; i < 3; i++) {
        aip_decay_t d = 0;
        if (i == 0) {
            aip_decay_put(&d, 0, T0);
        } else if (i == 1) {
            aip_decay_add(&d, 0, T0, SEC);
        } else {
            aip_decay_sample(&d, 0, T0, SEC);
        }
        ck_assert_double_eq(aip_decay_last(&d), 0);
        ck_assert(aip_decay_age(&d, T0 + SEC) == SEC);
    }
}
END_TEST

static const struct {
    const char *name;
    apr_interval_time_t age, window;
    double expected; /* of 100 */
} fades[] = {
    {"at once", 0, 10 * SEC, 100},
    {"half a window", 5 * SEC, 10 * SEC, 60.6530660},
    {"one window", 10 * SEC, 10 * SEC, 36.7879441},
    {"three windows", 30 * SEC, 10 * SEC, 4.97870684},
    {"another window", 30 * SEC, 60 * SEC, 60.6530660},
    {"a millisecond of a short window", MS, MS, 36.7879441},
    {"a day of a long window", DAY, 20 * DAY, 95.1229425},
    {"long gone", 3600 * SEC, SEC, 0},
    {"the clock went back", -5 * SEC, 10 * SEC, 100},
    {"by an hour", -3600 * SEC, 10 * SEC, 100},
};

START_TEST(fading)
{
    aip_decay_t d = 0;
    aip_decay_put(&d, 100, T0);
    expect(fades[_i].name, aip_decay_read(&d, T0 + fades[_i].age, fades[_i].window),
           fades[_i].expected);
    expect("reading needs no write", aip_decay_last(&d), 100);
    ck_assert(aip_decay_age(&d, T0 + fades[_i].age) == (fades[_i].age > 0 ? fades[_i].age : 0));
}
END_TEST

/* Wherever the stamp stands in its circle, also at 0, which means "nothing". */
START_TEST(around_the_circle)
{
    apr_time_t zero = (T0 / CIRCLE + 1) * CIRCLE;
    for (int from = -3; from <= 3; from++) {
        for (int age = 0; age <= 6; age++) {
            aip_decay_t d = 0;
            apr_time_t at = zero + from * SEC, now = at + age * SEC;
            aip_decay_add(&d, 100, at, WINDOW);
            ck_assert_double_eq_tol(aip_decay_read(&d, now, WINDOW), 100 * exp(-age / 10.0), 0.02);
            ck_assert(llabs((long long)(aip_decay_age(&d, now) - age * SEC)) <= MS);
            aip_decay_add(&d, 1, now, WINDOW);
            ck_assert_double_eq_tol(aip_decay_last(&d), 100 * exp(-age / 10.0) + 1, 0.02);
            aip_decay_put(&d, 0, zero);
            ck_assert_double_eq(aip_decay_last(&d), 0);
        }
    }
}
END_TEST

static const struct {
    const char *name;
    apr_interval_time_t age, told;
} ages[] = {
    {"a day", DAY, DAY},
    {"23 days", 23 * DAY, 23 * DAY},
    {"25 days", 25 * DAY, 24 * DAY},
    {"30 days", 30 * DAY, 24 * DAY},
    {"40 days", 40 * DAY, 24 * DAY},
    {"49 days", 49 * DAY, 24 * DAY},
};

/* What lies long back is old, and what is put in then fades as ever. */
START_TEST(long_ago)
{
    aip_decay_t d = 0, average = 0;
    apr_time_t now = T0 + ages[_i].age;
    aip_decay_put(&d, 100, T0);
    apr_interval_time_t told = aip_decay_age(&d, now);
    ck_assert_msg(told / DAY == ages[_i].told / DAY, "%s: told as %d days", ages[_i].name,
                  (int)(told / DAY));
    expect(ages[_i].name, aip_decay_read(&d, now, WINDOW), 0);
    aip_decay_add(&d, 8, now, WINDOW);
    expect("added", aip_decay_last(&d), 8);
    expect("and faded", aip_decay_read(&d, now + WINDOW, WINDOW), 8 / M_E);
    aip_decay_put(&average, 100, T0);
    aip_decay_sample(&average, 8, now, WINDOW);
    expect("sampled", aip_decay_last(&average), 8);
    ck_assert(aip_decay_age(&average, now + SEC) == SEC);
}
END_TEST

START_TEST(sums)
{
    aip_decay_t d = 0;
    aip_decay_add(&d, 100, T0, WINDOW);
    aip_decay_add(&d, 50, T0 + WINDOW, WINDOW);
    expect("both", aip_decay_last(&d), 100 / M_E + 50);
    ck_assert(aip_decay_age(&d, T0 + 12 * SEC) == 2 * SEC);
    aip_decay_add(&d, 7, T0 + WINDOW, WINDOW);
    expect("at the same time", aip_decay_last(&d), 100 / M_E + 57);
    expect("a long time after", aip_decay_read(&d, T0 + 3600 * SEC, WINDOW), 0);
}
END_TEST

/* A steady stream settles at rate times window, however long it goes on and in whatever steps. */
START_TEST(steady_stream)
{
    static const int steps[] = {1, 7, 100, 1000}; /* milliseconds */
    aip_decay_t d = 0;
    apr_time_t now = T0;
    for (; now < T0 + 200 * SEC; now += steps[_i] * MS) {
        aip_decay_add(&d, 3.0 * steps[_i], now, WINDOW); /* 3000 a second */
    }
    double level = aip_decay_read(&d, now - steps[_i] * MS / 2, WINDOW);
    ck_assert_msg(fabs(level - 30000) < 30000 * 0.005, "%.9g", level);
}
END_TEST

/* Times within one millisecond add up: a value that changes more often fades as well. */
START_TEST(below_a_millisecond)
{
    aip_decay_t d = 0;
    aip_decay_put(&d, 1e6, T0);
    for (apr_time_t now = T0; now <= T0 + SEC; now += 300) {
        aip_decay_add(&d, 0, now, SEC);
    }
    ck_assert_double_eq_tol(aip_decay_read(&d, T0 + SEC, SEC), 1e6 / M_E, 1e6 * 0.002);
}
END_TEST

START_TEST(clock_goes_back)
{
    aip_decay_t d = 0, average = 0;
    aip_decay_add(&d, 100, T0, SEC);
    aip_decay_add(&d, 1, T0 - 100 * SEC, SEC);
    ck_assert_double_eq(aip_decay_last(&d), 101);
    ck_assert(aip_decay_age(&d, T0 + SEC) == SEC); /* it has not become older */
    expect("goes on", aip_decay_read(&d, T0 + SEC, SEC), 101 / M_E);
    aip_decay_sample(&average, 100, T0, SEC);
    aip_decay_sample(&average, 50, T0 - 100 * SEC, SEC);
    ck_assert_double_eq(aip_decay_last(&average), 100);
}
END_TEST

static const struct {
    const char *name;
    double before, sample;
    apr_interval_time_t age;
    double expected;
} samples[] = {
    {"the first", -1, 70, 0, 70},
    {"a peak replaces", 100, 500, 0, 500},
    {"a peak replaces, whatever the age", 100, 101, 1000 * SEC, 101},
    {"lower, at once", 100, 10, 0, 100},
    {"lower, after half a window", 100, 10, 5 * SEC, 64.5877594},
    {"lower, after a window", 100, 10, 10 * SEC, 43.1091497},
    {"lower, after ages", 100, 10, 1000 * SEC, 10},
    {"the same", 100, 100, 3 * SEC, 100},
    {"zero", 100, 0, 10 * SEC, 36.7879441},
    {"after zero", 0, 5, SEC, 5},
    {"a tiny one", 1e-9, 1e-12, 10 * SEC, 3.68511562e-10},
};

START_TEST(averages)
{
    aip_decay_t d = 0;
    if (samples[_i].before >= 0) {
        aip_decay_put(&d, samples[_i].before, T0);
    }
    aip_decay_sample(&d, samples[_i].sample, T0 + samples[_i].age, WINDOW);
    expect(samples[_i].name, aip_decay_last(&d), samples[_i].expected);
    ck_assert(aip_decay_age(&d, T0 + samples[_i].age) == 0);
}
END_TEST

START_TEST(replaced)
{
    aip_decay_t d = 0;
    aip_decay_put(&d, 100, T0);
    aip_decay_put(&d, 3, T0 - 60 * SEC); /* as of an earlier time */
    expect("lower", aip_decay_last(&d), 3);
    ck_assert(aip_decay_age(&d, T0) == 60 * SEC);
    aip_decay_put(&d, 5e12, T0);
    expect("large", aip_decay_last(&d), 5e12);
    expect("faded", aip_decay_read(&d, T0 + SEC, SEC), 5e12 / M_E);
}
END_TEST

/* ---- together ---- */

enum { PROCESSES = 4, THREADS = 4, ADDS = 5000 };

typedef struct shared_t {
    aip_decay_t sum, small, fading, peak;
    _Atomic int ready;
} shared_t;

typedef struct worker_t {
    shared_t *shared;
    int i;
} worker_t;

static void *work(void *data)
{
    worker_t *w = data;
    shared_t *s = w->shared;
    atomic_fetch_add(&s->ready, 1);
    while (atomic_load(&s->ready) < PROCESSES * THREADS) {
        sched_yield();
    }
    for (int i = 0; i < ADDS; i++) {
        aip_decay_add(&s->sum, 1, T0, WINDOW);
        aip_decay_add(&s->small, 0.1, T0, WINDOW);
        aip_decay_add(&s->fading, 1, T0 + i * MS, 1000000 * SEC);
        aip_decay_sample(&s->peak, i == w->i ? 1000 + w->i : i % 1000, T0, WINDOW);
    }
    return NULL;
}

static int work_in_threads(shared_t *shared, int process)
{
    pthread_t threads[THREADS];
    worker_t workers[THREADS];
    int failed = 0;
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker_t){shared, process * THREADS + i};
        failed += pthread_create(&threads[i], NULL, work, &workers[i]) != 0;
    }
    for (int i = 0; i < THREADS && !failed; i++) {
        pthread_join(threads[i], NULL);
    }
    return failed;
}

START_TEST(threads_of_processes)
{
    const double all = PROCESSES * THREADS * ADDS;
    shared_t *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(s, MAP_FAILED);
    for (int process = 0; process < PROCESSES; process++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            _exit(work_in_threads(s, process));
        }
    }
    for (int process = 0, status; process < PROCESSES; process++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    ck_assert_double_eq(aip_decay_last(&s->sum), all); /* whole numbers below 2^24 are exact */
    ck_assert_double_eq_tol(aip_decay_last(&s->small), all / 10, all / 10 * 1e-3);
    ck_assert_double_eq_tol(aip_decay_last(&s->fading), all, all * 1e-3);
    ck_assert_double_eq(aip_decay_last(&s->peak), 1000 + PROCESSES * THREADS - 1);
    munmap(s, sizeof *s);
}
END_TEST

Suite *decay_suite(void)
{
    Suite *suite = suite_create("decay");
    TCase *tc = tcase_create("decay");
    tcase_add_test(tc, nothing_put_in);
    tcase_add_test(tc, zero_put_in);
    tcase_add_loop_test(tc, fading, 0, COUNT(fades));
    tcase_add_test(tc, around_the_circle);
    tcase_add_loop_test(tc, long_ago, 0, COUNT(ages));
    tcase_add_test(tc, sums);
    tcase_add_loop_test(tc, steady_stream, 0, 4);
    tcase_add_test(tc, below_a_millisecond);
    tcase_add_test(tc, clock_goes_back);
    tcase_add_loop_test(tc, averages, 0, COUNT(samples));
    tcase_add_test(tc, replaced);
    suite_add_tcase(suite, tc);
    tc = tcase_create("together");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, threads_of_processes);
    suite_add_tcase(suite, tc);
    return suite;
}
