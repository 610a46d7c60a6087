/* SPDX-License-Identifier: Apache-2.0 */
/* aipctl check: what httpd made of a configuration. Shows the module's own words for settings, with
 * "***" where a secret stands; httpd never hands the secrets out for this command. */
#include "tool.h"

#include <stdio.h>
#include <string.h>

static const char *word(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* The first argument of a directive; "" when it has no value. */
static const char *setting(const json_t *settings, const char *directive)
{
    const json_t *arguments = json_object_get(json_object_get(settings, "values"), directive);
    const char *text = json_string_value(json_array_get(arguments, 0));
    return text ? text : "";
}

static void print_argument(const char *text)
{
    bool plain = *text && !strpbrk(text, " \t\"\\");
    putchar(' ');
    for (const char *p = plain ? "" : "\""; *p; p++) {
        putchar(*p);
    }
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        aip_tool_put((aip_span_t){text, 1});
    }
    fputs(plain ? "" : "\"", stdout);
}

static bool is_written(const json_t *settings, const char *directive)
{
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(settings, "set"), i, name)
    {
        if (strcmp(json_string_value(name), directive) == 0) {
            return true;
        }
    }
    return false;
}

/* A directive that may be repeated has a line for each of its arguments. */
static void print_settings(const json_t *settings, const aip_field_t *table, int n,
                           const char *indent)
{
    for (int i = 0; i < n; i++) {
        const json_t *arguments =
            json_object_get(json_object_get(settings, "values"), table[i].directive);
        const char *mark = is_written(settings, table[i].directive) ? "*" : " ";
        bool rates = table[i].kind == AIP_KIND_RATES,
             list = table[i].kind == AIP_KIND_LIST || rates;
        size_t j;
        json_t *argument;
        json_array_foreach(arguments, j, argument)
        {
            if (j == 0 || list) {
                printf("%s%s%s %s", j ? "\n" : "", indent, mark, table[i].directive);
            }
            if (rates) { /* a line of several words */
                putchar(' ');
                aip_tool_put(
                    (aip_span_t){json_string_value(argument), json_string_length(argument)});
            } else {
                print_argument(json_string_value(argument));
            }
        }
        fputs(json_array_size(arguments) ? "\n" : "", stdout);
    }
}

static void print_threshold(const double *threshold)
{
    if (threshold) {
        printf(", threshold %.10g", *threshold);
    } else {
        fputs(", no threshold", stdout);
    }
}

static void print_route(const aip_tool_gateway_t *g, const aip_route_t *route, int r)
{
    fputs("   ", stdout);
    for (int i = 0; i < route->n_targets; i++) {
        printf("%s%s", i ? ", " : " ", g->names[route->targets[i]]);
    }
    if (route->catchall) {
        puts(": takes what matches nothing");
        return;
    }
    printf(": %d text%s", route->n_texts, route->n_texts == 1 ? "" : "s");
    print_threshold(aip_route_threshold(g->routes, r, &g->rules));
    putchar('\n');
    for (int i = 0; i < route->n_texts; i++) {
        aip_span_t text = g->routes->texts[route->texts[i]];
        fputs("      ", stdout);
        aip_tool_put(text);
        putchar('\n');
    }
}

static void print_routes(const aip_tool_gateway_t *g)
{
    const json_t *settings = json_object_get(g->json, "settings");
    if (g->f.balancer_algorithm != AIP_ALGORITHM_SEMANTIC) {
        printf("  not routed by meaning: AIBalancerAlgorithm %s\n",
               setting(settings, "AIBalancerAlgorithm"));
        return;
    }
    printf("  routed by meaning: %s %s, %s, store %s\n",
           setting(settings, "AIEmbeddingsModelProvider"),
           setting(settings, "AIEmbeddingsModelName"),
           g->f.vectordb_distance_metric == AIP_METRIC_COSINE ? "cosine" : "euclidean",
           setting(settings, "AIVectordbStrategy"));
    puts("  routes");
    for (int r = 0; r < g->routes->n; r++) {
        print_route(g, &g->routes->routes[r], r);
    }
    if (g->routes->catchall < 0) {
        puts("    no catch-all: what matches nothing is answered with 503");
    }
}

static void print_gateway(const aip_tool_gateway_t *g)
{
    const json_t *targets = json_object_get(g->json, "targets");
    size_t i;
    json_t *target;
    printf("gateway %s", g->path);
    if (g->port) { /* a fragment's server is made up */
        printf(" of %s:%d", g->server, g->port);
    }
    printf(" (%s)\n", g->where);
    print_routes(g);
    puts("  targets");
    json_array_foreach(targets, i, target)
    {
        const json_t *settings = json_object_get(target, "settings");
        printf("    %s: %s %s at %s\n", word(target, "name"), setting(settings, "AIModelProvider"),
               setting(settings, "AIModelName"), word(target, "url"));
    }
    puts("  settings (* written in the configuration)");
    print_settings(json_object_get(g->json, "settings"), aip_location_table, AIP_LOCATION_COUNT,
                   "  ");
    json_array_foreach(targets, i, target)
    {
        printf("  <AITarget %s>\n", word(target, "name"));
        print_settings(json_object_get(target, "settings"), aip_target_table, AIP_TARGET_COUNT,
                       "    ");
    }
}

static json_t *route_object(const aip_tool_gateway_t *g, int r)
{
    const aip_route_t *route = &g->routes->routes[r];
    const double *threshold = aip_route_threshold(g->routes, r, &g->rules);
    json_t *targets = json_array(), *texts = json_array();
    for (int i = 0; i < route->n_targets; i++) {
        json_array_append_new(targets, json_string(g->names[route->targets[i]]));
    }
    for (int i = 0; i < route->n_texts; i++) {
        aip_span_t text = g->routes->texts[route->texts[i]];
        json_array_append_new(texts, json_stringn(text.data, text.len));
    }
    return json_pack("{s:s, s:b, s:o, s:o, s:o}", "description", route->description, "catchall",
                     route->catchall, "targets", targets, "texts", texts, "threshold",
                     threshold && !route->catchall ? json_real(*threshold) : json_null());
}

static json_t *gateway_object(const aip_tool_gateway_t *g)
{
    json_t *object = json_deep_copy(g->json), *routes = json_array();
    for (int r = 0; g->f.balancer_algorithm == AIP_ALGORITHM_SEMANTIC && r < g->routes->n; r++) {
        json_array_append_new(routes, route_object(g, r));
    }
    json_object_set_new(object, "routes", routes);
    return object;
}

int aip_run_check(const aip_options_t *options, apr_pool_t *pool)
{
    json_t *document = NULL, *list = json_array(), *gateway;
    size_t i;
    int status = aip_httpd_dump(options, false, &document, pool);
    json_array_foreach(json_object_get(document, "gateways"), i, gateway)
    {
        aip_tool_gateway_t g;
        status = status ? status : aip_gateway_read(gateway, true, &g, pool);
        if (status == AIP_EXIT_OK && options->json) {
            json_array_append_new(list, gateway_object(&g));
        } else if (status == AIP_EXIT_OK) {
            print_gateway(&g);
        }
    }
    if (status == AIP_EXIT_OK && options->json) {
        json_object_set(document, "gateways", list);
        json_dumpf(document, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (status == AIP_EXIT_OK && i == 0) {
        status = aip_tool_fail("%s has no gateway", options->conf);
    }
    json_decref(list);
    json_decref(document);
    return status;
}
