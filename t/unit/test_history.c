/* SPDX-License-Identifier: Apache-2.0 */
/* The books of the recent past: what a minute adds up, what an hour forgets, rings that keep the
 * newest, and that processes which write together lose nothing and never show half an entry. Times
 * are made up; nothing sleeps. */
#include "aip/history.h"

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define MINUTE apr_time_from_sec(60)
#define T0 (29900000 * MINUTE) /* a minute's first microsecond */
#define LAST (AIP_HISTORY_MINUTES - 1)

Suite *history_suite(void);

static aip_target_history_t target;
static aip_gateway_history_t gateway;

static void forget(void)
{
    memset((void *)&target, 0, sizeof target);
    memset((void *)&gateway, 0, sizeof gateway);
}

static void count(apr_time_t now, apr_uint64_t requests, apr_uint64_t cost)
{
    aip_figures_row_t row = {
        .figures = {[AIP_FIGURE_REQUESTS] = requests, [AIP_FIGURE_COST_PICO] = cost}};
    aip_history_add(target.minutes, &row, now);
}

static apr_uint64_t requests_at(apr_time_t now, int minute)
{
    aip_figures_row_t rows[AIP_HISTORY_MINUTES];
    aip_history_read(target.minutes, now, rows);
    return rows[minute].figures[AIP_FIGURE_REQUESTS];
}

static apr_uint64_t sum_at(apr_time_t now, aip_figure_e figure)
{
    aip_figures_row_t rows[AIP_HISTORY_MINUTES], sum;
    aip_history_read(target.minutes, now, rows);
    aip_history_sum(rows, &sum);
    return sum.figures[figure];
}

START_TEST(nothing_has_happened)
{
    aip_decided_t decided[AIP_HISTORY_DECISIONS];
    aip_fault_t faults[AIP_HISTORY_ERRORS];
    forget();
    ck_assert_uint_eq(sum_at(T0, AIP_FIGURE_REQUESTS), 0);
    ck_assert_uint_eq(sum_at(0, AIP_FIGURE_REQUESTS), 0);
    ck_assert_int_eq(aip_history_decisions(&gateway, decided), 0);
    ck_assert_int_eq(aip_history_faults(&target, faults), 0);
}
END_TEST

static const struct {
    const char *name;
    apr_time_t later;
    apr_uint64_t in_last, in_all;
} ages[] = {
    {"at once", 0, 3, 3},
    {"end of the same minute", MINUTE - 1, 3, 3},
    {"the next minute", MINUTE, 0, 3},
    {"59 minutes later", 59 * MINUTE, 0, 3},
    {"an hour later", 60 * MINUTE, 0, 0},
    {"a day later", 24 * 60 * MINUTE, 0, 0},
    {"a clock that was set back", -MINUTE, 0, 0},
};

START_TEST(an_hour_is_remembered)
{
    forget();
    count(T0, 1, 10);
    count(T0 + MINUTE / 2, 2, 20);
    for (int i = 0; i < ROWS(ages); i++) {
        ck_assert_msg(requests_at(T0 + ages[i].later, LAST) == ages[i].in_last, "%s", ages[i].name);
        ck_assert_msg(sum_at(T0 + ages[i].later, AIP_FIGURE_REQUESTS) == ages[i].in_all, "%s",
                      ages[i].name);
    }
    ck_assert_uint_eq(sum_at(T0, AIP_FIGURE_COST_PICO), 30);
    ck_assert_uint_eq(requests_at(T0 + 59 * MINUTE, 0), 3);
}
END_TEST

/* The bucket of an hour ago is used again, and empty then. */
START_TEST(old_minutes_make_room)
{
    forget();
    for (int m = 0; m < 150; m++) {
        count(T0 + m * MINUTE, 1, 0);
        ck_assert_uint_eq(requests_at(T0 + m * MINUTE, LAST), 1);
    }
    ck_assert_uint_eq(sum_at(T0 + 149 * MINUTE, AIP_FIGURE_REQUESTS), 60);
    count(T0 - 500 * MINUTE, 1, 0);
    ck_assert_uint_eq(requests_at(T0 - 500 * MINUTE, LAST), 1);
}
END_TEST

/* Killed between two words of it. */
START_TEST(a_bucket_left_half_empty)
{
    forget();
    apr_uint64_t minute = (apr_uint64_t)(T0 / MINUTE);
    atomic_store(&target.minutes[minute % AIP_HISTORY_MINUTES].stamp, minute << 1 | 1);
    count(T0, 5, 0);
    ck_assert_uint_eq(requests_at(T0, LAST), 5);
    count(T0 + 60 * MINUTE, 1, 0);
    ck_assert_uint_eq(requests_at(T0 + 60 * MINUTE, LAST), 1);
}
END_TEST

START_TEST(names_have_digests)
{
    ck_assert_uint_eq(aip_history_digest(NULL), 0);
    ck_assert_uint_ne(aip_history_digest(""), 0);
    ck_assert_uint_eq(aip_history_digest("gpt"), aip_history_digest("gpt"));
    ck_assert_uint_ne(aip_history_digest("gpt"), aip_history_digest("gpu"));
}
END_TEST

START_TEST(decisions_newest_first)
{
    aip_decided_t out[AIP_HISTORY_DECISIONS];
    forget();
    for (int i = 1; i <= 3; i++) {
        aip_decided_t in = {.at = i, .status = 200 + i, .distance = 0.25f * (float)i, .reason = 1};
        aip_history_decided(&gateway, &in);
    }
    ck_assert_int_eq(aip_history_decisions(&gateway, out), 3);
    ck_assert_int_eq(out[0].status, 203);
    ck_assert(out[0].at == 3 && out[0].distance == 0.75f && out[0].reason == 1);
    ck_assert_int_eq(out[2].status, 201);
    for (int i = 4; i <= 1000; i++) {
        aip_decided_t in = {.at = i};
        aip_history_decided(&gateway, &in);
    }
    ck_assert_int_eq(aip_history_decisions(&gateway, out), AIP_HISTORY_DECISIONS);
    for (int i = 0; i < AIP_HISTORY_DECISIONS; i++) {
        ck_assert(out[i].at == 1000 - i);
    }
}
END_TEST

START_TEST(errors_newest_first)
{
    aip_fault_t out[AIP_HISTORY_ERRORS], in = {.at = 7, .status = 503};
    forget();
    memset(in.word, 'x', sizeof in.word);
    aip_history_fault(&target, &in);
    ck_assert_int_eq(aip_history_faults(&target, out), 1);
    ck_assert_int_eq(out[0].status, 503);
    ck_assert_uint_eq(strlen(out[0].word), AIP_FAULT_WORD - 1);
    for (int i = 0; i < 20; i++) {
        aip_history_fault(&target, &(aip_fault_t){.at = i, .word = "drop"});
    }
    ck_assert_int_eq(aip_history_faults(&target, out), AIP_HISTORY_ERRORS);
    ck_assert(out[0].at == 19 && out[7].at == 12);
}
END_TEST

/* An entry that is being written is left out. */
START_TEST(half_an_entry_is_not_shown)
{
    aip_fault_t out[AIP_HISTORY_ERRORS];
    forget();
    for (int i = 0; i < 3; i++) {
        aip_history_fault(&target, &(aip_fault_t){.at = i});
    }
    atomic_store(&target.errors[1].ticket, 0);
    ck_assert_int_eq(aip_history_faults(&target, out), 2);
    ck_assert(out[0].at == 2 && out[1].at == 0);
}
END_TEST

/* A writer that was held up goes on when the ring has come round: its words are among another's. */
START_TEST(two_in_one_entry_are_not_shown)
{
    aip_fault_t out[AIP_HISTORY_ERRORS];
    forget();
    for (int i = 0; i < 3; i++) {
        aip_history_fault(&target, &(aip_fault_t){.at = i, .word = "drop"});
    }
    atomic_store(&target.errors[1].words[2], 0x65736c6166); /* of the word */
    ck_assert_int_eq(aip_history_faults(&target, out), 2);
    ck_assert(out[0].at == 2 && out[1].at == 0);
}
END_TEST

#define WRITERS 4
#define EACH 20000

static void write_all(aip_target_history_t *t, aip_gateway_history_t *g, int writer)
{
    for (int i = 0; i < EACH; i++) {
        apr_uint64_t n = (apr_uint64_t)writer * EACH + (apr_uint64_t)i + 1;
        aip_figures_row_t row = {.figures = {[AIP_FIGURE_REQUESTS] = 1}};
        aip_history_add(t->minutes, &row, T0 + (apr_time_t)i);
        aip_history_decided(g, &(aip_decided_t){.at = (apr_time_t)n,
                                                .target = n,
                                                .route = n,
                                                .nearest = n,
                                                .total = (apr_time_t)n});
    }
}

static void check_whole(const aip_gateway_history_t *g)
{
    aip_decided_t out[AIP_HISTORY_DECISIONS];
    int n = aip_history_decisions(g, out);
    for (int i = 0; i < n; i++) {
        apr_uint64_t at = (apr_uint64_t)out[i].at;
        ck_assert(at && out[i].target == at && out[i].route == at && out[i].nearest == at &&
                  (apr_uint64_t)out[i].total == at);
    }
}

START_TEST(processes_write_together)
{
    struct {
        aip_target_history_t t;
        aip_gateway_history_t g;
    } *books = mmap(NULL, sizeof *books, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int done = 0, status;
    ck_assert(books != MAP_FAILED);
    for (int i = 0; i < WRITERS; i++) {
        if (fork() == 0) {
            write_all(&books->t, &books->g, i);
            _exit(0);
        }
    }
    while (done < WRITERS) {
        check_whole(&books->g);
        done += waitpid(-1, &status, WNOHANG) > 0;
        sched_yield();
    }
    aip_figures_row_t rows[AIP_HISTORY_MINUTES];
    aip_history_read(books->t.minutes, T0, rows);
    ck_assert_uint_eq(rows[LAST].figures[AIP_FIGURE_REQUESTS], WRITERS * EACH);
    munmap(books, sizeof *books);
}
END_TEST

Suite *history_suite(void)
{
    Suite *s = suite_create("history");
    TCase *t = tcase_create("minutes");
    tcase_add_test(t, nothing_has_happened);
    tcase_add_test(t, an_hour_is_remembered);
    tcase_add_test(t, old_minutes_make_room);
    tcase_add_test(t, a_bucket_left_half_empty);
    suite_add_tcase(s, t);
    t = tcase_create("rings");
    tcase_add_test(t, names_have_digests);
    tcase_add_test(t, decisions_newest_first);
    tcase_add_test(t, errors_newest_first);
    tcase_add_test(t, half_an_entry_is_not_shown);
    tcase_add_test(t, two_in_one_entry_are_not_shown);
    tcase_add_test(t, processes_write_together);
    suite_add_tcase(s, t);
    return s;
}
