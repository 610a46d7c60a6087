/* SPDX-License-Identifier: Apache-2.0 */
/* One target's state under many threads of several processes: of all that ask for admission exactly
 * one probes, a breaker opens and closes once, no count and no usage is lost. */
#include "aip/health.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEC apr_time_from_sec(1)
#define T0 apr_time_from_sec(1795000000)
#define LATER (T0 + 60 * SEC)
#define LEASE (40 * SEC)

enum { THREADS = 16, PROCESSES = 4, ROUNDS = 100, TIMES = 2000, LAPS = 50000, PAIR = 2 };

Suite *health_shared_suite(void);

static const aip_health_rules_t rules = {
    .max_fails = 3, .fail_timeout = 10 * SEC, .cooldown_max = 60 * SEC};

typedef struct shared_t shared_t;
typedef void job_t(shared_t *shared);

struct shared_t {
    aip_target_state_t state;
    job_t *job;
    int all; /* so many threads meet before they begin */
    _Atomic int ready;
    _Atomic int yes, no, other; /* what they were told */
};

static shared_t *shared; /* of the running test */

static void setup(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
}

static void teardown(void)
{
    munmap(shared, sizeof *shared);
}

static void *meet(void *data)
{
    shared_t *s = data;
    atomic_fetch_add(&s->ready, 1);
    while (atomic_load(&s->ready) < s->all) {
        sched_yield();
    }
    s->job(s);
    return NULL;
}

static int run_threads(shared_t *s, int n)
{
    pthread_t threads[THREADS];
    int failed = 0;
    for (int i = 0; i < n; i++) {
        failed += pthread_create(&threads[i], NULL, meet, s) != 0;
    }
    for (int i = 0; i < n && !failed; i++) {
        pthread_join(threads[i], NULL);
    }
    return failed;
}

/* THREADS threads, in this process or spread over PROCESSES. */
static void together(job_t *job, bool fork_them)
{
    shared->job = job;
    shared->all = THREADS;
    atomic_store(&shared->ready, 0);
    if (!fork_them) {
        ck_assert_int_eq(run_threads(shared, THREADS), 0);
        return;
    }
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            _exit(run_threads(shared, THREADS / PROCESSES));
        }
    }
    for (int i = 0, status; i < PROCESSES; i++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void begin_round(int failures)
{
    shared->state = (aip_target_state_t){0};
    atomic_store(&shared->yes, 0);
    atomic_store(&shared->no, 0);
    atomic_store(&shared->other, 0);
    for (int i = 0; i < failures; i++) {
        aip_health_failure(&shared->state, &rules, false, T0);
    }
}

static void note(shared_t *s, bool yes)
{
    atomic_fetch_add(yes ? &s->yes : &s->no, 1);
}

static void ask(shared_t *s)
{
    switch (aip_health_admit(&s->state, &rules, LEASE, LATER)) {
    case AIP_ADMIT_PROBE:
        note(s, true);
        break;
    case AIP_ADMIT_NO:
        note(s, false);
        break;
    case AIP_ADMIT_NORMAL:
        atomic_fetch_add(&s->other, 1);
        break;
    }
}

/* _i: forked */
START_TEST(one_probe)
{
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(3);
        together(ask, _i);
        ck_assert_int_eq(atomic_load(&shared->yes), 1);
        ck_assert_int_eq(atomic_load(&shared->no), THREADS - 1);
    }
}
END_TEST

/* The same when a probe was forgotten, and when the lease of one has run out. */
START_TEST(one_probe_again)
{
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(3);
        apr_time_t before = LATER - LEASE;
        ck_assert_int_eq(aip_health_admit(&shared->state, &rules, LEASE, before), AIP_ADMIT_PROBE);
        if (round % 2) {
            aip_health_forget_probe(&shared->state, before);
        }
        together(ask, _i);
        ck_assert_int_eq(atomic_load(&shared->yes), 1);
        ck_assert_int_eq(atomic_load(&shared->no), THREADS - 1);
    }
}
END_TEST

static void ask_and_conclude(shared_t *s)
{
    if (aip_health_admit(&s->state, &rules, LEASE, LATER) == AIP_ADMIT_PROBE) {
        note(s, aip_health_success(&s->state, &rules, true, LATER));
    }
}

/* Who comes when the probe has succeeded is admitted as always; nobody else closes it. */
START_TEST(closed_once)
{
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(3);
        together(ask_and_conclude, _i);
        ck_assert_int_eq(atomic_load(&shared->yes), 1);
        ck_assert_int_eq(atomic_load(&shared->no), 0);
        ck_assert_int_eq(aip_health_look(&shared->state, &rules, LATER), AIP_AVAILABLE);
        ck_assert_uint_eq(atomic_load(&shared->state.fails), 0);
    }
}
END_TEST

static void fail_at_once(shared_t *s)
{
    note(s, aip_health_failure(&s->state, &rules, false, LATER));
}

START_TEST(opened_once)
{
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(0);
        together(fail_at_once, _i);
        ck_assert_int_eq(atomic_load(&shared->yes), 1);
        ck_assert_uint_eq(atomic_load(&shared->state.fails), THREADS);
        ck_assert_int_eq(aip_health_look(&shared->state, &rules, LATER), AIP_EJECTED);
        ck_assert(aip_health_back_at(&shared->state, &rules, LATER) == LATER + 10 * SEC);
    }
}
END_TEST

/* Pauses of 1 .. 16 s at once: all that hold then are told, the longest stays. */
static void ask_for_pause(shared_t *s)
{
    apr_interval_time_t wait = (1 + atomic_fetch_add(&s->other, 1)) * SEC;
    note(s, aip_health_cool(&s->state, &rules, wait, 429, LATER) >= wait);
}

START_TEST(longest_pause)
{
    for (int round = 0; round < ROUNDS; round++) {
        begin_round(0);
        together(ask_for_pause, _i);
        ck_assert_int_eq(atomic_load(&shared->yes), THREADS);
        ck_assert(aip_health_back_at(&shared->state, &rules, LATER) == LATER + THREADS * SEC);
    }
}
END_TEST

/* ---- two of them, side by side through many states: they meet at each ---- */

typedef struct lap_t {
    aip_target_state_t state;
    _Atomic int yes;
} lap_t;

typedef struct laps_t {
    int kind;
    _Atomic int runners, arrived;
    lap_t laps[LAPS];
} laps_t;

static const struct {
    const char *name;
    int failures; /* before */
    int yes;      /* so many are told so */
} pairs[] = {
    {"one probes", 3, 1},
    {"one opens", 2, 1},
    {"the longer pause", 0, PAIR},
    {"both failures count", 1, 1},
};

static bool run_lap(int kind, aip_target_state_t *state, int runner)
{
    apr_interval_time_t wait = (1 + runner) * SEC;
    switch (kind) {
    case 0:
        return aip_health_admit(state, &rules, LEASE, LATER) == AIP_ADMIT_PROBE;
    case 2:
        return aip_health_cool(state, &rules, wait, 429, LATER) >= wait;
    default:
        return aip_health_failure(state, &rules, false, LATER);
    }
}

static void *run_laps(void *data)
{
    laps_t *l = data;
    int runner = atomic_fetch_add(&l->runners, 1);
    for (int i = 0; i < LAPS; i++) {
        atomic_fetch_add(&l->arrived, 1);
        for (int spins = 0; atomic_load(&l->arrived) < PAIR * (i + 1); spins++) {
            if (spins > 1000) {
                sched_yield();
            }
        }
        for (volatile int late = i / (1 + runner * 99) % 100; late > 0; late--) {
            continue; /* sometimes the one is first, sometimes the other */
        }
        if (run_lap(l->kind, &l->laps[i].state, runner)) {
            atomic_fetch_add(&l->laps[i].yes, 1);
        }
    }
    return NULL;
}

START_TEST(side_by_side)
{
    laps_t *l = mmap(NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int wrong = 0, status;
    ck_assert_ptr_ne(l, MAP_FAILED);
    l->kind = _i;
    for (int i = 0; i < LAPS; i++) {
        for (int k = 0; k < pairs[_i].failures; k++) {
            aip_health_failure(&l->laps[i].state, &rules, false, T0);
        }
    }
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    run_laps(l);
    if (pid == 0) {
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < LAPS; i++) {
        const aip_target_state_t *state = &l->laps[i].state;
        wrong += atomic_load(&l->laps[i].yes) != pairs[_i].yes;
        wrong += _i == 2 && aip_health_back_at(state, &rules, LATER) != LATER + PAIR * SEC;
        wrong += _i == 3 && atomic_load(&state->fails) != 1 + PAIR;
    }
    ck_assert_msg(wrong == 0, "%s: %d times not", pairs[_i].name, wrong);
    munmap(l, sizeof *l);
}
END_TEST

static void answer(shared_t *s)
{
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    usage.prompt_tokens = 3;
    usage.completion_tokens = 2;
    usage.total_tokens = 5;
    for (int i = 0; i < TIMES; i++) {
        aip_state_add_usage(&s->state, &usage, 0.25, 60 * SEC, LATER);
        aip_state_add_latency(&s->state, (1 + i) * 1000, 10, LATER);
    }
}

START_TEST(no_usage_is_lost)
{
    const double all = THREADS * TIMES; /* exact: float32 holds whole numbers up to 2^24 */
    begin_round(0);
    together(answer, _i);
    ck_assert_double_eq(aip_decay_last(&shared->state.answered), all);
    ck_assert_double_eq(aip_decay_last(&shared->state.usage[AIP_USAGE_PROMPT]), 3 * all);
    ck_assert_double_eq(aip_decay_last(&shared->state.usage[AIP_USAGE_COMPLETION]), 2 * all);
    ck_assert_double_eq(aip_decay_last(&shared->state.usage[AIP_USAGE_TOTAL]), 5 * all);
    ck_assert_double_eq(aip_decay_last(&shared->state.usage[AIP_USAGE_COST]), 0.25 * all);
    ck_assert_double_eq(aip_decay_last(&shared->state.latency[AIP_LATENCY_E2E]), TIMES * 1000);
    ck_assert_double_eq(aip_decay_last(&shared->state.latency[AIP_LATENCY_TPOT]), TIMES * 100);
}
END_TEST

Suite *health_shared_suite(void)
{
    Suite *suite = suite_create("health_shared");
    TCase *tc = tcase_create("health_shared");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, one_probe, 0, 2);
    tcase_add_loop_test(tc, one_probe_again, 0, 2);
    tcase_add_loop_test(tc, closed_once, 0, 2);
    tcase_add_loop_test(tc, opened_once, 0, 2);
    tcase_add_loop_test(tc, longest_pause, 0, 2);
    tcase_add_loop_test(tc, no_usage_is_lost, 0, 2);
    suite_add_tcase(suite, tc);
    TCase *pairs_case = tcase_create("side_by_side");
    tcase_set_tags(pairs_case, "lockstep"); /* valgrind lets one thread run at a time */
    tcase_set_timeout(pairs_case, 60);
    tcase_add_loop_test(pairs_case, side_by_side, 0, (int)(sizeof pairs / sizeof *pairs));
    suite_add_tcase(suite, pairs_case);
    return suite;
}
