/* SPDX-License-Identifier: Apache-2.0 */
/* aipctl calibrate: labelled prompts to thresholds. Thresholds and the choice between them come
 * from the training part alone; the held-out part only judges. */
#include "calibrate.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *aip_cal_name(const aip_calibration_t *c, int route)
{
    return route < 0 ? "-" : aip_gateway_route_name(c->gateway, route);
}

static int rest_of(const aip_tool_gateway_t *g, int route)
{
    return route == g->routes->catchall ? AIP_CAL_REST : route;
}

/* The targets' names, for a message. */
static const char *names(const aip_tool_gateway_t *g, apr_pool_t *pool)
{
    const char *all = "-";
    for (int i = 0; i < g->n; i++) {
        all = apr_pstrcat(pool, all, ", ", g->names[i], NULL);
    }
    return all;
}

/* Labels to routes; a prompt that stands there twice counts once. */
static int read_labels(aip_calibration_t *c, const aip_lines_t *read, aip_line_t *lines,
                       int *labels, apr_pool_t *pool)
{
    const aip_tool_gateway_t *g = c->gateway;
    apr_hash_t *seen = apr_hash_make(pool);
    int n = 0, twice = 0;
    for (int i = 0; i < read->list->nelts; i++) {
        const aip_line_t *line = &APR_ARRAY_IDX(read->list, i, aip_line_t);
        bool rest = line->label.len == 1 && *line->label.data == '-';
        int route = rest ? AIP_CAL_REST : aip_gateway_route_of(g, line->label);
        if (route == -2) {
            return aip_tool_fail("%s, line %d: '%.*s' is no target of %s; labels are %s, or the "
                                 "description of a route",
                                 read->name, line->number, (int)line->label.len, line->label.data,
                                 g->path, names(g, pool));
        }
        const int *before = apr_hash_get(seen, line->text.data, (apr_ssize_t)line->text.len);
        labels[n] = rest ? AIP_CAL_REST : rest_of(g, route);
        if (before && labels[*before] != labels[n]) {
            return aip_tool_fail("%s, line %d: line %d has the same prompt with another label",
                                 read->name, line->number, lines[*before].number);
        }
        if (before) {
            twice++;
            continue;
        }
        apr_hash_set(seen, line->text.data, (apr_ssize_t)line->text.len,
                     apr_pmemdup(pool, &n, sizeof n));
        lines[n++] = *line;
    }
    if (twice) {
        fprintf(stderr, "aipctl: %s: %d prompts stand there more than once; they count once\n",
                read->name, twice);
    }
    c->lines = lines;
    c->set.n = n;
    c->set.labels = labels;
    return n ? AIP_EXIT_OK : aip_tool_fail("%s holds no prompt", read->name);
}

static int read_goal(aip_calibration_t *c)
{
    const aip_options_t *o = c->options;
    c->goal = (aip_cal_goal_t){.kind = AIP_CAL_ACCURACY};
    if (o->max_share) {
        const char *equals = strrchr(o->max_share, '=');
        aip_span_t name = {o->max_share, (size_t)(equals - o->max_share)};
        int route = aip_gateway_route_of(c->gateway, name);
        if (route == -2) {
            return aip_tool_fail("--max-share: '%.*s' is no target of %s", (int)name.len, name.data,
                                 c->gateway->path);
        }
        c->goal = (aip_cal_goal_t){.kind = AIP_CAL_SHARE,
                                   .limit = strtod(equals + 1, NULL), /* end of an argv word */
                                   .route = rest_of(c->gateway, route)};
    } else if (o->max_false_positives >= 0) {
        int rest = 0;
        for (int i = 0; i < c->set.n; i++) {
            rest += c->set.labels[i] == AIP_CAL_REST;
        }
        c->goal =
            (aip_cal_goal_t){.kind = AIP_CAL_FALSE_POSITIVES, .limit = o->max_false_positives};
        return rest ? AIP_EXIT_OK
                    : aip_tool_fail("--max-false-positives needs prompts with the label -");
    }
    return AIP_EXIT_OK;
}

static int measure(aip_calibration_t *c, aip_tool_embedder_t *embedder, apr_pool_t *pool)
{
    const aip_routes_t *routes = c->gateway->routes;
    size_t n = (size_t)c->set.n, width = (size_t)routes->n;
    aip_span_t *texts = apr_palloc(pool, n * sizeof *texts);
    float *distances = apr_palloc(pool, n * width * sizeof *distances);
    int *outcomes = apr_palloc(pool, n * width * sizeof *outcomes), status = AIP_EXIT_OK;
    for (size_t i = 0; status == AIP_EXIT_OK && i < n; i++) {
        status = aip_prompt_text(c->gateway, c->lines[i].text, &texts[i], pool);
    }
    status = status ? status : aip_embedder_distances(embedder, texts, c->set.n, distances, pool);
    for (size_t i = 0; status == AIP_EXIT_OK && i < n * width; i++) {
        const float *row = distances + i / width * width;
        int route = (int)(i % width);
        outcomes[i] = isfinite(row[route])
                          ? rest_of(c->gateway, aip_gateway_outcome(c->gateway, row, route, pool))
                          : AIP_CAL_REST;
    }
    c->set.n_routes = routes->n;
    c->set.distances = distances;
    c->set.outcomes = outcomes;
    return status;
}

static void calibrate(aip_calibration_t *c, apr_pool_t *pool)
{
    const aip_tool_gateway_t *g = c->gateway;
    const aip_cal_part_t *train = &c->parts[AIP_PART_TRAIN];
    for (int kind = 0; kind < 3; kind++) {
        c->thresholds[kind] = apr_palloc(pool, (apr_size_t)g->routes->n * sizeof(double));
    }
    for (int r = 0; r < g->routes->n; r++) {
        const double *threshold = aip_route_threshold(g->routes, r, &g->rules);
        c->thresholds[AIP_CAL_KEEP][r] = threshold ? *threshold : INFINITY;
    }
    aip_cal_split(&c->set, c->options->holdout, c->options->seed, &c->parts[AIP_PART_TRAIN],
                  &c->parts[AIP_PART_HELD_OUT], pool);
    aip_cal_fit_global(&c->set, *train, &c->goal, c->thresholds[AIP_CAL_GLOBAL], pool);
    aip_cal_fit_routes(&c->set, *train, &c->goal, c->thresholds[AIP_CAL_ROUTES], pool);
    for (int kind = 0; kind < 3; kind++) {
        for (int part = 0; part < AIP_PARTS; part++) {
            c->scores[kind][part] =
                aip_cal_score(&c->set, c->parts[part], &c->goal, c->thresholds[kind]);
        }
    }
    c->validated = aip_cal_validate(&c->set, *train, &c->goal, c->thresholds[AIP_CAL_KEEP],
                                    c->options->seed, &c->estimate, pool);
    c->choice = c->validated ? aip_cal_choose(&c->estimate)
                : aip_cal_better(&c->scores[AIP_CAL_GLOBAL][AIP_PART_TRAIN],
                                 &c->scores[AIP_CAL_KEEP][AIP_PART_TRAIN])
                    ? AIP_CAL_GLOBAL
                    : AIP_CAL_KEEP;
}

static int twins(aip_calibration_t *c, aip_tool_embedder_t *embedder, apr_pool_t *pool)
{
    const aip_routes_t *routes = c->gateway->routes;
    float *texts =
        apr_palloc(pool, (apr_size_t)(routes->n_texts + 1) * (apr_size_t)routes->n * sizeof *texts);
    int status = aip_embedder_distances(embedder, routes->texts, routes->n_texts, texts, pool);
    if (status == AIP_EXIT_OK) {
        aip_find_twins(c, texts, pool);
    }
    return status;
}

int aip_run_calibrate(const aip_options_t *options, apr_pool_t *pool)
{
    json_t *document = NULL;
    aip_tool_gateway_t gateway;
    aip_tool_embedder_t embedder;
    aip_lines_t read = {.input = options->input, .labelled = true};
    aip_calibration_t c = {.options = options, .gateway = &gateway};
    int status = aip_httpd_dump(options, true, &document, pool);
    status = status ? status : aip_gateway_find(document, options, &gateway, pool);
    status = status ? status : aip_lines_read(&read, options->file, pool);
    if (status == AIP_EXIT_OK) {
        apr_size_t n = (apr_size_t)read.list->nelts + 1;
        status = read_labels(&c, &read, apr_palloc(pool, n * sizeof(aip_line_t)),
                             apr_palloc(pool, n * sizeof(int)), pool);
    }
    status = status ? status : read_goal(&c);
    status = status ? status : aip_embedder_open(&embedder, options, &gateway, pool);
    status = status ? status : measure(&c, &embedder, pool);
    status = status ? status : twins(&c, &embedder, pool);
    if (status == AIP_EXIT_OK) {
        calibrate(&c, pool);
        (options->json ? aip_calibration_print_json : aip_calibration_print)(&c, pool);
    }
    json_decref(document);
    return status;
}
