/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a labelled set: what is held out, folds, and what cross-validation says about thresholds
 * that were found on other prompts. All chance comes from the seed, so that two runs agree. */
#include "calibrate_math.h"

#include <math.h>
#include <string.h>

enum { FOLDS = 5, REPEATS = 10, LEAST = 2 * FOLDS };

/* SplitMix64, the finalizer of a counter: Steele, Lea, Flood, OOPSLA 2014. */
static apr_uint64_t next_random(apr_uint64_t *state)
{
    apr_uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void shuffle(int *list, int n, apr_uint64_t *state)
{
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(next_random(state) % (apr_uint64_t)(i + 1)), kept = list[i];
        list[i] = list[j];
        list[j] = kept;
    }
}

/* The prompts of a part with one label, in an order of chance. @return how many */
static int group(const aip_cal_set_t *set, aip_cal_part_t part, int label, int *list,
                 apr_uint64_t *state)
{
    int n = 0;
    for (int i = 0; i < part.n; i++) {
        if (set->labels[part.at[i]] == label) {
            list[n++] = part.at[i];
        }
    }
    shuffle(list, n, state);
    return n;
}

static aip_cal_part_t everything(const aip_cal_set_t *set, apr_pool_t *pool)
{
    int *at = apr_palloc(pool, (apr_size_t)(set->n + 1) * sizeof *at);
    for (int i = 0; i < set->n; i++) {
        at[i] = i;
    }
    return (aip_cal_part_t){set->n, at};
}

/* The members of `all` whose mark is (or is not) `mark`, in the order of `all`. */
static aip_cal_part_t marked(aip_cal_part_t all, const int *marks, int mark, bool is, int *at)
{
    int n = 0;
    for (int i = 0; i < all.n; i++) {
        if ((marks[all.at[i]] == mark) == is) {
            at[n++] = all.at[i];
        }
    }
    return (aip_cal_part_t){n, at};
}

void aip_cal_split(const aip_cal_set_t *set, double held_out, apr_uint64_t seed,
                   aip_cal_part_t *train, aip_cal_part_t *rest, apr_pool_t *pool)
{
    apr_size_t size = (apr_size_t)(set->n + 1) * sizeof(int);
    aip_cal_part_t all = everything(set, pool);
    int *marks = apr_pcalloc(pool, size), *list = apr_palloc(pool, size);
    for (int label = AIP_CAL_REST; label < set->n_routes; label++) {
        int n = group(set, all, label, list, &seed), out = (int)floor(held_out * n + 0.5);
        for (int i = 0; i < (out < n ? out : n - 1); i++) {
            marks[list[i]] = 1;
        }
    }
    *train = marked(all, marks, 1, false, apr_palloc(pool, size));
    *rest = marked(all, marks, 1, true, apr_palloc(pool, size));
}

/* Deals the prompts of each label to the folds in turn. */
static void deal(const aip_cal_set_t *set, aip_cal_part_t part, apr_uint64_t *state, int *list,
                 int *folds)
{
    int next = 0;
    for (int label = AIP_CAL_REST; label < set->n_routes; label++) {
        int n = group(set, part, label, list, state);
        for (int i = 0; i < n; i++) {
            folds[list[i]] = next++ % FOLDS;
        }
    }
}

static void add(aip_cal_score_t *sum, const aip_cal_score_t *score)
{
    sum->n += score->n;
    sum->right += score->right;
    sum->rest += score->rest;
    sum->false_positives += score->false_positives;
    sum->share += score->share;
}

/* Fits on `train`, judges on `test`; counts the prompts on which the two kinds of thresholds
 * differ. */
static void one_fold(const aip_cal_set_t *set, aip_cal_part_t train, aip_cal_part_t test,
                     const aip_cal_goal_t *goal, aip_cal_estimate_t *sum, int *gained, int *lost,
                     apr_pool_t *pool)
{
    double *global = apr_palloc(pool, (apr_size_t)set->n_routes * sizeof *global);
    double *routes = apr_palloc(pool, (apr_size_t)set->n_routes * sizeof *routes);
    aip_cal_fit_global(set, train, goal, global, pool);
    aip_cal_fit_routes(set, train, goal, routes, pool);
    for (int i = 0; i < test.n; i++) {
        int label = set->labels[test.at[i]];
        bool one = aip_cal_outcome(set, test.at[i], global) == label;
        bool other = aip_cal_outcome(set, test.at[i], routes) == label;
        *gained += other && !one;
        *lost += one && !other;
    }
    aip_cal_score_t scores[] = {aip_cal_score(set, test, goal, global),
                                aip_cal_score(set, test, goal, routes)};
    add(&sum->global, &scores[0]);
    add(&sum->routes, &scores[1]);
}

bool aip_cal_validate(const aip_cal_set_t *set, aip_cal_part_t part, const aip_cal_goal_t *goal,
                      const double *configured, apr_uint64_t seed, aip_cal_estimate_t *estimate,
                      apr_pool_t *pool)
{
    apr_size_t size = (apr_size_t)(set->n + 1) * sizeof(int);
    int *folds = apr_pcalloc(pool, size), *list = apr_palloc(pool, size);
    int *train = apr_palloc(pool, size), *test = apr_palloc(pool, size);
    int gained = 0, lost = 0;
    apr_pool_t *scratch;
    memset(estimate, 0, sizeof *estimate);
    if (part.n < LEAST) {
        return false;
    }
    apr_pool_create(&scratch, pool);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        deal(set, part, &seed, list, folds);
        for (int fold = 0; fold < FOLDS; fold++) {
            one_fold(set, marked(part, folds, fold, false, train),
                     marked(part, folds, fold, true, test), goal, estimate, &gained, &lost,
                     scratch);
            apr_pool_clear(scratch);
        }
        aip_cal_score_t as_it_is = aip_cal_score(set, part, goal, configured);
        add(&estimate->configured, &as_it_is);
    }
    apr_pool_destroy(scratch);
    estimate->configured.excess = aip_cal_excess(goal, &estimate->configured);
    estimate->global.excess = aip_cal_excess(goal, &estimate->global);
    estimate->routes.excess = aip_cal_excess(goal, &estimate->routes);
    estimate->gain = (double)(gained - lost) / REPEATS;
    estimate->gain_error = sqrt((double)(gained + lost) / REPEATS);
    return true;
}

aip_cal_choice_e aip_cal_choose(const aip_cal_estimate_t *estimate)
{
    bool routes = estimate->routes.excess <= estimate->global.excess && estimate->gain > 0 &&
                  estimate->gain > estimate->gain_error;
    const aip_cal_score_t *found = routes ? &estimate->routes : &estimate->global;
    if (estimate->configured.n && !aip_cal_better(found, &estimate->configured)) {
        return AIP_CAL_KEEP;
    }
    return routes ? AIP_CAL_ROUTES : AIP_CAL_GLOBAL;
}
