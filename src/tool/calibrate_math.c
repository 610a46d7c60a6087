/* SPDX-License-Identifier: Apache-2.0 */
/* The search for thresholds. The score as a function of one threshold is a step function whose
 * steps lie at observed distances, so walking over the sorted steps finds its maximum exactly; a
 * grid would miss it or split it. Called by `aipctl calibrate` and the unit tests. */
#include "calibrate_math.h"

#include "aip/route.h"

#include <apr_strings.h>
#include <math.h>
#include <stdlib.h>

/* A prompt that goes elsewhere once the threshold reaches `at`: by how much the counts change. */
typedef struct step_t {
    double at;
    int right, false_positives, share;
} step_t;

static float distance(const aip_cal_set_t *set, int prompt, int route)
{
    return set->distances[(size_t)prompt * (size_t)set->n_routes + (size_t)route];
}

/* Equal distances go to the route that stands first, as in aip_decide(). */
static bool nearer(const aip_cal_set_t *set, int prompt, int a, int b)
{
    float x = distance(set, prompt, a), y = distance(set, prompt, b);
    return x < y || (x <= y && a < b);
}

/* The nearest eligible route but `without`, or -1. */
static int nearest(const aip_cal_set_t *set, int prompt, const double *thresholds, int without)
{
    int best = -1;
    for (int r = 0; r < set->n_routes; r++) {
        double d = (double)distance(set, prompt, r);
        bool eligible = isfinite(d) && (!thresholds || d <= thresholds[r] + AIP_DISTANCE_EPSILON);
        if (r != without && eligible && (best < 0 || nearer(set, prompt, r, best))) {
            best = r;
        }
    }
    return best;
}

static int outcome_of(const aip_cal_set_t *set, int prompt, int route)
{
    return route < 0 ? AIP_CAL_REST
                     : set->outcomes[(size_t)prompt * (size_t)set->n_routes + (size_t)route];
}

int aip_cal_outcome(const aip_cal_set_t *set, int prompt, const double *thresholds)
{
    return outcome_of(set, prompt, nearest(set, prompt, thresholds, -1));
}

static void count(const aip_cal_set_t *set, const aip_cal_goal_t *goal, int prompt, int outcome,
                  int sign, step_t *sum)
{
    int label = set->labels[prompt];
    sum->right += label == outcome ? sign : 0;
    sum->false_positives += label == AIP_CAL_REST && outcome != AIP_CAL_REST ? sign : 0;
    sum->share += goal->kind == AIP_CAL_SHARE && outcome == goal->route ? sign : 0;
}

static int above(int count, double limit, int n)
{
    int allowed = (int)floor(limit * n + 1e-9);
    return count > allowed ? count - allowed : 0;
}

int aip_cal_excess(const aip_cal_goal_t *goal, const aip_cal_score_t *score)
{
    switch (goal->kind) {
    case AIP_CAL_ACCURACY:
        break;
    case AIP_CAL_FALSE_POSITIVES:
        return above(score->false_positives, goal->limit, score->rest);
    case AIP_CAL_SHARE:
        return above(score->share, goal->limit, score->n);
    }
    return 0;
}

static void judge(const aip_cal_goal_t *goal, const step_t *sum, aip_cal_score_t *score)
{
    score->right = sum->right;
    score->false_positives = sum->false_positives;
    score->share = sum->share;
    score->excess = aip_cal_excess(goal, score);
}

static aip_cal_score_t empty_score(const aip_cal_set_t *set, aip_cal_part_t part)
{
    aip_cal_score_t score = {.n = part.n};
    for (int i = 0; i < part.n; i++) {
        score.rest += set->labels[part.at[i]] == AIP_CAL_REST;
    }
    return score;
}

aip_cal_score_t aip_cal_score(const aip_cal_set_t *set, aip_cal_part_t part,
                              const aip_cal_goal_t *goal, const double *thresholds)
{
    aip_cal_score_t score = empty_score(set, part);
    step_t sum = {0};
    for (int i = 0; i < part.n; i++) {
        count(set, goal, part.at[i], aip_cal_outcome(set, part.at[i], thresholds), 1, &sum);
    }
    judge(goal, &sum, &score);
    return score;
}

bool aip_cal_better(const aip_cal_score_t *a, const aip_cal_score_t *b)
{
    return a->excess != b->excess ? a->excess < b->excess : a->right > b->right;
}

double aip_cal_round(double low, double high)
{
    double middle = low + (high - low) / 2, scale = 1000;
    for (int digits = 3; digits < 13; digits++, scale *= 10) {
        double value = round(middle * scale) / scale;
        if (fabs(value - middle) <= (high - low) / 4) {
            return value;
        }
    }
    return middle;
}

/* What happens to a prompt when the threshold of `route` rises; false: nothing. */
static bool step_of(const aip_cal_set_t *set, const aip_cal_goal_t *goal, int prompt, int route,
                    const double *thresholds, step_t *step, step_t *base)
{
    int without = route == AIP_CAL_ALL ? -1 : nearest(set, prompt, thresholds, route);
    int with = route == AIP_CAL_ALL ? nearest(set, prompt, NULL, -1) : route;
    count(set, goal, prompt, outcome_of(set, prompt, without), 1, base);
    if (with < 0 || !((double)distance(set, prompt, with) <= AIP_CAL_MAX) ||
        (without >= 0 && !nearer(set, prompt, with, without))) {
        return false;
    }
    *step = (step_t){.at = (double)distance(set, prompt, with)};
    count(set, goal, prompt, outcome_of(set, prompt, without), -1, step);
    count(set, goal, prompt, outcome_of(set, prompt, with), 1, step);
    return true;
}

static int compare_steps(const void *a, const void *b)
{
    double x = ((const step_t *)a)->at, y = ((const step_t *)b)->at;
    return (x > y) - (x < y);
}

static void add(step_t *sum, const step_t *step)
{
    sum->right += step->right;
    sum->false_positives += step->false_positives;
    sum->share += step->share;
}

/* Intervals between steps, and the score in each. */
typedef struct interval_t {
    double low, high;
    aip_cal_score_t score;
} interval_t;

/* `at` is compared with threshold + epsilon; what lies at 0 is eligible with every threshold.
 * @return how many intervals, one at least */
static int make_intervals(const aip_cal_goal_t *goal, const step_t *steps, int n, step_t sum,
                          aip_cal_score_t score, interval_t *out)
{
    double first = steps[0].at, last = steps[n - 1].at;
    double gap = last > first ? (last - first) / (n - 1) : 0.01;
    int made = 0, i = 0;
    double low = fmax(0, first - gap - AIP_DISTANCE_EPSILON);
    for (; i < n && steps[i].at <= AIP_DISTANCE_EPSILON; i++) {
        add(&sum, &steps[i]);
    }
    while (i < n) {
        double at = steps[i].at;
        judge(goal, &sum, &score);
        out[made++] = (interval_t){low, at - AIP_DISTANCE_EPSILON, score};
        low = at - AIP_DISTANCE_EPSILON;
        for (; i < n && steps[i].at <= at; i++) {
            add(&sum, &steps[i]);
        }
    }
    judge(goal, &sum, &score);
    out[made++] = (interval_t){low, fmin(last + gap, AIP_CAL_MAX + AIP_DISTANCE_EPSILON), score};
    return made;
}

static bool good_enough(const aip_cal_score_t *score, const aip_cal_score_t *best, int slack)
{
    return score->excess == best->excess && score->right >= best->right - slack;
}

/* The widest run of intervals that are as good as the best. */
static void choose(const interval_t *list, int n, int slack, aip_cal_cut_t *best)
{
    aip_cal_score_t top = list[0].score;
    double width = -1;
    for (int i = 1; i < n; i++) {
        top = aip_cal_better(&list[i].score, &top) ? list[i].score : top;
    }
    for (int i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && good_enough(&list[end].score, &top, slack); end++) {
        }
        if (end > i && list[end - 1].high - list[i].low > width) {
            width = list[end - 1].high - list[i].low;
            best->low = list[i].low;
            best->high = list[end - 1].high;
        }
    }
    best->threshold = fmin(aip_cal_round(best->low, best->high), AIP_CAL_MAX);
    for (int i = 0; i < n; i++) {
        if (list[i].low <= best->threshold) {
            best->score = list[i].score;
        }
    }
}

bool aip_cal_sweep(const aip_cal_set_t *set, aip_cal_part_t part, const aip_cal_goal_t *goal,
                   int route, const double *thresholds, int slack, aip_cal_cut_t *best,
                   apr_pool_t *pool)
{
    step_t *steps = apr_palloc(pool, (apr_size_t)(part.n + 1) * sizeof *steps), base = {0};
    interval_t *intervals = apr_palloc(pool, (apr_size_t)(part.n + 1) * sizeof *intervals);
    int n = 0;
    for (int i = 0; i < part.n; i++) {
        n += step_of(set, goal, part.at[i], route, thresholds, &steps[n], &base);
    }
    if (n == 0) {
        return false;
    }
    qsort(steps, (size_t)n, sizeof *steps, compare_steps);
    n = make_intervals(goal, steps, n, base, empty_score(set, part), intervals);
    choose(intervals, n, slack, best);
    return true;
}

aip_cal_score_t aip_cal_fit_global(const aip_cal_set_t *set, aip_cal_part_t part,
                                   const aip_cal_goal_t *goal, double *thresholds, apr_pool_t *pool)
{
    aip_cal_cut_t cut = {.threshold = INFINITY};
    if (aip_cal_sweep(set, part, goal, AIP_CAL_ALL, NULL, 0, &cut, pool)) {
        double right = cut.score.right, wrong = part.n - cut.score.right;
        int slack = (int)sqrt(right * wrong / part.n); /* standard error of a count */
        aip_cal_sweep(set, part, goal, AIP_CAL_ALL, NULL, slack, &cut, pool);
    }
    for (int r = 0; r < set->n_routes; r++) {
        thresholds[r] = cut.threshold;
    }
    return aip_cal_score(set, part, goal, thresholds);
}

/* Whether a threshold is so much better than the one a route has that it is no chance: more than
 * the square root of the number of prompts that become right or wrong by it. */
static bool clearly_better(const aip_cal_set_t *set, aip_cal_part_t part, const double *thresholds,
                           int route, const aip_cal_score_t *now, const aip_cal_cut_t *cut,
                           apr_pool_t *pool)
{
    double *other = apr_pmemdup(pool, thresholds, (apr_size_t)set->n_routes * sizeof *other);
    int changed = 0, gain = cut->score.right - now->right;
    other[route] = cut->threshold;
    for (int i = 0; i < part.n; i++) {
        int p = part.at[i];
        changed += (aip_cal_outcome(set, p, thresholds) == set->labels[p]) !=
                   (aip_cal_outcome(set, p, other) == set->labels[p]);
    }
    return cut->score.excess < now->excess ||
           (cut->score.excess == now->excess && gain > 0 && gain * gain > changed);
}

aip_cal_score_t aip_cal_fit_routes(const aip_cal_set_t *set, aip_cal_part_t part,
                                   const aip_cal_goal_t *goal, double *thresholds, apr_pool_t *pool)
{
    aip_cal_score_t score = aip_cal_fit_global(set, part, goal, thresholds, pool);
    aip_cal_cut_t cut;
    for (bool gained = true; gained;) { /* ends: each gain is a prompt more or an excess less */
        gained = false;
        for (int r = 0; r < set->n_routes; r++) {
            if (aip_cal_sweep(set, part, goal, r, thresholds, 0, &cut, pool) &&
                clearly_better(set, part, thresholds, r, &score, &cut, pool)) {
                thresholds[r] = cut.threshold;
                score = cut.score;
                gained = true;
            }
        }
    }
    return score;
}
