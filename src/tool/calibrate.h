/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TOOL_CALIBRATE_H
#define AIP_TOOL_CALIBRATE_H
/* What `aipctl calibrate` finds out, for the two files that print it. */

#include "calibrate_math.h"
#include "tool.h"

enum { AIP_PART_TRAIN, AIP_PART_HELD_OUT, AIP_PARTS };

/** Two routes whose texts are hard to tell apart; see aip_find_twins(). */
typedef struct aip_twins_t {
    int a, b;
    double
        between; /**< distance from the texts of one to the other route, the smaller of both ways */
    double within;  /**< median distance of the other's prompts to it */
    int crossed, n; /**< prompts of both, and how many of them are nearer to the wrong one */
} aip_twins_t;

typedef struct aip_calibration_t {
    const aip_options_t *options;
    const aip_tool_gateway_t *gateway;
    const aip_line_t *lines; /**< the prompts of `set`, in its order */
    aip_cal_set_t set;
    aip_cal_goal_t goal;
    aip_cal_part_t parts[AIP_PARTS];
    double *thresholds[3]; /**< by aip_cal_choice_e, one per route; INFINITY: none */
    aip_cal_score_t scores[3][AIP_PARTS];
    bool validated; /**< there were enough prompts for an estimate */
    aip_cal_estimate_t estimate;
    aip_cal_choice_e choice;
    apr_array_header_t *twins; /**< aip_twins_t */
} aip_calibration_t;

/** "-" for AIP_CAL_REST, else the name of the route. */
const char *aip_cal_name(const aip_calibration_t *c, int route);

/** Why that choice, in a sentence. */
const char *aip_cal_reason(const aip_calibration_t *c, apr_pool_t *pool);

/** Directives to paste, one a line; each in the section that `section` names (NULL: the location's
 * own). `remove`: a line that must go. */
typedef struct aip_paste_t {
    const char *section, *line;
    bool remove;
} aip_paste_t;

/** aip_paste_t; empty when nothing is to change. */
apr_array_header_t *aip_cal_paste(const aip_calibration_t *c, aip_cal_choice_e choice,
                                  apr_pool_t *pool);

/** Counts [label][outcome], both plus 1 so that AIP_CAL_REST is 0, rows of n_routes + 1. */
int *aip_cal_confusion(const aip_calibration_t *c, aip_cal_part_t part, const double *thresholds,
                       apr_pool_t *pool);

/**
 * Pairs that cannot be told apart well. Either the texts of one route, taken as prompts, are at
 * least as near to the other route as half of the other's own prompts are, and some prompt of both
 * is nearer to the wrong one; or a quarter of both routes' prompts, and two at least, are, whatever
 * their texts.
 * @param texts  float[routes->n_texts * routes->n]: distances of all texts to all routes
 */
void aip_find_twins(aip_calibration_t *c, const float *texts, apr_pool_t *pool);

void aip_calibration_print(const aip_calibration_t *c, apr_pool_t *pool);
void aip_calibration_print_json(const aip_calibration_t *c, apr_pool_t *pool);

#endif
