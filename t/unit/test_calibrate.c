/* SPDX-License-Identifier: Apache-2.0 */
/* Calibration: the search against brute force over every cut, with aip_decide() as the judge;
 * goals, parts, cross-validation. Cases of chance come from fixed seeds. */
#include "../../src/tool/calibrate_math.h"

#include "aip/route.h"
#include "fixture.h"

#include <check.h>
#include <math.h>
#include <string.h>

Suite *calibrate_suite(void);

enum { MOST_PROMPTS = 120, MOST_ROUTES = 4 };

static float distances[MOST_PROMPTS * MOST_ROUTES];
static int labels[MOST_PROMPTS], outcomes[MOST_PROMPTS * MOST_ROUTES], indexes[MOST_PROMPTS];
static aip_cal_set_t set;
static aip_cal_part_t all;
static const aip_cal_goal_t accuracy = {.kind = AIP_CAL_ACCURACY};

static unsigned state;

static int chance(int below)
{
    state = state * 1664525u + 1013904223u;
    return (int)((state >> 8) % (unsigned)below);
}

/* A set whose prompts go to the route that is nearest. */
static void make_set(int n, int n_routes)
{
    set = (aip_cal_set_t){n, n_routes, distances, labels, outcomes};
    all = (aip_cal_part_t){n, indexes};
    for (int i = 0; i < n * n_routes; i++) {
        outcomes[i] = i % n_routes;
    }
    for (int i = 0; i < n; i++) {
        indexes[i] = i;
    }
}

/* Sixteenths, so that equal distances are frequent; some are 0, some prompts have none at all. */
static void random_set(unsigned seed, int n, int n_routes)
{
    state = seed;
    make_set(n, n_routes);
    for (int i = 0; i < n; i++) {
        bool none = chance(15) == 0;
        labels[i] = chance(n_routes + 1) - 1;
        for (int r = 0; r < n_routes; r++) {
            distances[i * n_routes + r] = none ? INFINITY : (float)chance(20) / 16;
            if (chance(12) == 0) {
                outcomes[i * n_routes + r] = chance(n_routes + 1) - 1;
            }
        }
    }
}

static aip_cal_goal_t random_goal(int n_routes)
{
    return (aip_cal_goal_t){.kind = (aip_cal_goal_e)chance(3),
                            .limit = chance(5) / 8.0,
                            .route = chance(n_routes + 1) - 1};
}

/* The score by the core's own decision. */
static aip_cal_score_t judge(const aip_cal_goal_t *goal, const double *thresholds)
{
    aip_cal_score_t s = {.n = set.n};
    aip_route_t list[MOST_ROUTES] = {{0}};
    aip_routes_t routes = {.n = set.n_routes, .routes = list, .catchall = -1};
    aip_route_rules_t rules = {0};
    for (int r = 0; r < set.n_routes; r++) {
        list[r].threshold = &thresholds[r];
    }
    for (int i = 0; i < set.n; i++) {
        aip_decision_t d;
        const float *row = distances + i * set.n_routes;
        aip_decide(&routes, row, &rules, &d, pool);
        int outcome = d.n && isfinite(row[0]) ? outcomes[i * set.n_routes + d.ranked[0].route] : -1;
        s.right += outcome == labels[i];
        s.rest += labels[i] == -1;
        s.false_positives += labels[i] == -1 && outcome != -1;
        s.share += goal->kind == AIP_CAL_SHARE && outcome == goal->route;
    }
    double allowed = goal->limit * (goal->kind == AIP_CAL_SHARE ? s.n : s.rest);
    int count = goal->kind == AIP_CAL_SHARE ? s.share : s.false_positives;
    for (; goal->kind != AIP_CAL_ACCURACY && count > allowed + 1e-9; count--) {
        s.excess++;
    }
    return s;
}

static void same_score(const char *what, unsigned seed, aip_cal_score_t got, aip_cal_score_t wanted)
{
    ck_assert_msg(got.n == wanted.n && got.right == wanted.right && got.rest == wanted.rest &&
                      got.false_positives == wanted.false_positives && got.share == wanted.share &&
                      got.excess == wanted.excess,
                  "%s, seed %u: right %d of %d, false positives %d of %d, share %d, excess %d; not "
                  "right %d of %d, false positives %d of %d, share %d, excess %d",
                  what, seed, got.right, got.n, got.false_positives, got.rest, got.share,
                  got.excess, wanted.right, wanted.n, wanted.false_positives, wanted.rest,
                  wanted.share, wanted.excess);
}

/* All thresholds that can make a difference: between the sixteenths. */
static aip_cal_score_t brute_force(const aip_cal_goal_t *goal, int route, const double *others)
{
    double thresholds[MOST_ROUTES];
    aip_cal_score_t best = {.excess = 1 << 20};
    for (int step = 0; step <= 20; step++) {
        for (int r = 0; r < set.n_routes; r++) {
            thresholds[r] = route == AIP_CAL_ALL || r == route ? (step + 0.5) / 16 : others[r];
        }
        aip_cal_score_t s = judge(goal, thresholds);
        best = aip_cal_better(&s, &best) ? s : best;
    }
    return best;
}

START_TEST(outcomes_are_the_decisions)
{
    for (unsigned seed = 0; seed < 300; seed++) {
        double thresholds[MOST_ROUTES];
        random_set(seed, 12, 1 + (int)(seed % MOST_ROUTES));
        aip_cal_goal_t goal = random_goal(set.n_routes);
        for (int r = 0; r < set.n_routes; r++) {
            thresholds[r] = chance(6) ? chance(40) / 32.0 : INFINITY;
        }
        same_score("score", seed, aip_cal_score(&set, all, &goal, thresholds),
                   judge(&goal, thresholds));
    }
}
END_TEST

/* The sweep finds what no cut beats, and says of it what is true over the whole of its interval. */
START_TEST(sweep_is_exact)
{
    for (unsigned seed = 0; seed < 1500; seed++) {
        double thresholds[MOST_ROUTES];
        aip_cal_cut_t cut;
        random_set(seed, 1 + (int)(seed % 14), 1 + (int)(seed / 7 % MOST_ROUTES));
        aip_cal_goal_t goal = random_goal(set.n_routes);
        int route = chance(set.n_routes + 1) - 1;
        for (int r = 0; r < set.n_routes; r++) {
            thresholds[r] = chance(4) ? (chance(20) + 0.5) / 16 : INFINITY;
        }
        aip_cal_score_t best = brute_force(&goal, route, thresholds);
        if (!aip_cal_sweep(&set, all, &goal, route, thresholds, 0, &cut, pool)) {
            double other[MOST_ROUTES] = {0};
            for (int r = 0; r < set.n_routes; r++) {
                other[r] = route == AIP_CAL_ALL || r == route ? 0 : thresholds[r];
            }
            same_score("no difference", seed, judge(&goal, other), best);
            continue;
        }
        ck_assert_msg(!aip_cal_better(&best, &cut.score) && !aip_cal_better(&cut.score, &best),
                      "seed %u: %d right, excess %d; by brute force %d, excess %d", seed,
                      cut.score.right, cut.score.excess, best.right, best.excess);
        ck_assert(cut.low <= cut.threshold && cut.threshold < cut.high);
        const double places[] = {cut.threshold, cut.low, cut.high - 1e-7};
        for (int i = 0; i < ROWS(places); i++) {
            for (int r = 0; r < set.n_routes; r++) {
                thresholds[r] = route == AIP_CAL_ALL || r == route ? places[i] : thresholds[r];
            }
            aip_cal_score_t s = judge(&goal, thresholds);
            ck_assert_msg(!aip_cal_better(&cut.score, &s), "seed %u: worse at place %d", seed, i);
            if (i == 0) {
                same_score("at its threshold", seed, cut.score, s);
            }
        }
    }
}
END_TEST

static const struct {
    const char *name;
    int n;
    float distance[6];
    int label[6];
    int slack;
    double low, high, threshold;
    int right;
} cuts[] = {
    {"one gap", 4, {0.2f, 0.3f, 0.7f, 0.8f}, {0, 0, -1, -1}, 0, 0.3, 0.7, 0.5, 4},
    {"the wider of two",
     6,
     {0.1f, 0.2f, 0.3f, 0.5f, 0.6f, 0.7f},
     {0, -1, 0, -1, -1, 0},
     0,
     0.3,
     0.5,
     0.4,
     4},
    {"all belong", 3, {0.2f, 0.4f, 0.6f}, {0, 0, 0}, 0, 0.6, 0.8, 0.7, 3},
    {"none belongs", 3, {0.2f, 0.4f, 0.6f}, {-1, -1, -1}, 0, 0, 0.2, 0.1, 3},
    {"an exact match is always near enough", 2, {0, 0.5f}, {-1, 0}, 0, 0.5, 1.0, 0.75, 1},
    {"wrong either way makes no cut",
     5,
     {0.2f, 0.4f, 0.5f, 0.6f, 0.8f},
     {0, 1, 1, 1, -1},
     0,
     0.2,
     0.8,
     0.5,
     2},
    {"slack joins what lies beside",
     6,
     {0.1f, 0.2f, 0.3f, 0.5f, 0.6f, 0.7f},
     {0, -1, 0, -1, -1, 0},
     1,
     0,
     0.6,
     0.3,
     4},
};

START_TEST(known_cuts)
{
    aip_cal_cut_t cut;
    make_set(cuts[_i].n, 2);
    for (int i = 0; i < set.n; i++) {
        distances[2 * i] = cuts[_i].distance[i];
        distances[2 * i + 1] = INFINITY;
        labels[i] = cuts[_i].label[i];
    }
    ck_assert(aip_cal_sweep(&set, all, &accuracy, AIP_CAL_ALL, NULL, cuts[_i].slack, &cut, pool));
    ck_assert_msg(fabs(cut.low - cuts[_i].low) < 1e-5 && fabs(cut.high - cuts[_i].high) < 1e-5 &&
                      fabs(cut.threshold - cuts[_i].threshold) < 1e-3 &&
                      cut.score.right == cuts[_i].right,
                  "%s: [%.6g, %.6g), %.10g, %d right", cuts[_i].name, cut.low, cut.high,
                  cut.threshold, cut.score.right);
}
END_TEST

/* Equally good but for the slack, and the limit of the goal holds as well as it can. */
START_TEST(slack_keeps_the_limit)
{
    for (unsigned seed = 0; seed < 500; seed++) {
        aip_cal_cut_t exact, loose;
        random_set(seed, 30, 2);
        aip_cal_goal_t goal = random_goal(2);
        ck_assert(aip_cal_sweep(&set, all, &goal, AIP_CAL_ALL, NULL, 0, &exact, pool));
        ck_assert(aip_cal_sweep(&set, all, &goal, AIP_CAL_ALL, NULL, 3, &loose, pool));
        ck_assert_int_eq(loose.score.excess, exact.score.excess);
        ck_assert_int_ge(loose.score.right, exact.score.right - 3);
        ck_assert_int_le(loose.score.right, exact.score.right);
        ck_assert(loose.high - loose.low >= exact.high - exact.low - 1e-12);
    }
}
END_TEST

/* Two routes whose own prompts lie at 0.3 and at 0.8, what belongs to neither 0.1 beyond. */
static void two_scales(unsigned seed, int n)
{
    state = seed;
    make_set(n, 2);
    for (int i = 0; i < n; i++) {
        int kind = i % 4;
        float near = (float)chance(100) / 2000;
        distances[2 * i] = kind == 0 ? 0.3f + near : kind == 1 ? 0.4f + near : 1.1f;
        distances[2 * i + 1] = kind == 2 ? 0.8f + near : kind == 3 ? 0.9f + near : 1.2f;
        labels[i] = kind == 0 ? 0 : kind == 2 ? 1 : -1;
    }
}

START_TEST(a_threshold_for_each_route)
{
    double thresholds[2], before[2] = {INFINITY, INFINITY};
    aip_cal_estimate_t estimate;
    two_scales(1, 80);
    aip_cal_score_t global = aip_cal_fit_global(&set, all, &accuracy, thresholds, pool);
    ck_assert_double_eq(thresholds[0], thresholds[1]);
    ck_assert_int_le(global.right, 60);
    aip_cal_score_t own = aip_cal_fit_routes(&set, all, &accuracy, thresholds, pool);
    ck_assert_int_eq(own.right, 80);
    ck_assert(thresholds[0] >= 0.35 && thresholds[0] < 0.4);
    ck_assert(thresholds[1] >= 0.85 && thresholds[1] < 0.9);
    ck_assert(aip_cal_validate(&set, all, &accuracy, before, 1, &estimate, pool));
    ck_assert_int_eq(estimate.routes.right, estimate.routes.n);
    ck_assert_int_eq(aip_cal_choose(&estimate), AIP_CAL_ROUTES);
    ck_assert(aip_cal_validate(&set, all, &accuracy, thresholds, 1, &estimate, pool));
    ck_assert_int_eq(aip_cal_choose(&estimate), AIP_CAL_KEEP);
}
END_TEST

/* One route on one scale: a threshold of its own cannot help, and one for all is proposed. */
START_TEST(one_scale_wants_one_threshold)
{
    double before[2] = {0.1, 0.1};
    aip_cal_estimate_t estimate;
    two_scales(3, 80);
    for (int i = 0; i < set.n; i++) {
        if (i % 4 >= 2) { /* the second route like the first */
            distances[2 * i + 1] -= 0.5f;
        }
    }
    ck_assert(aip_cal_validate(&set, all, &accuracy, before, 1, &estimate, pool));
    ck_assert_int_eq(estimate.global.right, estimate.global.n);
    ck_assert_int_eq(aip_cal_choose(&estimate), AIP_CAL_GLOBAL);
}
END_TEST

/* Never worse than one threshold, and as far from chance as it says. */
START_TEST(routes_gain_or_stay)
{
    for (unsigned seed = 0; seed < 200; seed++) {
        double one[MOST_ROUTES], own[MOST_ROUTES];
        random_set(seed, 40, 3);
        aip_cal_goal_t goal = random_goal(3);
        aip_cal_score_t global = aip_cal_fit_global(&set, all, &goal, one, pool);
        aip_cal_score_t routes = aip_cal_fit_routes(&set, all, &goal, own, pool);
        same_score("global", seed, global, judge(&goal, one));
        same_score("routes", seed, routes, judge(&goal, own));
        ck_assert_msg(!aip_cal_better(&global, &routes), "seed %u: worse", seed);
        if (routes.excess == global.excess && routes.right == global.right) {
            ck_assert(memcmp(one, own, 3 * sizeof *one) == 0);
        }
    }
}
END_TEST

/* Where the goal can be met at all, it is. */
START_TEST(goals_are_met)
{
    for (unsigned seed = 0; seed < 300; seed++) {
        double thresholds[MOST_ROUTES];
        random_set(seed, 25, 2);
        aip_cal_goal_t goal = random_goal(2);
        aip_cal_score_t got = aip_cal_fit_global(&set, all, &goal, thresholds, pool);
        ck_assert_int_eq(got.excess, brute_force(&goal, AIP_CAL_ALL, thresholds).excess);
    }
    two_scales(5, 80);
    for (int i = 0; i < set.n; i++) { /* the nearest of the rest lies among what belongs */
        distances[2 * i] -= i % 8 == 1 ? 0.1f : 0;
    }
    double thresholds[2];
    aip_cal_goal_t none = {.kind = AIP_CAL_FALSE_POSITIVES, .limit = 0};
    aip_cal_goal_t some = {.kind = AIP_CAL_FALSE_POSITIVES, .limit = 0.25};
    aip_cal_score_t strict = aip_cal_fit_routes(&set, all, &none, thresholds, pool);
    aip_cal_score_t loose = aip_cal_fit_routes(&set, all, &some, thresholds, pool);
    ck_assert_int_eq(strict.false_positives, 0);
    ck_assert_int_le(loose.false_positives, 10);
    ck_assert_int_gt(loose.right, strict.right);
}
END_TEST

START_TEST(parts_are_stratified)
{
    static const int sizes[] = {20, 10, 1, 2}; /* of labels -1, 0, 1, 2 */
    aip_cal_part_t train, rest, again, other;
    int n = 0, seen[MOST_PROMPTS] = {0}, held[4] = {0};
    for (int label = 0; label < ROWS(sizes); label++) {
        for (int i = 0; i < sizes[label]; i++) {
            labels[n++] = label - 1;
        }
    }
    make_set(n, 3);
    aip_cal_split(&set, 0.3, 7, &train, &rest, pool);
    for (int i = 0; i < train.n; i++) {
        seen[train.at[i]]++;
    }
    for (int i = 0; i < rest.n; i++) {
        seen[rest.at[i]]++;
        held[labels[rest.at[i]] + 1]++;
    }
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(seen[i], 1);
    }
    ck_assert(held[0] == 6 && held[1] == 3 && held[2] == 0 && held[3] == 1);
    aip_cal_split(&set, 0.3, 7, &train, &again, pool);
    ck_assert(again.n == rest.n && memcmp(again.at, rest.at, (size_t)rest.n * sizeof(int)) == 0);
    aip_cal_split(&set, 0.3, 8, &train, &other, pool);
    ck_assert(other.n == rest.n && memcmp(other.at, rest.at, (size_t)rest.n * sizeof(int)) != 0);
    aip_cal_split(&set, 0, 7, &train, &rest, pool);
    ck_assert(train.n == n && rest.n == 0);
    aip_cal_split(&set, 0.99, 7, &train, &rest, pool);
    ck_assert_int_eq(train.n, 4);
}
END_TEST

/* Each prompt is judged once a repetition; nothing but the seed decides. */
START_TEST(validation_is_repeatable)
{
    aip_cal_estimate_t one, two;
    double configured[] = {0.5, 0.5, 0.5};
    random_set(11, 50, 3);
    ck_assert(aip_cal_validate(&set, all, &accuracy, configured, 3, &one, pool));
    ck_assert(aip_cal_validate(&set, all, &accuracy, configured, 3, &two, pool));
    ck_assert(one.global.right == two.global.right && one.routes.right == two.routes.right);
    ck_assert_int_eq(one.global.n % 50, 0);
    ck_assert(one.global.n == one.routes.n && one.global.n == one.configured.n);
    ck_assert_int_eq(one.configured.right,
                     one.configured.n / 50 * aip_cal_score(&set, all, &accuracy, configured).right);
    ck_assert(!aip_cal_validate(&set, (aip_cal_part_t){9, indexes}, &accuracy, configured, 3, &one,
                                pool));
}
END_TEST

static const struct {
    double low, high, value;
} roundings[] = {
    {0.3, 0.7, 0.5},          {0.71234, 0.73456, 0.723},
    {0.5001, 0.5003, 0.5002}, {0.50001, 0.50002, 0.500015},
    {0, 0.0004, 0.0002},
};

START_TEST(few_digits)
{
    double value = aip_cal_round(roundings[_i].low, roundings[_i].high);
    ck_assert_msg(fabs(value - roundings[_i].value) < 1e-12, "%.12g", value);
}
END_TEST

Suite *calibrate_suite(void)
{
    Suite *suite = suite_create("calibrate");
    TCase *tc = tcase_create("calibrate");
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_test(tc, outcomes_are_the_decisions);
    tcase_add_test(tc, sweep_is_exact);
    tcase_add_loop_test(tc, known_cuts, 0, ROWS(cuts));
    tcase_add_test(tc, slack_keeps_the_limit);
    tcase_add_test(tc, a_threshold_for_each_route);
    tcase_add_test(tc, one_scale_wants_one_threshold);
    tcase_add_test(tc, routes_gain_or_stay);
    tcase_add_test(tc, goals_are_met);
    tcase_add_test(tc, parts_are_stratified);
    tcase_add_test(tc, validation_is_repeatable);
    tcase_add_loop_test(tc, few_digits, 0, ROWS(roundings));
    suite_add_tcase(suite, tc);
    return suite;
}
