/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and the decision: which targets and texts make a route, which routes are eligible and in
 * which order. */

#include <apr_strings.h>
#include <stdio.h>
#include <string.h>

#include "aip/route.h"
#include "fixture.h"

Suite *route_suite(void);

/* Examples of a target, separated by '|'; NULL or "" for none. */
static const apr_array_header_t *examples(const char *list)
{
    apr_array_header_t *array = apr_array_make(pool, 2, sizeof(const char *));
    char *state = NULL, *copy = apr_pstrdup(pool, list ? list : "");
    for (char *w = apr_strtok(copy, "|", &state); w; w = apr_strtok(NULL, "|", &state)) {
        APR_ARRAY_PUSH(array, const char *) = w;
    }
    return list ? array : NULL;
}

/* "description[targets](texts) ..." with the texts themselves. */
static const char *shape(const aip_routes_t *routes)
{
    const char *out = "";
    for (int r = 0; r < routes->n; r++) {
        const aip_route_t *route = &routes->routes[r];
        out = apr_pstrcat(pool, out, r ? " " : "", route->description, route->catchall ? "!" : "",
                          "[", NULL);
        for (int i = 0; i < route->n_targets; i++) {
            out = apr_psprintf(pool, "%s%s%d", out, i ? "," : "", route->targets[i]);
        }
        out = apr_pstrcat(pool, out, "](", NULL);
        for (int i = 0; i < route->n_texts; i++) {
            const aip_span_t *text = &routes->texts[route->texts[i]];
            out = apr_psprintf(pool, "%s%s%.*s", out, i ? "," : "", (int)text->len, text->data);
        }
        out = apr_pstrcat(pool, out, ")", NULL);
    }
    return apr_psprintf(pool, "%s texts=%d catchall=%d", out, routes->n_texts, routes->catchall);
}

START_TEST(groups)
{
    static const struct {
        const char *name;
        struct {
            const char *description, *examples;
        } sources[4];
        int n;
        const char *expected;
    } rows[] = {
        {"none", {{0}}, 0, " texts=0 catchall=-1"},
        {"one", {{"a", NULL}}, 1, "a[0](a) texts=1 catchall=-1"},
        {"without description",
         {{NULL, NULL}, {"a", NULL}, {NULL, NULL}},
         3,
         "a[1](a) texts=1 catchall=-1"},
        {"same description",
         {{"a", NULL}, {"b", NULL}, {"a", NULL}},
         3,
         "a[0,2](a) b[1](b) texts=2 catchall=-1"},
        {"catch-all is not embedded",
         {{"CATCHALL", NULL}, {"a", NULL}},
         2,
         "CATCHALL![0]() a[1](a) texts=1 catchall=0"},
        {"two of them",
         {{"a", NULL}, {"CATCHALL", NULL}, {"CATCHALL", NULL}},
         3,
         "a[0](a) CATCHALL![1,2]() texts=1 catchall=1"},
        {"the word is exact",
         {{"catchall", NULL}, {"CATCHALL ", NULL}, {"Catchall", NULL}},
         3,
         "catchall[0](catchall) CATCHALL [1](CATCHALL ) Catchall[2](Catchall) texts=3 catchall=-1"},
        {"descriptions differ in case",
         {{"A", NULL}, {"a", NULL}},
         2,
         "A[0](A) a[1](a) texts=2 catchall=-1"},
        {"examples", {{"a", "x|y"}}, 1, "a[0](a,x,y) texts=3 catchall=-1"},
        {"examples of all members",
         {{"a", "x"}, {"b", "z"}, {"a", "y"}},
         3,
         "a[0,2](a,x,y) b[1](b,z) texts=5 catchall=-1"},
        {"a text that two members give",
         {{"a", "x"}, {"a", "x|a"}},
         2,
         "a[0,1](a,x) texts=2 catchall=-1"},
        {"a text that two routes give",
         {{"a", "x"}, {"b", "x|a"}},
         2,
         "a[0](a,x) b[1](b,x,a) texts=3 catchall=-1"},
        {"no prefix is taken for the whole",
         {{"ab", NULL}, {"a", "abc"}},
         2,
         "ab[0](ab) a[1](a,abc) texts=3 catchall=-1"},
    };
    aip_route_source_t sources[4];
    for (int i = 0; i < rows[_i].n; i++) {
        sources[i] = (aip_route_source_t){rows[_i].sources[i].description,
                                          examples(rows[_i].sources[i].examples), NULL};
    }
    ck_assert_msg(strcmp(shape(aip_routes_create(sources, rows[_i].n, pool)), rows[_i].expected) ==
                      0,
                  "%s: %s", rows[_i].name, shape(aip_routes_create(sources, rows[_i].n, pool)));
}
END_TEST
#define N_GROUPS 13

/* Three routes; the first has two texts; with a catch-all between them or without. */
static aip_routes_t *three(bool catchall)
{
    aip_route_source_t sources[4] = {{"a", examples("x"), NULL}, {"b", NULL, NULL}};
    int n = 2;
    if (catchall) {
        sources[n++] = (aip_route_source_t){AIP_CATCHALL, NULL, NULL};
    }
    sources[n++] = (aip_route_source_t){"c", NULL, NULL};
    return aip_routes_create(sources, n, pool);
}

/* "reason: description=distance ... nearest=description distance" */
static const char *told(const aip_routes_t *routes, const aip_decision_t *d)
{
    const char *out = apr_pstrcat(pool, aip_reason_name(d->reason), ":", NULL);
    for (int i = 0; i < d->n; i++) {
        out = apr_psprintf(pool, "%s %s=%.3f", out, routes->routes[d->ranked[i].route].description,
                           (double)d->ranked[i].distance);
    }
    return d->nearest < 0
               ? apr_psprintf(pool, "%s; none %.3f", out, (double)d->distance)
               : apr_psprintf(pool, "%s; %s %.3f", out, routes->routes[d->nearest].description,
                              (double)d->distance);
}

#define NO_THRESHOLD -1.0
/* clang-format off */
static const struct {
    const char *name;
    bool catchall;
    double threshold;
    float distances[4]; /* of a, x, b, c */
    const char *expected;
} decisions[] = {
    {"nearest first", false, 1, {0.5f, 0.9f, 0.2f, 0.3f},
     "match: b=0.200 c=0.300 a=0.500; b 0.200"},
    {"the nearest text counts, second", false, 1, {0.5f, 0.1f, 0.2f, 0.3f},
     "match: a=0.100 b=0.200 c=0.300; a 0.100"},
    {"the nearest text counts, first", false, 1, {0.1f, 0.5f, 0.2f, 0.3f},
     "match: a=0.100 b=0.200 c=0.300; a 0.100"},
    {"only what is within", false, 0.25, {0.5f, 0.9f, 0.2f, 0.3f}, "match: b=0.200; b 0.200"},
    {"inclusive", false, 0.25, {0.5f, 0.9f, 0.25f, 0.3f}, "match: b=0.250; b 0.250"},
    {"inclusive though float32 is above", false, 0.8, {0.9f, 0.9f, 0.8f, 0.9f},
     "match: b=0.800; b 0.800"},
    {"one step above", false, 0.8, {0.9f, 0.9f, 0.80001f, 0.9f}, "catchall:; b 0.800"},
    {"threshold 0 takes equals", false, 0, {0.1f, 0, 0.2f, 0.3f}, "match: a=0.000; a 0.000"},
    {"no threshold", false, NO_THRESHOLD, {1.9f, 2.0f, 1.8f, 1.7f},
     "match: c=1.700 b=1.800 a=1.900; c 1.700"},
    {"ties in order of configuration", false, 1, {0.4f, 0.9f, 0.4f, 0.4f},
     "match: a=0.400 b=0.400 c=0.400; a 0.400"},
    {"ties behind a nearer one", false, 1, {0.4f, 0.9f, 0.4f, 0.3f},
     "match: c=0.300 a=0.400 b=0.400; c 0.300"},
    {"catch-all last", true, 1, {0.5f, 0.9f, 0.2f, 0.3f},
     "match: b=0.200 c=0.300 a=0.500 CATCHALL=-1.000; b 0.200"},
    {"catch-all alone", true, 0.1, {0.5f, 0.9f, 0.2f, 0.3f}, "catchall: CATCHALL=-1.000; b 0.200"},
    {"catch-all without threshold", true, NO_THRESHOLD, {0.5f, 0.9f, 0.2f, 0.3f},
     "match: b=0.200 c=0.300 a=0.500 CATCHALL=-1.000; b 0.200"},
    {"nothing within, no catch-all", false, 0.1, {0.5f, 0.9f, 0.2f, 0.3f}, "catchall:; b 0.200"},
    {"slightly below zero", false, 0.1, {0.5f, 0.9f, -0.0000001f, 0.3f},
     "match: b=-0.000; b -0.000"},
};
/* clang-format on */

START_TEST(decides)
{
    aip_routes_t *routes = three(decisions[_i].catchall);
    aip_route_rules_t rules = {
        .threshold = decisions[_i].threshold == NO_THRESHOLD ? NULL : &decisions[_i].threshold};
    float distances[4];
    aip_decision_t d;
    aip_routes_distances(routes, decisions[_i].distances, AIP_AGGREGATE_MAX, 1, distances, pool);
    aip_decide(routes, distances, &rules, &d, pool);
    ck_assert_msg(strcmp(told(routes, &d), decisions[_i].expected) == 0, "%s: %s",
                  decisions[_i].name, told(routes, &d));
}
END_TEST

START_TEST(decides_without_distances)
{
    static const struct {
        bool catchall;
        aip_reason_e reason;
        const char *expected;
    } rows[] = {
        {true, AIP_REASON_EMPTY, "empty: CATCHALL=-1.000; none -1.000"},
        {true, AIP_REASON_EMBED_ERROR, "embed_error: CATCHALL=-1.000; none -1.000"},
        {false, AIP_REASON_EMPTY, "empty:; none -1.000"},
        {false, AIP_REASON_NONE, "none:; none -1.000"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_routes_t *routes = three(rows[i].catchall);
        aip_decision_t d;
        aip_decide_catchall(routes, rows[i].reason, &d, pool);
        ck_assert_str_eq(told(routes, &d), rows[i].expected);
    }
}
END_TEST

START_TEST(catchall_only)
{
    aip_route_source_t sources[] = {{AIP_CATCHALL, NULL, NULL}};
    aip_routes_t *routes = aip_routes_create(sources, 1, pool);
    const double threshold = 0.5;
    aip_decision_t d;
    float distances[1];
    aip_route_rules_t rules = {.threshold = &threshold};
    aip_routes_distances(routes, NULL, AIP_AGGREGATE_MAX, 1, distances, pool);
    ck_assert(distances[0] < 0);
    aip_decide(routes, distances, &rules, &d, pool);
    ck_assert_str_eq(told(routes, &d), "catchall: CATCHALL=-1.000; none -1.000");
}
END_TEST

/* Against sorting by (distance, index) with a plain selection, for many routes and values with many
 * ties. */
START_TEST(ranks_like_a_stable_sort)
{
    enum { N = 60 };
    aip_route_source_t sources[N];
    float distances[N];
    unsigned state = 7;
    for (int i = 0; i < N; i++) {
        sources[i] = (aip_route_source_t){apr_psprintf(pool, "route %d", i), NULL, NULL};
    }
    aip_routes_t *routes = aip_routes_create(sources, N, pool);
    for (int round = 0; round < 200; round++) {
        const double threshold = (double)(round % 11) / 10;
        aip_decision_t d;
        for (int i = 0; i < N; i++) {
            state = state * 1664525u + 1013904223u;
            distances[i] = (float)(state >> 28) / 16.0f;
        }
        aip_route_rules_t rules = {.threshold = &threshold};
        aip_decide(routes, distances, &rules, &d, pool);
        int eligible = 0;
        for (int i = 0; i < N; i++) {
            eligible += (double)distances[i] <= threshold + AIP_DISTANCE_EPSILON;
        }
        ck_assert_int_eq(d.n, eligible);
        ck_assert_int_eq(d.reason, eligible ? AIP_REASON_MATCH : AIP_REASON_CATCHALL);
        for (int i = 1; i < d.n; i++) {
            const aip_ranked_t *a = &d.ranked[i - 1], *b = &d.ranked[i];
            ck_assert(a->distance < b->distance ||
                      (a->distance == b->distance && a->route < b->route));
        }
        for (int i = 0; i < d.n; i++) {
            ck_assert(d.ranked[i].distance == distances[d.ranked[i].route]);
        }
        for (int i = 0; i < N; i++) {
            ck_assert(d.distance < distances[i] || (d.distance == distances[i] && d.nearest <= i));
        }
    }
}
END_TEST

START_TEST(reasons)
{
    static const char *const words[] = {"none",      "match",  "catchall", "empty",
                                        "ambiguous", "forced", "sticky",   "embed_error"};
    for (int i = AIP_REASON_NONE; i <= AIP_REASON_EMBED_ERROR; i++) {
        ck_assert_str_eq(aip_reason_name((aip_reason_e)i), words[i]);
    }
}
END_TEST

/* a(a,x) b(b) CATCHALL c(c) */
START_TEST(aggregates)
{
    static const struct {
        aip_aggregate_e aggregate;
        int top_k;
        float of_texts[5]; /* of a, x, y, b, c */
        const char *expected;
    } rows[] = {
        {AIP_AGGREGATE_MAX, 2, {0.5f, 0.25f, 0.75f, 1.5f, 0}, "0.250 1.500 -1.000 0.000"},
        {AIP_AGGREGATE_MEAN, 2, {0.5f, 0.25f, 0.75f, 1.5f, 0}, "0.500 1.500 -1.000 0.000"},
        {AIP_AGGREGATE_TOPK_MEAN, 2, {0.5f, 0.25f, 0.75f, 1.5f, 0}, "0.375 1.500 -1.000 0.000"},
        {AIP_AGGREGATE_TOPK_MEAN, 1, {0.5f, 0.25f, 0.75f, 1.5f, 0}, "0.250 1.500 -1.000 0.000"},
        {AIP_AGGREGATE_TOPK_MEAN, 9, {0.5f, 0.25f, 0.75f, 1.5f, 0}, "0.500 1.500 -1.000 0.000"},
        {AIP_AGGREGATE_TOPK_MEAN, 2, {0.75f, 0.5f, 0.25f, 1, 1}, "0.375 1.000 -1.000 1.000"},
    };
    aip_route_source_t sources[] = {{"a", examples("x|y"), NULL},
                                    {"b", NULL, NULL},
                                    {AIP_CATCHALL, NULL, NULL},
                                    {"c", NULL, NULL}};
    aip_routes_t *routes = aip_routes_create(sources, 4, pool);
    float d[4];
    aip_routes_distances(routes, rows[_i].of_texts, rows[_i].aggregate, rows[_i].top_k, d, pool);
    ck_assert_str_eq(apr_psprintf(pool, "%.3f %.3f %.3f %.3f", (double)d[0], (double)d[1],
                                  (double)d[2], (double)d[3]),
                     rows[_i].expected);
}
END_TEST
#define N_AGGREGATES 6

/* An added text never makes a route farther, with max. */
START_TEST(max_never_lowers)
{
    unsigned state = 11;
    for (int round = 0; round < 300; round++) {
        float of_texts[6], before[1], after[1];
        for (int i = 0; i < 6; i++) {
            state = state * 1664525u + 1013904223u;
            of_texts[i] = (float)(state >> 24) / 128.0f;
        }
        aip_route_source_t fewer[] = {{"a", examples("p|q|r|s"), NULL}};
        aip_route_source_t more[] = {{"a", examples("p|q|r|s|t"), NULL}};
        aip_routes_distances(aip_routes_create(fewer, 1, pool), of_texts, AIP_AGGREGATE_MAX, 1,
                             before, pool);
        aip_routes_distances(aip_routes_create(more, 1, pool), of_texts, AIP_AGGREGATE_MAX, 1,
                             after, pool);
        ck_assert(after[0] <= before[0]);
    }
}
END_TEST

/* Two routes and a catch-all; `own` is the threshold of a. */
START_TEST(thresholds_and_margins)
{
    static const struct {
        const char *name;
        double own, general, margin;
        bool catchall_first;
        float a, b;
        const char *expected;
    } rows[] = {
        {"own is stricter", 0.3, 0.8, 0, false, 0.4f, 0.5f,
         "match: b=0.500 CATCHALL=-1.000; a 0.400"},
        {"own is wider", 0.9, 0.3, 0, false, 0.8f, 0.5f, "match: a=0.800 CATCHALL=-1.000; b 0.500"},
        {"own without a general one", 0.3, NO_THRESHOLD, 0, false, 0.4f, 1.9f,
         "match: b=1.900 CATCHALL=-1.000; a 0.400"},
        {"own is inclusive", 0.4, 0.1, 0, false, 0.4f, 0.5f,
         "match: a=0.400 CATCHALL=-1.000; a 0.400"},
        {"far apart", NO_THRESHOLD, 0.8, 0.1, true, 0.4f, 0.6f,
         "match: a=0.400 b=0.600 CATCHALL=-1.000; a 0.400"},
        {"differ by the margin", NO_THRESHOLD, 0.8, 0.25, true, 0.25f, 0.5f,
         "match: a=0.250 b=0.500 CATCHALL=-1.000; a 0.250"},
        {"too near", NO_THRESHOLD, 0.8, 0.1, false, 0.45f, 0.4f,
         "ambiguous: b=0.400 a=0.450 CATCHALL=-1.000; b 0.400"},
        {"too near, catch-all", NO_THRESHOLD, 0.8, 0.1, true, 0.45f, 0.4f,
         "ambiguous: CATCHALL=-1.000 b=0.400 a=0.450; b 0.400"},
        {"equal", NO_THRESHOLD, 0.8, 0.1, false, 0.4f, 0.4f,
         "ambiguous: a=0.400 b=0.400 CATCHALL=-1.000; a 0.400"},
        {"the second is beyond the threshold", NO_THRESHOLD, 0.5, 0.1, true, 0.48f, 0.52f,
         "ambiguous: CATCHALL=-1.000 a=0.480; a 0.480"},
        {"nothing is within the threshold", NO_THRESHOLD, 0.3, 0.1, true, 0.48f, 0.52f,
         "catchall: CATCHALL=-1.000; a 0.480"},
        {"no margin", NO_THRESHOLD, 0.8, 0, true, 0.4f, 0.4f,
         "match: a=0.400 b=0.400 CATCHALL=-1.000; a 0.400"},
    };
    aip_route_source_t sources[] = {
        {"a", NULL, rows[_i].own == NO_THRESHOLD ? NULL : &rows[_i].own},
        {"b", NULL, NULL},
        {AIP_CATCHALL, NULL, NULL},
    };
    aip_routes_t *routes = aip_routes_create(sources, 3, pool);
    aip_route_rules_t rules = {.threshold =
                                   rows[_i].general == NO_THRESHOLD ? NULL : &rows[_i].general,
                               .margin = rows[_i].margin,
                               .ambiguous_catchall = rows[_i].catchall_first};
    float distances[] = {rows[_i].a, rows[_i].b, -1};
    aip_decision_t d;
    aip_decide(routes, distances, &rules, &d, pool);
    ck_assert_msg(strcmp(told(routes, &d), rows[_i].expected) == 0, "%s: %s", rows[_i].name,
                  told(routes, &d));
    ck_assert(aip_decision_distance(routes, &d, "a") == rows[_i].a);
    ck_assert(aip_decision_distance(routes, &d, AIP_CATCHALL) == d.distance);
    ck_assert(aip_decision_distance(routes, &d, NULL) == d.distance);
}
END_TEST
#define N_THRESHOLDS 12

/* A route whose targets are all barred takes no part, neither as the nearest nor as a neighbour. */
START_TEST(barred_routes)
{
    static const struct {
        const char *name;
        unsigned char barred[4]; /* a, a's second target, b, catch-all */
        const char *expected;
    } rows[] = {
        {"none", {0, 0, 0, 0}, "ambiguous: a=0.400 b=0.450 CATCHALL=-1.000; a 0.400"},
        {"one member", {1, 0, 0, 0}, "ambiguous: a=0.400 b=0.450 CATCHALL=-1.000; a 0.400"},
        {"the nearest", {1, 2, 0, 0}, "match: b=0.450 CATCHALL=-1.000; b 0.450"},
        {"the neighbour", {0, 0, 1, 0}, "match: a=0.400 CATCHALL=-1.000; a 0.400"},
        {"both", {1, 1, 1, 0}, "catchall: CATCHALL=-1.000; none -1.000"},
        {"the catch-all", {0, 0, 1, 1}, "match: a=0.400; a 0.400"},
    };
    const double threshold = 0.5;
    aip_route_source_t sources[] = {{.description = "a"},
                                    {.description = "a"},
                                    {.description = "b"},
                                    {.description = AIP_CATCHALL}};
    aip_routes_t *routes = aip_routes_create(sources, 4, pool);
    float distances[] = {0.4f, 0.45f, -1};
    aip_decision_t d;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_route_rules_t rules = {
            .threshold = &threshold, .margin = 0.1, .barred = rows[i].barred};
        aip_decide(routes, distances, &rules, &d, pool);
        ck_assert_msg(strcmp(told(routes, &d), rows[i].expected) == 0, "%s: %s", rows[i].name,
                      told(routes, &d));
    }
}
END_TEST

/* A threshold that any member states is the route's. */
START_TEST(threshold_of_any_member)
{
    const double own = 0.3;
    aip_route_source_t sources[] = {{"a", NULL, NULL}, {"a", NULL, &own}, {"a", NULL, NULL}};
    aip_routes_t *routes = aip_routes_create(sources, 3, pool);
    ck_assert_ptr_eq(aip_route_threshold(routes, 0, &(aip_route_rules_t){0}), &own);
}
END_TEST

Suite *route_suite(void)
{
    Suite *suite = suite_create("route");
    TCase *tcase = tcase_create("route");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, groups, 0, N_GROUPS);
    tcase_add_loop_test(tcase, decides, 0, sizeof decisions / sizeof *decisions);
    tcase_add_test(tcase, decides_without_distances);
    tcase_add_test(tcase, catchall_only);
    tcase_add_loop_test(tcase, aggregates, 0, N_AGGREGATES);
    tcase_add_test(tcase, max_never_lowers);
    tcase_add_loop_test(tcase, thresholds_and_margins, 0, N_THRESHOLDS);
    tcase_add_test(tcase, barred_routes);
    tcase_add_test(tcase, threshold_of_any_member);
    tcase_add_test(tcase, ranks_like_a_stable_sort);
    tcase_add_test(tcase, reasons);
    suite_add_tcase(suite, tcase);
    return suite;
}
