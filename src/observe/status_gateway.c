/* SPDX-License-Identifier: Apache-2.0 */
/* One gateway on the status page: figures of the last hour, targets with their buttons, routes, the
 * last errors and decisions, and what decisions need. */
#include "status.h"

#include <apr_strings.h>
#include <http_protocol.h>

#define DASH "\xe2\x80\x93"

/* The beginning of a table that scrolls by itself; `heads` are its cells. */
static void open_table(const aip_page_t *page, const json_t *gateway, const char *label,
                       const char *caption, const char *heads)
{
    ap_rprintf(page->r,
               "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s of %s, server "
               "%s\"><table><caption>%s</caption><thead><tr>%s</tr></thead><tbody>",
               label, aip_page_string(page, gateway, "gateway"),
               aip_page_string(page, gateway, "server"), caption, heads);
}

static void close_table(const aip_page_t *page)
{
    ap_rputs("</tbody></table></div>", page->r);
}

static const char *text_or_dash(const aip_page_t *page, const json_t *object, const char *key)
{
    return json_is_string(json_object_get(object, key)) ? aip_page_string(page, object, key) : DASH;
}

static const char *real_or_dash(const aip_page_t *page, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? apr_psprintf(page->r->pool, "%.4f", json_number_value(value))
                                 : DASH;
}

/* The time of day: the date is in JSON. */
static const char *clock_of(const aip_page_t *page, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && strlen(text) == 20 ? apr_pstrmemdup(page->r->pool, text + 11, 8) : DASH;
}

/* ---- figures ---- */

static void write_tiles(const aip_page_t *page, const json_t *gateway)
{
    const json_t *hour = json_object_get(gateway, "hour");
    const json_t *totals = json_object_get(gateway, "totals");
    ap_rprintf(page->r,
               "<h3 class=\"hide\">The last hour</h3><dl class=\"tiles\">"
               "<div><dt>Requests, last hour</dt><dd>%s</dd></div>"
               "<div><dt>Errors</dt><dd>%s</dd></div>"
               "<div><dt>Tokens in</dt><dd>%s</dd></div><div><dt>Tokens out</dt><dd>%s</dd></div>"
               "<div><dt>Cost</dt><dd>%s %s</dd></div><div><dt>Mean latency</dt><dd>%s</dd></div>"
               "<div><dt>Mean time to first token</dt><dd>%s</dd></div>"
               "<div><dt>Requests in all</dt><dd>%s</dd></div></dl>",
               aip_page_count(page, hour, "requests"), aip_page_count(page, hour, "errors"),
               aip_page_count(page, hour, "prompt_tokens"),
               aip_page_count(page, hour, "completion_tokens"), aip_page_string(page, hour, "cost"),
               aip_page_string(page, gateway, "currency"),
               aip_page_ms(page, json_object_get(hour, "latency_ms")),
               aip_page_ms(page, json_object_get(hour, "ttft_ms")),
               aip_page_count(page, totals, "all_requests"));
}

/* ---- targets ---- */

static void write_button(const aip_page_t *page, const json_t *gateway, const json_t *target)
{
    bool drained = json_is_true(json_object_get(target, "drained"));
    if (!page->token) {
        return;
    }
    ap_rputs("<td><form method=\"post\">", page->r);
    aip_page_hidden(page, gateway, drained ? "resume" : "drain");
    ap_rprintf(page->r,
               "<input type=\"hidden\" name=\"target\" value=\"%s\"><button>%s <span "
               "class=\"hide\"><bdi>%s</bdi></span></button></form></td>",
               aip_page_string(page, target, "name"), drained ? "Resume" : "Drain",
               aip_page_string(page, target, "name"));
}

/* Below the state: until when and why, and what failed although another target answered then. */
static const char *details(const aip_page_t *page, const json_t *target)
{
    const json_t *breaker = json_object_get(target, "breaker");
    const json_t *cooldown = json_object_get(target, "cooldown");
    const json_t *hour = json_object_get(target, "hour");
    const char *state = json_string_value(json_object_get(breaker, "state"));
    apr_pool_t *pool = page->r->pool;
    const char *text = apr_pstrcat(pool, "breaker ", state, NULL), *failed = "";
    if (json_is_object(cooldown)) {
        text = apr_psprintf(pool, "until %s, it answered %s", clock_of(page, cooldown, "until"),
                            aip_page_count(page, cooldown, "status"));
    } else if (strcmp(state, "open") == 0) {
        text = apr_pstrcat(pool, "breaker open until ", clock_of(page, breaker, "until"), NULL);
    }
    if (json_integer_value(json_object_get(hour, "failures"))) {
        failed = apr_pstrcat(pool, "<span class=\"sub\">failed tries: ",
                             aip_page_count(page, hour, "failures"), "</span>", NULL);
    }
    return apr_pstrcat(pool, "<span class=\"sub\">", text, "</span>", failed, NULL);
}

static void write_target(const aip_page_t *page, const json_t *gateway, const json_t *target)
{
    const json_t *hour = json_object_get(target, "hour"), *share = json_object_get(target, "share");
    const char *state = json_string_value(json_object_get(target, "availability"));
    ap_rprintf(page->r,
               "<tr><th scope=\"row\"><bdi>%s</bdi><span class=\"sub\">%s, <bdi>%s</bdi></span>"
               "</th>",
               aip_page_string(page, target, "name"), aip_page_string(page, target, "provider"),
               text_or_dash(page, target, "model"));
    write_button(page, gateway, target);
    ap_rprintf(page->r,
               "<td><span class=\"%s\">%s</span>%s</td><td class=\"n\">%s</td>"
               "<td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td>",
               aip_page_badge(state), state, details(page, target),
               aip_page_count(page, target, "in_flight"),
               json_is_number(share)
                   ? apr_psprintf(page->r->pool, "%.0f %%", 100 * json_number_value(share))
                   : DASH,
               aip_page_count(page, hour, "requests"), aip_page_count(page, hour, "errors"));
    ap_rprintf(page->r,
               "<td class=\"n\">%s / %s</td><td class=\"n\">%s</td><td class=\"n\">%s</td>"
               "<td class=\"n\">%s</td>",
               aip_page_count(page, hour, "prompt_tokens"),
               aip_page_count(page, hour, "completion_tokens"), aip_page_string(page, hour, "cost"),
               aip_page_ms(page, json_object_get(hour, "latency_ms")),
               aip_page_ms(page, json_object_get(hour, "ttft_ms")));
    ap_rputs("</tr>", page->r);
}

static void write_targets(const aip_page_t *page, const json_t *gateway)
{
    const json_t *targets = json_object_get(gateway, "targets"), *target;
    size_t i;
    ap_rputs("<h3>Targets</h3>", page->r);
    open_table(page, gateway, "Targets", "Figures are of the last hour",
               apr_pstrcat(page->r->pool, "<th scope=\"col\">Target</th>",
                           page->token ? "<th scope=\"col\">Order</th>" : "",
                           "<th scope=\"col\">Health</th>"
                           "<th scope=\"col\" class=\"n\">In flight</th>"
                           "<th scope=\"col\" class=\"n\">Share</th>"
                           "<th scope=\"col\" class=\"n\">Requests</th>"
                           "<th scope=\"col\" class=\"n\">Errors</th>"
                           "<th scope=\"col\" class=\"n\">Tokens in / out</th>"
                           "<th scope=\"col\" class=\"n\">Cost</th>"
                           "<th scope=\"col\" class=\"n\">Latency</th>"
                           "<th scope=\"col\" class=\"n\">First token</th>",
                           NULL));
    json_array_foreach(targets, i, target)
    {
        write_target(page, gateway, target);
    }
    close_table(page);
}

static void write_errors(const aip_page_t *page, const json_t *gateway)
{
    const json_t *target, *error;
    size_t i, k, n = 0;
    json_array_foreach(json_object_get(gateway, "targets"), i, target)
    {
        json_array_foreach(json_object_get(target, "last_errors"), k, error)
        {
            if (n++ == 0) {
                ap_rputs("<h3>Last errors</h3>", page->r);
                open_table(page, gateway, "Last errors",
                           "The last attempts of each target that went wrong",
                           "<th scope=\"col\">Time (UTC)</th><th scope=\"col\">Target</th>"
                           "<th scope=\"col\">Error</th>"
                           "<th scope=\"col\" class=\"n\">Status</th>");
            }
            ap_rprintf(page->r,
                       "<tr><td>%s</td><th scope=\"row\"><bdi>%s</bdi></th><td>%s</td>"
                       "<td class=\"n\">%s</td></tr>",
                       clock_of(page, error, "time"), aip_page_string(page, target, "name"),
                       aip_page_string(page, error, "error"),
                       json_is_integer(json_object_get(error, "status"))
                           ? aip_page_count(page, error, "status")
                           : DASH);
        }
    }
    if (n) {
        close_table(page);
    }
}

/* ---- routes and decisions ---- */

static const char *names(const aip_page_t *page, const json_t *list)
{
    const json_t *name;
    const char *all = NULL;
    size_t i;
    json_array_foreach(list, i, name)
    {
        const char *text = aip_page_escape(page, json_string_value(name));
        all = apr_pstrcat(page->r->pool, all ? all : "", all ? ", " : "", "<bdi>", text, "</bdi>",
                          NULL);
    }
    return all ? all : DASH;
}

static void write_routes(const aip_page_t *page, const json_t *gateway)
{
    const json_t *routes = json_object_get(gateway, "routes"), *route;
    size_t i;
    if (!json_array_size(routes)) {
        return;
    }
    ap_rputs("<h3>Routes</h3>", page->r);
    open_table(page, gateway, "Routes",
               "Smaller distances are nearer; a threshold is the largest allowed",
               "<th scope=\"col\">Description</th><th scope=\"col\">Targets</th>"
               "<th scope=\"col\" class=\"n\">Threshold</th>"
               "<th scope=\"col\" class=\"n\">First choice, last hour</th>");
    json_array_foreach(routes, i, route)
    {
        bool catchall = json_is_true(json_object_get(route, "catchall"));
        ap_rprintf(page->r,
                   "<tr><th scope=\"row\" class=\"wrap\"><bdi>%s</bdi></th><td>%s</td>"
                   "<td class=\"n\">%s</td><td class=\"n\">%s</td></tr>",
                   catchall ? "Catch-all: what matches nothing"
                            : aip_page_string(page, route, "description"),
                   names(page, json_object_get(route, "targets")),
                   real_or_dash(page, route, "threshold"),
                   aip_page_count(page, route, "first_choice_hour"));
    }
    close_table(page);
}

static void write_decision(const aip_page_t *page, const json_t *decision)
{
    const char *cache = json_string_value(json_object_get(decision, "cache"));
    ap_rprintf(page->r,
               "<tr><td>%s</td><th scope=\"row\"><bdi>%s</bdi></th><td>%s%s%s</td>"
               "<td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"wrap\"><bdi>%s</bdi>"
               "<span class=\"sub\">%s</span></td><td class=\"n\">%s</td><td class=\"n\">%s</td>"
               "<td class=\"n\">%s</td></tr>",
               clock_of(page, decision, "time"), text_or_dash(page, decision, "target"),
               aip_page_string(page, decision, "reason"),
               strcmp(cache, "hit") == 0 ? ", cached" : "",
               json_is_true(json_object_get(decision, "degraded")) ? ", store away" : "",
               real_or_dash(page, decision, "distance"), real_or_dash(page, decision, "threshold"),
               text_or_dash(page, decision, "nearest"),
               json_is_number(json_object_get(decision, "nearest_distance"))
                   ? real_or_dash(page, decision, "nearest_distance")
                   : "",
               aip_page_count(page, decision, "attempts"), aip_page_count(page, decision, "status"),
               aip_page_ms(page, json_object_get(decision, "total_ms")));
}

static void write_decisions(const aip_page_t *page, const json_t *gateway)
{
    const json_t *decisions = json_object_get(gateway, "recent_decisions"), *decision;
    size_t i;
    if (!json_array_size(decisions)) {
        return;
    }
    ap_rprintf(page->r, "<details><summary>Recent decisions (%d)</summary>",
               (int)json_array_size(decisions));
    open_table(page, gateway, "Recent decisions", "Newest first; no prompt is kept",
               "<th scope=\"col\">Time (UTC)</th><th scope=\"col\">Target</th>"
               "<th scope=\"col\">Reason</th><th scope=\"col\" class=\"n\">Distance</th>"
               "<th scope=\"col\" class=\"n\">Threshold</th><th scope=\"col\">Nearest route</th>"
               "<th scope=\"col\" class=\"n\">Attempts</th>"
               "<th scope=\"col\" class=\"n\">Status</th><th scope=\"col\" class=\"n\">Time</th>");
    json_array_foreach(decisions, i, decision)
    {
        write_decision(page, decision);
    }
    close_table(page);
    ap_rputs("</details>", page->r);
}

static void write_parts(const aip_page_t *page, const json_t *gateway)
{
    const json_t *embedder = json_object_get(gateway, "embedder");
    const json_t *store = json_object_get(gateway, "vector_store");
    const json_t *cache = json_object_get(gateway, "route_cache");
    ap_rputs("<h3>Routing</h3><dl class=\"facts\">", page->r);
    if (json_is_object(embedder)) {
        const json_t *failure = json_object_get(embedder, "last_failure");
        bool ready = json_is_true(json_object_get(embedder, "references_ready"));
        ap_rprintf(page->r,
                   "<div><dt>Embeddings</dt><dd>%s, <bdi>%s</bdi> (%s, %s dimensions)</dd></div>"
                   "<div><dt>References</dt><dd><span class=\"%s\">%s</span></dd></div>"
                   "<div><dt>Last embeddings failure</dt><dd>%s%s%s</dd></div>",
                   text_or_dash(page, embedder, "provider"), text_or_dash(page, embedder, "model"),
                   json_is_true(json_object_get(embedder, "local")) ? "local" : "remote",
                   aip_page_count(page, embedder, "dimensions"),
                   aip_page_badge(ready ? "ready" : "not ready"), ready ? "ready" : "not ready",
                   json_is_object(failure) ? aip_page_string(page, failure, "error") : "none",
                   json_is_object(failure) ? " at " : "",
                   json_is_object(failure) ? aip_page_string(page, failure, "time") : "");
    }
    if (json_is_object(store)) {
        const char *state = json_string_value(json_object_get(store, "state"));
        ap_rprintf(page->r,
                   "<div><dt>Vector store</dt><dd>%s <span class=\"%s\">%s</span></dd></div>",
                   aip_page_string(page, store, "strategy"), aip_page_badge(state), state);
    }
    ap_rprintf(page->r,
               "<div><dt>Route cache</dt><dd><bdi>%s</bdi>%s: %s hits, %s misses, %s "
               "shared</dd></div></dl>",
               text_or_dash(page, cache, "provider"),
               json_is_true(json_object_get(cache, "in_use")) ? "" : " (not in use)",
               aip_page_count(page, cache, "hits"), aip_page_count(page, cache, "misses"),
               aip_page_count(page, cache, "shared"));
}

void aip_page_gateway(const aip_page_t *page, const json_t *gateway, int number)
{
    ap_rprintf(page->r,
               "<section class=\"card\" aria-labelledby=\"g%d\"><div class=\"head\"><h2 "
               "id=\"g%d\"><bdi>%s</bdi></h2><p class=\"mute\">%s, server <bdi>%s</bdi></p></div>",
               number, number, aip_page_string(page, gateway, "gateway"),
               aip_page_string(page, gateway, "algorithm"),
               aip_page_string(page, gateway, "server"));
    write_tiles(page, gateway);
    aip_page_charts(page, gateway);
    write_targets(page, gateway);
    write_routes(page, gateway);
    write_errors(page, gateway);
    write_parts(page, gateway);
    write_decisions(page, gateway);
    if (page->token && json_is_true(json_object_get(gateway, "dry_run"))) {
        aip_page_try(page, gateway, number);
    }
    ap_rputs("</section>", page->r);
}
