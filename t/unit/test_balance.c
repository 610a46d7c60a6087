/* SPDX-License-Identifier: Apache-2.0 */
/* Candidate lists: shares follow the weights, turns are spread, the list behind the first is by
 * weight, and a ranking gives the members of each route in turn; scores sort a list, health takes
 * out who must not be tried. */

#include <apr_strings.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aip/balance.h"
#include "fixture.h"

Suite *balance_suite(void);

static int first_at(const aip_wheel_t *wheel, apr_uint32_t tick)
{
    int targets[16];
    aip_candidates_t c = {.targets = targets};
    aip_wheel_append(wheel, tick, NULL, &c);
    return targets[0];
}

static const char *joined(const aip_candidates_t *c)
{
    const char *out = "";
    for (int i = 0; i < c->n; i++) {
        out = apr_psprintf(pool, "%s%s%d", out, i ? " " : "", c->targets[i]);
    }
    return out;
}

START_TEST(turns)
{
    static const struct {
        const char *name;
        int n, targets[3], weights[6];
        const char *expected; /* who is first at ticks 0, 1, 2 ... */
    } rows[] = {
        {"one", 1, {0}, {100}, "0 0 0"},
        {"equal", 2, {0, 1}, {100, 100}, "0 1 0 1"},
        {"three equal", 3, {0, 1, 2}, {7, 7, 7}, "0 1 2 0 1 2"},
        {"smooth 5 1 1", 3, {0, 1, 2}, {5, 1, 1}, "0 0 1 0 2 0 0 0 0 1"},
        {"smooth 2 1", 2, {0, 1}, {200, 100}, "0 1 0 0 1 0"},
        {"order of configuration among equals", 2, {3, 1}, {0, 50, 0, 50}, "3 1 3 1"},
        {"weights are indexed by target", 2, {5, 2}, {9, 9, 1, 9, 9, 3}, "5 5 2 5 5 5 2 5"},
    };
    aip_wheel_t *wheel = aip_wheel_create(rows[_i].targets, rows[_i].n, rows[_i].weights, pool);
    const char *out = "";
    for (apr_uint32_t tick = 0; strlen(out) < strlen(rows[_i].expected); tick++) {
        out = apr_psprintf(pool, "%s%s%d", out, tick ? " " : "", first_at(wheel, tick));
    }
    ck_assert_msg(strcmp(out, rows[_i].expected) == 0, "%s: %s", rows[_i].name, out);
}
END_TEST

/* Over one period each target is first exactly as often as its weight says. */
START_TEST(exact_shares)
{
    static const int weights[][4] = {{1, 2, 3, 4},
                                     {100, 50, 25, 25},
                                     {997, 3, 500, 500},
                                     {1, 1, 1, 1},
                                     {65535, 13107, 13107, 13107}};
    static const int targets[] = {0, 1, 2, 3};
    static const int periods[] = {10, 8, 2000, 4, 8};
    int counts[4] = {0}, sum = 0;
    aip_wheel_t *wheel = aip_wheel_create(targets, 4, weights[_i], pool);
    for (int i = 0; i < 4; i++) {
        sum += weights[_i][i];
    }
    for (int tick = 0; tick < periods[_i]; tick++) {
        counts[first_at(wheel, (apr_uint32_t)tick)]++;
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq((long long)counts[i] * sum, (long long)weights[_i][i] * periods[_i]);
    }
}
END_TEST

/* Weights that do not fit the longest period are scaled; nobody starves and shares stay near. */
/* Whoever is missing, the others share its turns by weight; nobody's own turn moves. */
START_TEST(missing_shares)
{
    static const struct {
        int weights[4];
        aip_availability_e look[4];
    } rows[] = {
        {{1, 1, 1, 1}, {AIP_AVAILABLE, AIP_DRAINED, AIP_AVAILABLE, AIP_AVAILABLE}},
        {{1, 1, 1, 1}, {AIP_AVAILABLE, AIP_EJECTED, AIP_COOLING, AIP_AVAILABLE}},
        {{3, 1, 1, 2}, {AIP_AVAILABLE, AIP_EJECTED, AIP_AVAILABLE, AIP_AVAILABLE}},
        {{1, 4, 2, 1}, {AIP_AVAILABLE, AIP_DRAINED, AIP_AVAILABLE, AIP_AVAILABLE}},
        {{5, 3, 1, 4}, {AIP_DRAINED, AIP_AVAILABLE, AIP_AVAILABLE, AIP_AVAILABLE}},
        {{65535, 3, 1, 4}, {AIP_DRAINED, AIP_AVAILABLE, AIP_AVAILABLE, AIP_AVAILABLE}},
    };
    enum { TURNS = 20000 };
    int all[] = {0, 1, 2, 3}, got[4] = {0}, list[4];
    const aip_availability_e *look = rows[_i].look;
    aip_wheel_t *wheel = aip_wheel_create(all, 4, rows[_i].weights, pool);
    double sum = 0;
    for (apr_uint32_t tick = 0; tick < TURNS; tick++) {
        aip_candidates_t c = {.targets = list};
        int own = first_at(wheel, tick);
        aip_wheel_append(wheel, tick, look, &c);
        ck_assert_int_eq(c.n, 4);
        ck_assert(look[own] != AIP_AVAILABLE || list[0] == own);
        got[list[0]]++;
    }
    for (int i = 0; i < 4; i++) {
        sum += look[i] == AIP_AVAILABLE ? rows[_i].weights[i] : 0;
    }
    for (int i = 0; i < 4; i++) {
        double want = look[i] == AIP_AVAILABLE ? TURNS * rows[_i].weights[i] / sum : 0;
        ck_assert_msg(fabs(got[i] - want) <= want * 0.01, "row %d: target %d got %d instead of %g",
                      _i, i, got[i], want);
    }
}
END_TEST

START_TEST(nobody_available)
{
    int all[] = {0, 1}, weights[] = {1, 2}, list[2];
    aip_availability_e look[] = {AIP_EJECTED, AIP_EJECTED};
    aip_wheel_t *wheel = aip_wheel_create(all, 2, weights, pool);
    aip_candidates_t c = {.targets = list};
    aip_wheel_append(wheel, 1, look, &c); /* as if all were there */
    ck_assert_str_eq(joined(&c), "0 1");
}
END_TEST

START_TEST(scaled_shares)
{
    static const int targets[] = {0, 1, 2};
    static const int weights[] = {65535, 65534, 1};
    enum { TICKS = 200000 };
    int counts[3] = {0};
    aip_wheel_t *wheel = aip_wheel_create(targets, 3, weights, pool);
    for (apr_uint32_t tick = 0; tick < TICKS; tick++) {
        counts[first_at(wheel, tick)]++;
    }
    ck_assert_int_gt(counts[2], 0);
    ck_assert_int_lt(counts[2], TICKS / 5000);
    ck_assert_int_lt(abs(counts[0] - TICKS / 2), TICKS / 100);
    ck_assert_int_lt(abs(counts[1] - TICKS / 2), TICKS / 100);
}
END_TEST

START_TEST(the_rest_by_weight)
{
    static const int targets[] = {0, 1, 2, 3};
    static const int weights[] = {10, 40, 20, 40};
    static const struct {
        int first;
        const char *expected;
    } rows[] = {{0, "0 1 3 2"}, {1, "1 3 2 0"}, {2, "2 1 3 0"}, {3, "3 1 2 0"}};
    aip_wheel_t *wheel = aip_wheel_create(targets, 4, weights, pool);
    int seen = 0;
    for (apr_uint32_t tick = 0; tick < 11; tick++) {
        int list[4];
        aip_candidates_t c = {.targets = list};
        aip_wheel_append(wheel, tick, NULL, &c);
        ck_assert_int_eq(c.n, 4);
        ck_assert_str_eq(joined(&c), rows[list[0]].expected);
        seen |= 1 << list[0];
    }
    ck_assert_int_eq(seen, 15);
}
END_TEST

/* The counter that the children share wraps around at 2^32. */
START_TEST(counter_wraps)
{
    static const int targets[] = {0, 1};
    static const int weights[] = {1, 1};
    aip_wheel_t *wheel = aip_wheel_create(targets, 2, weights, pool);
    ck_assert_int_ne(first_at(wheel, 4294967295u), first_at(wheel, 0));
    ck_assert_int_ne(first_at(wheel, 4294967294u), first_at(wheel, 4294967295u));
}
END_TEST

START_TEST(many_targets)
{
    enum { N = 12000 };
    int *targets = calloc(N, sizeof *targets), *weights = calloc(N, sizeof *weights),
        *counts = calloc(N, sizeof *counts);
    int *list = calloc(N, sizeof *list);
    for (int i = 0; i < N; i++) {
        targets[i] = i;
        weights[i] = 1 + i % 3;
    }
    aip_wheel_t *wheel = aip_wheel_create(targets, N, weights, pool);
    aip_candidates_t c = {.targets = list};
    aip_wheel_append(wheel, 77777, NULL, &c);
    ck_assert_int_eq(c.n, N);
    for (int i = 0; i < N; i++) {
        counts[list[i]]++;
    }
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(counts[i], 1);
    }
    free(targets);
    free(weights);
    free(counts);
    free(list);
}
END_TEST

START_TEST(ranked)
{
    static const int members[3][2] = {{0, 4}, {1, 2}, {3, 3}};
    static const int sizes[] = {2, 2, 1};
    static const int weights[] = {1, 1, 3, 1, 1};
    static const struct {
        const char *name;
        int n, order[3];
        apr_uint32_t ticks[3];
        const char *expected;
    } rows[] = {
        {"nothing", 0, {0}, {0, 0, 0}, ""},
        {"one route", 1, {1}, {0, 0, 0}, "2 1"},
        {"its next turn", 1, {1}, {9, 1, 9}, "1 2"},
        {"and the one after", 1, {1}, {9, 2, 9}, "2 1"},
        {"nearest first, then the others", 3, {1, 0, 2}, {1, 0, 5}, "2 1 4 0 3"},
        {"another order", 3, {2, 0, 1}, {0, 1, 0}, "3 0 4 1 2"},
    };
    aip_wheel_t *wheels[3];
    aip_ranked_t order[3];
    int list[5];
    aip_candidates_t c = {.targets = list};
    for (int i = 0; i < 3; i++) {
        wheels[i] = aip_wheel_create(members[i], sizes[i], weights, pool);
        order[i] = (aip_ranked_t){rows[_i].order[i], 0};
    }
    aip_decision_t decision = {.n = rows[_i].n, .ranked = order};
    aip_candidates_ranked(&decision, wheels, rows[_i].ticks, NULL, &c);
    ck_assert_msg(strcmp(joined(&c), rows[_i].expected) == 0, "%s: %s", rows[_i].name, joined(&c));
}
END_TEST

typedef struct list_row_t {
    const char *name;
    int n, targets[6];
    const char *expected;
} list_row_t;

static aip_candidates_t list_of(const list_row_t *row)
{
    size_t size = (size_t)(row->n + 1) * sizeof(int);
    aip_candidates_t c = {.n = row->n, .targets = malloc(size)};
    memcpy(c.targets, row->targets, size - sizeof(int));
    c.targets[row->n] = 4711; /* not ours */
    return c;
}

static void check_list(aip_candidates_t *c, const list_row_t *row)
{
    ck_assert_msg(strcmp(joined(c), row->expected) == 0, "%s: %s", row->name, joined(c));
    ck_assert_int_eq(c->targets[row->n], 4711);
    free(c->targets);
}

static const struct {
    list_row_t list;
    double scores[6];
} sorts[] = {
    {{"nothing", 0, {0}, ""}, {0}},
    {{"one", 1, {3}, "3"}, {9, 9, 9, 9}},
    {{"sorted", 4, {0, 1, 2, 3}, "0 1 2 3"}, {1, 2, 3, 4}},
    {{"turned", 4, {0, 1, 2, 3}, "3 2 1 0"}, {4, 3, 2, 1}},
    {{"scores are by target", 3, {5, 1, 3}, "3 5 1"}, {0, 9, 0, 1, 0, 5}},
    {{"equal ones keep their order", 6, {4, 2, 0, 5, 3, 1}, "4 2 0 5 3 1"}, {7, 7, 7, 7, 7, 7}},
    {{"in groups", 6, {4, 1, 2, 5, 0, 3}, "1 5 3 4 2 0"}, {2, 1, 2, 1, 2, 1}},
    {{"negative first", 4, {0, 1, 2, 3}, "2 1 0 3"}, {0, -1, -2, 0.5}},
    {{"hardly different", 3, {0, 1, 2}, "1 2 0"}, {1e-9, 1e-12, 1e-10}},
};

START_TEST(sorted)
{
    aip_candidates_t c = list_of(&sorts[_i].list);
    aip_candidates_sort(&c, sorts[_i].scores);
    check_list(&c, &sorts[_i].list);
}
END_TEST

#define A AIP_AVAILABLE
#define E AIP_EJECTED
#define C AIP_COOLING
#define D AIP_DRAINED

static const struct {
    list_row_t list;
    aip_availability_e looks[6]; /* by target */
    int healthy;
} filters[] = {
    {{"nothing", 0, {0}, ""}, {A}, 0},
    {{"all healthy", 4, {2, 0, 3, 1}, "2 0 3 1"}, {A, A, A, A}, 4},
    {{"an ejected one goes last", 4, {2, 0, 3, 1}, "0 3 1 2"}, {A, A, E, A}, 3},
    {{"their order is kept", 6, {5, 4, 3, 2, 1, 0}, "4 2 0 5 3 1"}, {A, E, A, E, A, E}, 3},
    {{"all ejected", 3, {1, 2, 0}, "1 2 0"}, {E, E, E}, 0},
    {{"cooling and drained are out", 4, {0, 1, 2, 3}, "0 3"}, {A, C, D, A}, 2},
    {{"all cooling", 3, {0, 1, 2}, ""}, {C, C, C}, 0},
    {{"all drained", 2, {0, 1}, ""}, {D, D}, 0},
    {{"one ejected left", 4, {3, 2, 1, 0}, "1"}, {C, E, D, C}, 0},
    {{"everything", 6, {0, 1, 2, 3, 4, 5}, "3 5 0 4"}, {E, C, D, A, E, A}, 2},
    {{"the last is ejected", 3, {0, 1, 2}, "0 1 2"}, {A, A, E}, 2},
    {{"some of the targets", 2, {5, 1}, "1 5"}, {D, A, D, D, D, E}, 1},
};

START_TEST(filtered)
{
    aip_candidates_t c = list_of(&filters[_i].list);
    c.healthy = 99;
    aip_candidates_filter(&c, filters[_i].looks);
    ck_assert_msg(c.healthy == filters[_i].healthy, "%s: %d healthy", filters[_i].list.name,
                  c.healthy);
    check_list(&c, &filters[_i].list);
}
END_TEST

static const struct {
    list_row_t list;
    int healthy, at, left;
} deferrals[] = {
    {{"alone", 1, {4}, "4"}, 1, 0, 0},
    {{"the first", 4, {3, 1, 0, 2}, "1 0 2 3"}, 4, 0, 3},
    {{"in the middle", 4, {3, 1, 0, 2}, "3 0 2 1"}, 4, 1, 3},
    {{"the last", 4, {3, 1, 0, 2}, "3 1 0 2"}, 4, 3, 3},
    {{"behind the last resort", 4, {3, 1, 0, 2}, "1 0 2 3"}, 2, 0, 1},
    {{"the last healthy one", 4, {3, 1, 0, 2}, "3 0 2 1"}, 2, 1, 1},
};

START_TEST(deferred)
{
    aip_candidates_t c = list_of(&deferrals[_i].list);
    c.healthy = deferrals[_i].healthy;
    aip_candidates_defer(&c, deferrals[_i].at);
    ck_assert_int_eq(c.n, deferrals[_i].list.n);
    ck_assert_int_eq(c.healthy, deferrals[_i].left);
    check_list(&c, &deferrals[_i].list);
}
END_TEST

Suite *balance_suite(void)
{
    Suite *suite = suite_create("balance");
    TCase *tcase = tcase_create("balance");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, turns, 0, 7);
    tcase_add_loop_test(tcase, exact_shares, 0, 5);
    tcase_add_loop_test(tcase, missing_shares, 0, 6);
    tcase_add_test(tcase, nobody_available);
    tcase_add_test(tcase, scaled_shares);
    tcase_add_test(tcase, the_rest_by_weight);
    tcase_add_test(tcase, counter_wraps);
    tcase_add_test(tcase, many_targets);
    tcase_add_loop_test(tcase, ranked, 0, 6);
    tcase_add_loop_test(tcase, sorted, 0, ROWS(sorts));
    tcase_add_loop_test(tcase, filtered, 0, ROWS(filters));
    tcase_add_loop_test(tcase, deferred, 0, ROWS(deferrals));
    suite_add_tcase(suite, tcase);
    return suite;
}
