/* SPDX-License-Identifier: Apache-2.0 */
/* A calibration for programs. */
#include "calibrate.h"

#include <math.h>
#include <stdio.h>

static const char *const kinds[] = {"configured", "global", "per_target"};
static const char *const part_names[] = {"training", "held_out"};

static json_t *score_object(const aip_calibration_t *c, const aip_cal_score_t *s)
{
    json_t *object = json_pack("{s:i, s:i, s:f, s:i, s:i}", "prompts", s->n, "right", s->right,
                               "accuracy", s->n ? (double)s->right / s->n : 0.0, "rest", s->rest,
                               "false_positives", s->false_positives);
    if (c->goal.kind == AIP_CAL_SHARE) {
        json_object_set_new(object, "share", json_integer(s->share));
    }
    return object;
}

static json_t *goal_object(const aip_calibration_t *c)
{
    switch (c->goal.kind) {
    case AIP_CAL_ACCURACY:
        break;
    case AIP_CAL_FALSE_POSITIVES:
        return json_pack("{s:s, s:f}", "kind", "max-false-positives", "limit", c->goal.limit);
    case AIP_CAL_SHARE:
        return json_pack("{s:s, s:f, s:s}", "kind", "max-share", "limit", c->goal.limit, "target",
                         aip_cal_name(c, c->goal.route));
    }
    return json_pack("{s:s}", "kind", "accuracy");
}

static json_t *paste_list(const aip_calibration_t *c, aip_cal_choice_e choice, apr_pool_t *pool)
{
    const apr_array_header_t *list = aip_cal_paste(c, choice, pool);
    json_t *lines = json_array();
    for (int i = 0; i < list->nelts; i++) {
        const aip_paste_t *p = &APR_ARRAY_IDX(list, i, aip_paste_t);
        json_array_append_new(lines, json_pack("{s:s?, s:s, s:b}", "target", p->section, "line",
                                               p->line, "remove", p->remove));
    }
    return lines;
}

static json_t *kind_object(const aip_calibration_t *c, int kind, apr_pool_t *pool)
{
    json_t *thresholds = json_object();
    for (int r = 0; r < c->set.n_routes; r++) {
        double value = c->thresholds[kind][r];
        if (r != c->gateway->routes->catchall) {
            json_object_set_new(thresholds, aip_cal_name(c, r),
                                isfinite(value) ? json_real(value) : json_null());
        }
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "thresholds", thresholds, part_names[0],
                     score_object(c, &c->scores[kind][0]), part_names[1],
                     score_object(c, &c->scores[kind][1]), "directives",
                     paste_list(c, (aip_cal_choice_e)kind, pool));
}

static json_t *confusion_object(const aip_calibration_t *c, aip_cal_part_t part, apr_pool_t *pool)
{
    int width = c->set.n_routes + 1, catchall = c->gateway->routes->catchall;
    const int *counts = aip_cal_confusion(c, part, c->thresholds[c->choice], pool);
    json_t *rows = json_object();
    for (int label = -1; label < c->set.n_routes; label++) {
        json_t *row = json_object();
        for (int r = -1; r < c->set.n_routes; r++) {
            if (r < 0 || r != catchall) {
                json_object_set_new(row, aip_cal_name(c, r),
                                    json_integer(counts[(label + 1) * width + r + 1]));
            }
        }
        if (label < 0 || label != catchall) {
            json_object_set_new(rows, aip_cal_name(c, label), row);
        } else {
            json_decref(row);
        }
    }
    return rows;
}

static json_t *wrong_list(const aip_calibration_t *c, aip_cal_part_t part)
{
    json_t *list = json_array();
    for (int i = 0; i < part.n; i++) {
        int p = part.at[i], outcome = aip_cal_outcome(&c->set, p, c->thresholds[c->choice]);
        if (outcome == c->set.labels[p]) {
            continue;
        }
        json_t *distances = json_object();
        for (int r = 0; r < c->set.n_routes; r++) {
            float d = c->set.distances[(size_t)p * (size_t)c->set.n_routes + (size_t)r];
            if (isfinite(d)) {
                json_object_set_new(distances, aip_cal_name(c, r), json_real((double)d));
            }
        }
        json_array_append_new(list,
                              json_pack("{s:i, s:s, s:s, s:s%, s:o}", "line", c->lines[p].number,
                                        "label", aip_cal_name(c, c->set.labels[p]), "target",
                                        aip_cal_name(c, outcome), "prompt", c->lines[p].text.data,
                                        c->lines[p].text.len, "distances", distances));
    }
    return list;
}

static json_t *twins_list(const aip_calibration_t *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->twins->nelts; i++) {
        const aip_twins_t *t = &APR_ARRAY_IDX(c->twins, i, aip_twins_t);
        json_array_append_new(list, json_pack("{s:[s, s], s:f, s:o, s:i, s:i}", "targets",
                                              aip_cal_name(c, t->a), aip_cal_name(c, t->b),
                                              "between", t->between, "within",
                                              t->within >= 0 ? json_real(t->within) : json_null(),
                                              "crossed", t->crossed, "prompts", t->n));
    }
    return list;
}

void aip_calibration_print_json(const aip_calibration_t *c, apr_pool_t *pool)
{
    json_t *result =
        json_pack("{s:s, s:I, s:o, s:s, s:s, s:o}", "location", c->gateway->path, "seed",
                  (json_int_t)c->options->seed, "goal", goal_object(c), "recommended",
                  kinds[c->choice], "why", aip_cal_reason(c, pool), "too_close", twins_list(c));
    for (int kind = 0; kind < 3; kind++) {
        json_object_set_new(result, kinds[kind], kind_object(c, kind, pool));
    }
    for (int part = 0; part < AIP_PARTS; part++) {
        json_object_set_new(result, part_names[part],
                            json_pack("{s:o, s:o}", "confusion",
                                      confusion_object(c, c->parts[part], pool), "wrong",
                                      wrong_list(c, c->parts[part])));
    }
    json_dumpf(result, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    putchar('\n');
    json_decref(result);
}
