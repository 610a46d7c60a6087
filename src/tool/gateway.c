/* SPDX-License-Identifier: Apache-2.0 */
/* From httpd's document to the core's configuration, through the same table of fields that the
 * module uses, so that both decide alike. */
#include "tool.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* How src/config/dump.c shows what JSON cannot hold, and what is secret. */
#define NOT_UTF8 "(not UTF-8)"
#define HIDDEN "***"

static const aip_field_t *find_row(const aip_field_t *table, int n, const char *directive)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(table[i].directive, directive) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* httpd has checked the values and resolved the vaults, so text is taken as it is: what came out of
 * a vault may look like a reference. */
static const char *set_text(const aip_field_t *row, void *fields, unsigned char *set,
                            const char *value, apr_pool_t *pool)
{
    *(const char **)((char *)fields + row->offset) = apr_pstrdup(pool, value);
    set[row->index] = AIP_SET_WRITTEN;
    return NULL;
}

static const char *set_field(const aip_field_t *row, void *fields, unsigned char *set,
                             const json_t *arguments, apr_pool_t *pool)
{
    char *argv[16];
    int n = 0;
    const char *error = NULL;
    size_t i;
    json_t *argument;
    json_array_foreach(arguments, i, argument)
    {
        const char *text = json_string_value(argument);
        if (!text || strcmp(text, NOT_UTF8) == 0) {
            return apr_psprintf(pool, "the value of %s is not UTF-8", row->directive);
        }
        if (row->kind == AIP_KIND_STR) {
            return set_text(row, fields, set, text, pool);
        }
        argv[n < 16 ? n++ : 15] = (char *)text;
        if (row->kind == AIP_KIND_LIST) {
            error = error ? error : aip_field_set(row, fields, 1, &argv[0], pool);
            n = 0;
        }
    }
    return n && !error ? aip_field_set(row, fields, n, argv, pool) : error;
}

static bool is_hidden(const json_t *arguments)
{
    const char *first = json_string_value(json_array_get(arguments, 0));
    return first && strcmp(first, HIDDEN) == 0;
}

static const char *read_settings(const json_t *settings, const aip_field_t *table, int n_rows,
                                 void *fields, unsigned char *set, bool redacted, apr_pool_t *pool)
{
    const json_t *values = json_object_get(settings, "values");
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(settings, "set"), i, name)
    {
        const char *directive = json_string_value(name);
        const aip_field_t *row = find_row(table, n_rows, directive ? directive : "");
        const json_t *arguments = json_object_get(values, directive ? directive : "");
        if (!row) {
            return apr_psprintf(pool,
                                "the module has a directive that this aipctl does not know: %s",
                                directive ? directive : "?");
        }
        /* the lines of the file are among AIRouteExample; rules and prices need a request */
        if (row == &aip_target_table[AIP_T_route_examples_file] || row->kind == AIP_KIND_ACL ||
            row->kind == AIP_KIND_RATES || (redacted && is_hidden(arguments))) {
            continue;
        }
        const char *error = set_field(row, fields, set, arguments, pool);
        if (error) {
            return error;
        }
    }
    return NULL;
}

static const char *read_targets(const json_t *list, bool redacted, aip_tool_gateway_t *g,
                                apr_pool_t *pool)
{
    g->n = (int)json_array_size(list);
    g->names = apr_pcalloc(pool, (apr_size_t)(g->n + 1) * sizeof *g->names);
    g->targets = apr_pcalloc(pool, (apr_size_t)(g->n + 1) * sizeof *g->targets);
    for (int i = 0; i < g->n; i++) {
        const json_t *target = json_array_get(list, (size_t)i);
        aip_target_fields_t *f = apr_palloc(pool, sizeof *f);
        aip_target_defaults(f, pool);
        g->names[i] = json_string_value(json_object_get(target, "name"));
        g->targets[i] = f;
        if (!g->names[i]) {
            return "a target has no name";
        }
        const char *error = read_settings(json_object_get(target, "settings"), aip_target_table,
                                          AIP_TARGET_COUNT, f, f->set, redacted, pool);
        if (error) {
            return apr_psprintf(pool, "target %s: %s", g->names[i], error);
        }
    }
    return NULL;
}

static int target_of(const aip_tool_gateway_t *g, const char *name, size_t len)
{
    for (int i = 0; i < g->n; i++) {
        if (strlen(g->names[i]) == len && memcmp(g->names[i], name, len) == 0) {
            return i;
        }
    }
    return -1;
}

int aip_gateway_read(const json_t *json, bool redacted, aip_tool_gateway_t *gateway,
                     apr_pool_t *pool)
{
    aip_tool_gateway_t *g = gateway;
    *g = (aip_tool_gateway_t){.json = json};
    if (json_unpack((json_t *)json, "{s:s, s:s, s:s, s:i}", "server", &g->server, "path", &g->path,
                    "where", &g->where, "port", &g->port) != 0) {
        return aip_tool_fail("cannot read what the module says about a gateway");
    }
    aip_location_defaults(&g->f, pool);
    const char *error = read_settings(json_object_get(json, "settings"), aip_location_table,
                                      AIP_LOCATION_COUNT, &g->f, g->f.set, redacted, pool);
    error = error ? error : read_targets(json_object_get(json, "targets"), redacted, g, pool);
    if (error) {
        return aip_tool_fail("gateway %s (%s): %s", g->path, g->where, error);
    }
    g->routes = aip_routes_of(g->targets, g->n, pool);
    g->rules = aip_route_rules_of(&g->f);
    g->ambiguous = target_of(g, g->f.route_on_ambiguous, strlen(g->f.route_on_ambiguous));
    return AIP_EXIT_OK;
}

const char *aip_gateway_route_name(const aip_tool_gateway_t *gateway, int route)
{
    return gateway->names[gateway->routes->routes[route].targets[0]];
}

int aip_gateway_route_of(const aip_tool_gateway_t *gateway, aip_span_t label)
{
    int target = target_of(gateway, label.data, label.len);
    int route = target < 0 ? -1 : aip_route_of_target(gateway->routes, target);
    for (int r = 0; route < 0 && r < gateway->routes->n; r++) {
        const char *description = gateway->routes->routes[r].description;
        if (strlen(description) == label.len && memcmp(description, label.data, label.len) == 0) {
            return r;
        }
    }
    return route < 0 ? -2 : route;
}

/* The core itself is asked, with a configuration in which that route alone is eligible. */
int aip_gateway_outcome(const aip_tool_gateway_t *gateway, const float *distances, int first,
                        apr_pool_t *pool)
{
    const aip_routes_t *routes = gateway->routes;
    static const double never = -1, always = HUGE_VAL;
    aip_routes_t only = *routes;
    aip_decision_t decision;
    if (gateway->rules.margin <= 0) {
        return first;
    }
    only.routes = apr_pmemdup(pool, routes->routes, (apr_size_t)routes->n * sizeof *only.routes);
    for (int r = 0; r < routes->n; r++) {
        only.routes[r].threshold = r == first ? &always : &never;
    }
    aip_decide(&only, distances, &gateway->rules, &decision, pool);
    return decision.reason == AIP_REASON_AMBIGUOUS && gateway->ambiguous >= 0
               ? aip_route_of_target(routes, gateway->ambiguous)
               : decision.ranked[0].route;
}

static const json_t *gateway_at(const json_t *document, size_t i)
{
    return json_array_get(json_object_get(document, "gateways"), i);
}

/* NAME:PORT, or NAME alone where no port is known. */
static const char *server_name(const json_t *gateway, apr_pool_t *pool)
{
    const char *name = json_string_value(json_object_get(gateway, "server"));
    int port = (int)json_integer_value(json_object_get(gateway, "port"));
    return port ? apr_psprintf(pool, "%s:%d", name ? name : "", port) : name ? name : "";
}

static bool is_at(const json_t *gateway, const aip_options_t *o, apr_pool_t *pool)
{
    const char *path = json_string_value(json_object_get(gateway, "path"));
    const char *where = json_string_value(json_object_get(gateway, "where"));
    return path && strcmp(path, o->location) == 0 &&
           (!o->server || strcasecmp(o->server, server_name(gateway, pool)) == 0 ||
            (where && strcmp(o->server, where) == 0));
}

/* The gateways that could be meant, below a message. */
static int none_found(const json_t *document, const aip_options_t *o, int found, apr_pool_t *pool)
{
    size_t n = json_array_size(json_object_get(document, "gateways"));
    int status = found ? aip_tool_fail("%d gateways are at %s; choose one with --server:", found,
                                       o->location)
                       : aip_tool_fail("no gateway is at %s%s%s; there %s:", o->location,
                                       o->server ? " of " : "", o->server ? o->server : "",
                                       n ? "are" : "is none in this configuration");
    for (size_t i = 0; i < n; i++) {
        const json_t *gateway = gateway_at(document, i);
        const char *path = json_string_value(json_object_get(gateway, "path"));
        const char *where = json_string_value(json_object_get(gateway, "where"));
        fprintf(stderr, "  %s --server %s (%s)\n", path ? path : "", server_name(gateway, pool),
                where ? where : "");
    }
    return status;
}

int aip_gateway_find(const json_t *document, const aip_options_t *options,
                     aip_tool_gateway_t *gateway, apr_pool_t *pool)
{
    size_t n = json_array_size(json_object_get(document, "gateways"));
    const json_t *chosen = NULL;
    int found = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_at(gateway_at(document, i), options, pool)) {
            chosen = gateway_at(document, i);
            found++;
        }
    }
    if (found != 1) {
        return none_found(document, options, found, pool);
    }
    int status = aip_gateway_read(chosen, false, gateway, pool);
    if (status == AIP_EXIT_OK && gateway->f.balancer_algorithm != AIP_ALGORITHM_SEMANTIC) {
        status = aip_tool_fail("the gateway %s (%s) does not route by meaning: "
                               "AIBalancerAlgorithm is not semantic",
                               gateway->path, gateway->where);
    }
    return status;
}
