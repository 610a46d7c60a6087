/* SPDX-License-Identifier: Apache-2.0 */
/* A calibration for people. */
#include "calibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {"as configured", "one threshold", "one per target"};
static const char *const part_names[] = {"training", "held out"};

static void print_score(const aip_cal_score_t *s)
{
    if (s->n) {
        printf("%4d of %4d %5.1f %%", s->right, s->n, 100.0 * s->right / s->n);
    } else {
        printf("%20s", "-");
    }
}

static void print_scores(const aip_calibration_t *c)
{
    printf("%d prompts of %s: %d to find thresholds with, %d held out to judge them (seed "
           "%" APR_UINT64_T_FMT ")\n\n",
           c->set.n, c->gateway->path, c->parts[AIP_PART_TRAIN].n, c->parts[AIP_PART_HELD_OUT].n,
           c->options->seed);
    printf("right              %20s    %20s\n", part_names[0], part_names[1]);
    for (int kind = 0; kind < 3; kind++) {
        printf("  %-17s", kinds[kind]);
        print_score(&c->scores[kind][AIP_PART_TRAIN]);
        fputs("    ", stdout);
        print_score(&c->scores[kind][AIP_PART_HELD_OUT]);
        putchar('\n');
    }
}

/* How the goal's limit is kept. */
static void print_goal(const aip_calibration_t *c)
{
    const aip_cal_goal_t *goal = &c->goal;
    bool share = goal->kind == AIP_CAL_SHARE;
    if (goal->kind == AIP_CAL_ACCURACY) {
        return;
    }
    if (share) {
        printf("\nshare of all prompts that goes to %s, at most %.4g\n",
               aip_cal_name(c, goal->route), goal->limit);
    } else {
        printf("\nshare of the prompts labelled - that goes to a target, at most %.4g\n",
               goal->limit);
    }
    for (int kind = 0; kind < 3; kind++) {
        printf("  %-17s", kinds[kind]);
        for (int part = 0; part < AIP_PARTS; part++) {
            const aip_cal_score_t *s = &c->scores[kind][part];
            int n = share ? s->n : s->rest, k = share ? s->share : s->false_positives;
            printf("%4d of %4d %5.1f %%%s", k, n, n ? 100.0 * k / n : 0.0, part ? "\n" : "    ");
        }
    }
}

/* Width of a column of names. */
static int name_width(const aip_calibration_t *c)
{
    size_t width = 9;
    for (int r = 0; r < c->set.n_routes; r++) {
        size_t len = strlen(aip_cal_name(c, r));
        width = len > width ? len : width;
    }
    return width < 24 ? (int)width : 24;
}

static void print_thresholds(const aip_calibration_t *c)
{
    int width = name_width(c);
    printf("\n%-*s", width + 2, "thresholds");
    for (int kind = 0; kind < 3; kind++) {
        printf("%16s", kinds[kind]);
    }
    putchar('\n');
    for (int r = 0; r < c->set.n_routes; r++) {
        if (r == c->gateway->routes->catchall) {
            continue;
        }
        printf("  %-*.*s", width, width, aip_cal_name(c, r));
        for (int kind = 0; kind < 3; kind++) {
            if (isfinite(c->thresholds[kind][r])) {
                printf("%16.10g", c->thresholds[kind][r]);
            } else {
                printf("%16s", "none");
            }
        }
        putchar('\n');
    }
}

static void print_confusion(const aip_calibration_t *c, int part, apr_pool_t *pool)
{
    int row = c->set.n_routes + 1, catchall = c->gateway->routes->catchall, width = name_width(c);
    const int *counts = aip_cal_confusion(c, c->parts[part], c->thresholds[c->choice], pool);
    printf("\n%s: label (down) and where it goes (across)\n  %*s", part_names[part], width, "");
    for (int r = -1; r < c->set.n_routes; r++) {
        if (r < 0 || r != catchall) {
            printf(" %*.*s", width, width, aip_cal_name(c, r));
        }
    }
    putchar('\n');
    for (int label = -1; label < c->set.n_routes; label++) {
        if (label >= 0 && label == catchall) {
            continue;
        }
        printf("  %-*.*s", width, width, aip_cal_name(c, label));
        for (int r = -1; r < c->set.n_routes; r++) {
            if (r < 0 || r != catchall) {
                printf(" %*d", width, counts[(label + 1) * row + r + 1]);
            }
        }
        putchar('\n');
    }
}

/* Distances of a prompt, nearest first. */
static void print_distances(const aip_calibration_t *c, int prompt)
{
    const float *d = c->set.distances + (size_t)prompt * (size_t)c->set.n_routes;
    float after = -1;
    int last = -1;
    for (;;) {
        int next = -1;
        for (int r = 0; r < c->set.n_routes; r++) {
            bool later = d[r] > after || (d[r] >= after && r > last);
            if (isfinite(d[r]) && later && (next < 0 || d[r] < d[next])) {
                next = r;
            }
        }
        if (next < 0) {
            break;
        }
        printf(" %s=%.4f", aip_cal_name(c, next), (double)d[next]);
        after = d[next];
        last = next;
    }
    putchar('\n');
}

static void print_wrong(const aip_calibration_t *c, int part)
{
    for (int i = 0; i < c->parts[part].n; i++) {
        int p = c->parts[part].at[i];
        int outcome = aip_cal_outcome(&c->set, p, c->thresholds[c->choice]);
        if (outcome != c->set.labels[p]) {
            printf("  line %d: %s goes to %s: ", c->lines[p].number,
                   aip_cal_name(c, c->set.labels[p]), aip_cal_name(c, outcome));
            aip_tool_put(c->lines[p].text);
            fputs("\n   ", stdout);
            print_distances(c, p);
        }
    }
}

static void print_twins(const aip_calibration_t *c)
{
    fputs(c->twins->nelts ? "\nhard to tell apart\n" : "", stdout);
    for (int i = 0; i < c->twins->nelts; i++) {
        const aip_twins_t *t = &APR_ARRAY_IDX(c->twins, i, aip_twins_t);
        printf(
            "  %s and %s: %d of %d prompts are nearer to the wrong one; their texts are %.4f apart",
            aip_cal_name(c, t->a), aip_cal_name(c, t->b), t->crossed, t->n, t->between);
        if (t->within >= 0) {
            printf(", the prompts of one are %.4f from it (median)", t->within);
        }
        putchar('\n');
    }
}

static void print_paste(const aip_calibration_t *c, aip_cal_choice_e choice, apr_pool_t *pool)
{
    const apr_array_header_t *list = aip_cal_paste(c, choice, pool);
    const char *section = "";
    for (int i = 0; i < list->nelts; i++) {
        const aip_paste_t *p = &APR_ARRAY_IDX(list, i, aip_paste_t);
        if (p->section != section) {
            printf(p->section ? "    # inside <AITarget %s>\n" : "    # inside <Location %s>\n",
                   p->section ? p->section : c->gateway->path);
        }
        section = p->section;
        printf(p->remove ? "    # remove %s\n" : "    %s\n", p->line);
    }
}

void aip_calibration_print(const aip_calibration_t *c, apr_pool_t *pool)
{
    print_scores(c);
    print_goal(c);
    print_thresholds(c);
    for (int part = 0; part < AIP_PARTS; part++) {
        if (c->parts[part].n) {
            print_confusion(c, part, pool);
            print_wrong(c, part);
        }
    }
    print_twins(c);
    printf("\nrecommended: %s\n  %s\n", kinds[c->choice], aip_cal_reason(c, pool));
    for (int kind = AIP_CAL_GLOBAL; kind <= AIP_CAL_ROUTES; kind++) {
        printf("\n%s%s\n", kinds[kind], kind == (int)c->choice ? " (recommended)" : "");
        print_paste(c, (aip_cal_choice_e)kind, pool);
    }
}
