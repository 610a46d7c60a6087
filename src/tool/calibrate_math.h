/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TOOL_CALIBRATE_MATH_H
#define AIP_TOOL_CALIBRATE_MATH_H
/* Thresholds from labelled prompts: scoring, exact search, split into parts, cross-validation.
 * Pure: works on distances, knows no embedder, no file and no clock. Not thread-safe by need: all
 * functions work on what they are given. */

#include "aip/aip.h"

/** As an outcome: the catch-all route, or no target where there is none. */
#define AIP_CAL_REST (-1)

/** Largest threshold that the directives take. */
#define AIP_CAL_MAX 1000.0

/** Labelled prompts. A route that is never compared (the catch-all) has distance INFINITY. */
typedef struct aip_cal_set_t {
    int n, n_routes;
    const float *distances; /**< float[n * n_routes]; INFINITY: no distance */
    const int *labels;      /**< int[n]: right outcome, a route or AIP_CAL_REST */
    const int *outcomes;    /**< int[n * n_routes]: where the prompt goes when that route is the
                               nearest eligible one; differs from it where AIRouteMargin rules */
} aip_cal_set_t;

/** Some prompts of a set, by index. */
typedef struct aip_cal_part_t {
    int n;
    const int *at;
} aip_cal_part_t;

typedef enum aip_cal_goal_e {
    AIP_CAL_ACCURACY,        /**< as many right as possible */
    AIP_CAL_FALSE_POSITIVES, /**< ... while of the prompts labelled AIP_CAL_REST at most the share
                                `limit` goes to a target */
    AIP_CAL_SHARE /**< ... while of all prompts at most the share `limit` goes to `route` */
} aip_cal_goal_e;

typedef struct aip_cal_goal_t {
    aip_cal_goal_e kind;
    double limit;
    int route; /**< AIP_CAL_SHARE: a route or AIP_CAL_REST */
} aip_cal_goal_t;

typedef struct aip_cal_score_t {
    int n, right;
    int rest, false_positives; /**< labelled AIP_CAL_REST, and those of them that got a target */
    int share;                 /**< went to the goal's route; 0 for other goals */
    int excess;                /**< prompts by which the goal's limit is exceeded */
} aip_cal_score_t;

/** The thresholds between which the score is the same. Eligible iff distance <= threshold +
 * AIP_DISTANCE_EPSILON, as in aip_decide(). */
typedef struct aip_cal_cut_t {
    double low, high;      /**< threshold in [low, high) */
    double threshold;      /**< about its middle, with as few digits as that allows */
    aip_cal_score_t score; /**< with that threshold */
} aip_cal_cut_t;

/** Where a prompt goes. @param thresholds  double[n_routes]; INFINITY: always eligible */
int aip_cal_outcome(const aip_cal_set_t *set, int prompt, const double *thresholds);

aip_cal_score_t aip_cal_score(const aip_cal_set_t *set, aip_cal_part_t part,
                              const aip_cal_goal_t *goal, const double *thresholds);

/** By how many prompts the counts of a score exceed the goal's limit. */
int aip_cal_excess(const aip_cal_goal_t *goal, const aip_cal_score_t *score);

/** Less excess, then more right. */
bool aip_cal_better(const aip_cal_score_t *a, const aip_cal_score_t *b);

/** For aip_cal_sweep(): one threshold for all routes. */
#define AIP_CAL_ALL (-1)

/**
 * The best threshold of one route with the others as they are, or the one best threshold of all
 * routes. Exact: looks at every interval between observed distances; of equally good ones the
 * widest (neighbours are one interval; the outermost reach one mean gap beyond what was observed).
 * @param thresholds  double[n_routes], not looked at with AIP_CAL_ALL
 * @param slack       so many right prompts less than the best are as good; the goal's limit holds
 * @return false: the threshold makes no difference, `best` is not set
 */
bool aip_cal_sweep(const aip_cal_set_t *set, aip_cal_part_t part, const aip_cal_goal_t *goal,
                   int route, const double *thresholds, int slack, aip_cal_cut_t *best,
                   apr_pool_t *pool);

/** One threshold for all routes into all of `thresholds`; INFINITY when it makes no difference.
 * What is at most one standard error worse than the best cannot be told apart from it: the middle
 * of all that, if it hangs together, stands up better to other prompts than the best itself. */
aip_cal_score_t aip_cal_fit_global(const aip_cal_set_t *set, aip_cal_part_t part,
                                   const aip_cal_goal_t *goal, double *thresholds,
                                   apr_pool_t *pool);

/** A threshold for each route: sweeps over the routes in turn, begun at the global one, until none
 * gains. A route keeps the threshold it has unless another makes more prompts right than chance
 * would: more than the square root of how many it changes. */
aip_cal_score_t aip_cal_fit_routes(const aip_cal_set_t *set, aip_cal_part_t part,
                                   const aip_cal_goal_t *goal, double *thresholds,
                                   apr_pool_t *pool);

/** A number of [low, high), near the middle, with few digits. */
double aip_cal_round(double low, double high);

/**
 * Splits a set by label: of each label's prompts about the share `held_out` goes to `rest`, at
 * least one stays. The same seed gives the same parts.
 */
void aip_cal_split(const aip_cal_set_t *set, double held_out, apr_uint64_t seed,
                   aip_cal_part_t *train, aip_cal_part_t *rest, apr_pool_t *pool);

/** What a choice of thresholds does to prompts that it has not seen. */
typedef struct aip_cal_estimate_t {
    aip_cal_score_t configured, global, routes; /**< sums over all repetitions */
    double gain, gain_error; /**< right prompts per repetition that thresholds per route bring over
                                the global one, and the standard error of that */
} aip_cal_estimate_t;

/** k-fold cross-validation within a part, repeated with other folds; false: too few prompts. */
bool aip_cal_validate(const aip_cal_set_t *set, aip_cal_part_t part, const aip_cal_goal_t *goal,
                      const double *configured, apr_uint64_t seed, aip_cal_estimate_t *estimate,
                      apr_pool_t *pool);

typedef enum aip_cal_choice_e {
    AIP_CAL_KEEP,   /**< what is configured is no worse */
    AIP_CAL_GLOBAL, /**< one threshold */
    AIP_CAL_ROUTES  /**< one per route: gains more than its standard error */
} aip_cal_choice_e;

aip_cal_choice_e aip_cal_choose(const aip_cal_estimate_t *estimate);

#endif
