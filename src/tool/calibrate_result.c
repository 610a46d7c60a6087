/* SPDX-License-Identifier: Apache-2.0 */
/* What follows from a calibration: which routes are hard to tell apart, the confusion matrix, the
 * directives to paste and the sentence that says why. */
#include "calibrate.h"

#include <apr_strings.h>
#include <math.h>
#include <stdlib.h>

static float distance(const aip_calibration_t *c, int prompt, int route)
{
    return c->set.distances[(size_t)prompt * (size_t)c->set.n_routes + (size_t)route];
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* INFINITY when there is none. */
static double median(double *values, int n)
{
    if (n == 0) {
        return INFINITY;
    }
    qsort(values, (size_t)n, sizeof *values, compare);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/* Median distance of a route's prompts to it; -1 without prompts. */
static double within(const aip_calibration_t *c, int route, apr_pool_t *pool)
{
    double *values = apr_palloc(pool, (apr_size_t)(c->set.n + 1) * sizeof *values);
    int n = 0;
    for (int i = 0; i < c->set.n; i++) {
        if (c->set.labels[i] == route && isfinite(distance(c, i, route))) {
            values[n++] = (double)distance(c, i, route);
        }
    }
    return n ? median(values, n) : -1;
}

/* Median distance of a route's texts to another route. */
static double between(const aip_calibration_t *c, const float *texts, int from, int to,
                      apr_pool_t *pool)
{
    const aip_route_t *route = &c->gateway->routes->routes[from];
    double *values = apr_palloc(pool, (apr_size_t)(route->n_texts + 1) * sizeof *values);
    for (int i = 0; i < route->n_texts; i++) {
        values[i] = (double)texts[(size_t)route->texts[i] * (size_t)c->set.n_routes + (size_t)to];
    }
    return median(values, route->n_texts);
}

static void count_crossed(const aip_calibration_t *c, aip_twins_t *t)
{
    for (int i = 0; i < c->set.n; i++) {
        int own = c->set.labels[i], other = own == t->a ? t->b : t->a;
        if (own == t->a || own == t->b) {
            t->n++;
            t->crossed += distance(c, i, other) < distance(c, i, own);
        }
    }
}

void aip_find_twins(aip_calibration_t *c, const float *texts, apr_pool_t *pool)
{
    c->twins = apr_array_make(pool, 4, sizeof(aip_twins_t));
    for (int a = 0; a < c->set.n_routes; a++) {
        for (int b = a + 1; b < c->set.n_routes; b++) {
            if (a == c->gateway->routes->catchall || b == c->gateway->routes->catchall) {
                continue;
            }
            aip_twins_t t = {.a = a, .b = b};
            double there = between(c, texts, a, b, pool), back = between(c, texts, b, a, pool);
            double own_there = within(c, b, pool), own_back = within(c, a, pool);
            bool forth = there - own_there < back - own_back;
            t.between = forth ? there : back;
            t.within = forth ? own_there : own_back;
            count_crossed(c, &t);
            bool alike = t.between <= t.within && t.crossed >= 1;
            if (alike || (t.crossed >= 2 && t.crossed * 4 >= t.n)) {
                APR_ARRAY_PUSH(c->twins, aip_twins_t) = t;
            }
        }
    }
}

int *aip_cal_confusion(const aip_calibration_t *c, aip_cal_part_t part, const double *thresholds,
                       apr_pool_t *pool)
{
    int width = c->set.n_routes + 1;
    int *counts = apr_pcalloc(pool, (apr_size_t)width * (apr_size_t)width * sizeof *counts);
    for (int i = 0; i < part.n; i++) {
        int p = part.at[i];
        counts[(c->set.labels[p] + 1) * width + aip_cal_outcome(&c->set, p, thresholds) + 1]++;
    }
    return counts;
}

const char *aip_cal_reason(const aip_calibration_t *c, apr_pool_t *pool)
{
    const aip_cal_estimate_t *e = &c->estimate;
    const aip_cal_score_t *s[] = {&e->configured, &e->global, &e->routes};
    if (!c->validated) {
        return "too few prompts for cross-validation, so no thresholds per target";
    }
    const char *figures = apr_psprintf(
        pool,
        "cross-validation within the training part: %.1f %% right as configured, %.1f %% with one "
        "threshold, %.1f %% with one per target",
        100.0 * s[0]->right / s[0]->n, 100.0 * s[1]->right / s[1]->n,
        100.0 * s[2]->right / s[2]->n);
    switch (c->choice) {
    case AIP_CAL_KEEP:
        return apr_psprintf(pool, "%s; nothing is better than what is configured", figures);
    case AIP_CAL_GLOBAL:
        return apr_psprintf(pool,
                            "%s; one per target gains %.1f of %d prompts, not more than chance "
                            "(standard error %.1f)",
                            figures, e->gain, c->parts[AIP_PART_TRAIN].n, e->gain_error);
    case AIP_CAL_ROUTES:
        return apr_psprintf(pool,
                            "%s; one per target gains %.1f of %d prompts, more than the standard "
                            "error of %.1f",
                            figures, e->gain, c->parts[AIP_PART_TRAIN].n, e->gain_error);
    }
    return figures;
}

static void push(apr_array_header_t *list, const char *section, const char *line, bool remove)
{
    APR_ARRAY_PUSH(list, aip_paste_t) = (aip_paste_t){section, line, remove};
}

/* A route's own threshold: where it stands now it is changed or removed, else the first target of
 * the route gets it. */
static void paste_route(const aip_calibration_t *c, int r, double threshold, bool own,
                        apr_array_header_t *list, apr_pool_t *pool)
{
    const aip_tool_gateway_t *g = c->gateway;
    const aip_route_t *route = &g->routes->routes[r];
    const char *line =
        apr_pstrcat(pool, "AIRouteThreshold ", aip_tool_number(threshold, pool), NULL);
    bool written = false;
    for (int i = 0; i < route->n_targets; i++) {
        int target = route->targets[i];
        if (g->targets[target]->set[AIP_T_route_threshold]) {
            push(list, g->names[target], own ? line : "AIRouteThreshold", !own);
            written = true;
        }
    }
    if (own && !written) {
        push(list, g->names[route->targets[0]], line, false);
    }
}

apr_array_header_t *aip_cal_paste(const aip_calibration_t *c, aip_cal_choice_e choice,
                                  apr_pool_t *pool)
{
    apr_array_header_t *list = apr_array_make(pool, 8, sizeof(aip_paste_t));
    double global = c->thresholds[AIP_CAL_GLOBAL][0];
    if (choice == AIP_CAL_KEEP) {
        return list;
    }
    for (int r = 0; r < c->set.n_routes; r++) { /* all are the same, where there is one at all */
        global = fmin(global, c->thresholds[AIP_CAL_GLOBAL][r]);
    }
    if (isfinite(global)) {
        push(list, NULL,
             apr_pstrcat(pool, "AIVectordbThreshold ", aip_tool_number(global, pool), NULL), false);
    } else if (c->gateway->f.set[AIP_L_vectordb_threshold]) {
        push(list, NULL, "AIVectordbThreshold", true);
    }
    for (int r = 0; r < c->set.n_routes; r++) {
        double threshold = c->thresholds[choice][r];
        bool own = choice == AIP_CAL_ROUTES && isfinite(threshold) &&
                   (threshold < global || threshold > global);
        if (r != c->gateway->routes->catchall) {
            paste_route(c, r, threshold, own, list, pool);
        }
    }
    return list;
}
