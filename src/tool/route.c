/* SPDX-License-Identifier: Apache-2.0 */
/* aipctl route: prompts to decisions. One line a prompt: tab-separated, or JSON. */
#include "tool.h"

#include <apr_strings.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A decision in the words of the output. */
typedef struct verdict_t {
    int line;
    const char *reason, *target; /* target NULL: none, the client gets 503 */
    double distance;             /* of the route that decided, -1: nothing was compared */
    const double *threshold;     /* that it was held against */
    const float *distances;
    const int *order; /* routes that were compared, nearest first */
    int n;
} verdict_t;

static int *sorted(const aip_routes_t *routes, const float *distances, int *n, apr_pool_t *pool)
{
    int *order = apr_palloc(pool, (apr_size_t)(routes->n + 1) * sizeof *order);
    *n = 0;
    for (int r = 0; r < routes->n; r++) {
        if (isfinite(distances[r])) {
            int i = (*n)++;
            for (; i > 0 && distances[order[i - 1]] > distances[r]; i--) {
                order[i] = order[i - 1];
            }
            order[i] = r;
        }
    }
    return order;
}

static verdict_t decide(const aip_tool_gateway_t *g, int line, const float *distances,
                        apr_pool_t *pool)
{
    aip_decision_t d;
    verdict_t v = {.line = line, .distances = distances};
    v.order = sorted(g->routes, distances, &v.n, pool);
    if (v.n) {
        aip_decide(g->routes, distances, &g->rules, &d, pool);
    } else {
        aip_decide_catchall(g->routes, AIP_REASON_EMPTY, &d, pool);
    }
    v.reason = aip_reason_name(d.reason);
    v.target = d.n ? aip_gateway_route_name(g, d.ranked[0].route) : NULL;
    if (d.reason == AIP_REASON_AMBIGUOUS && g->ambiguous >= 0) {
        v.target = g->names[g->ambiguous];
    }
    int judged = d.reason == AIP_REASON_MATCH || d.reason == AIP_REASON_AMBIGUOUS
                     ? d.ranked[d.ranked[0].route == g->routes->catchall ? 1 : 0].route
                     : d.nearest;
    v.distance = judged >= 0 ? (double)distances[judged] : -1;
    v.threshold = judged >= 0 ? aip_route_threshold(g->routes, judged, &g->rules) : NULL;
    return v;
}

static void print_line(const aip_tool_gateway_t *g, const verdict_t *v)
{
    printf("%d\t%s\t%s\t", v->line, v->reason, v->target ? v->target : "-");
    if (v->distance >= 0) {
        printf("%.6f\t", v->distance);
    } else {
        fputs("-\t", stdout);
    }
    if (v->threshold) {
        printf("%.10g\t", *v->threshold);
    } else {
        fputs("-\t", stdout);
    }
    for (int i = 0; i < v->n; i++) {
        printf("%s%s=%.6f", i ? " " : "", aip_gateway_route_name(g, v->order[i]),
               (double)v->distances[v->order[i]]);
    }
    putchar('\n');
}

static void print_json(const aip_tool_gateway_t *g, const verdict_t *v)
{
    json_t *scores = json_array();
    for (int i = 0; i < v->n; i++) {
        json_array_append_new(scores, json_pack("{s:s, s:f}", "route",
                                                aip_gateway_route_name(g, v->order[i]), "distance",
                                                (double)v->distances[v->order[i]]));
    }
    json_t *object = json_pack(
        "{s:i, s:s, s:s?, s:o, s:o, s:o}", "line", v->line, "reason", v->reason, "target",
        v->target, "distance", v->distance >= 0 ? json_real(v->distance) : json_null(), "threshold",
        v->threshold ? json_real(*v->threshold) : json_null(), "scores", scores);
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(object);
}

static int route_lines(const aip_options_t *options, const aip_tool_gateway_t *g,
                       const apr_array_header_t *lines, apr_pool_t *pool)
{
    aip_tool_embedder_t embedder;
    int n = lines->nelts, status = aip_embedder_open(&embedder, options, g, pool);
    aip_span_t *texts = apr_palloc(pool, (apr_size_t)(n + 1) * sizeof *texts);
    float *distances =
        apr_palloc(pool, (apr_size_t)(n + 1) * (apr_size_t)(g->routes->n + 1) * sizeof *distances);
    for (int i = 0; status == AIP_EXIT_OK && i < n; i++) {
        status = aip_prompt_text(g, APR_ARRAY_IDX(lines, i, aip_line_t).text, &texts[i], pool);
    }
    status = status ? status : aip_embedder_distances(&embedder, texts, n, distances, pool);
    for (int i = 0; status == AIP_EXIT_OK && i < n; i++) {
        verdict_t v = decide(g, APR_ARRAY_IDX(lines, i, aip_line_t).number,
                             distances + (size_t)i * (size_t)g->routes->n, pool);
        (options->json ? print_json : print_line)(g, &v);
    }
    return status;
}

int aip_run_route(const aip_options_t *options, apr_pool_t *pool)
{
    json_t *document = NULL;
    aip_tool_gateway_t gateway;
    aip_lines_t lines = {.input = options->input};
    int status = aip_httpd_dump(options, true, &document, pool);
    status = status ? status : aip_gateway_find(document, options, &gateway, pool);
    status = status ? status : aip_lines_read(&lines, NULL, pool);
    status = status ? status : route_lines(options, &gateway, lines.list, pool);
    json_decref(document);
    return status;
}
