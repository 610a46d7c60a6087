/* SPDX-License-Identifier: Apache-2.0 */
/* Why a request goes where it goes: the header X-LLM-Route-Scores and the answer to a dry run.
 * Names and numbers only, never prompt text. */
#include "aip/observe.h"
#include "aip/signals.h"
#include "aip/state.h"

#include <apr_strings.h>
#include <http_protocol.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>

/* More would be too long for a header. */
#define HEADER_ROUTES 20

const char *aip_reason_text(const aip_request_t *req)
{
    return apr_pstrcat(req->r->pool, aip_reason_name(req->route.reason),
                       req->route.cache == AIP_CACHE_HIT ? ",cached" : "",
                       req->route.degraded ? ",store_error" : "", NULL);
}

const char *aip_cache_state_name(aip_cache_state_e state)
{
    static const char *const names[] = {"off", "miss", "hit", "shared"};
    return names[state];
}

const char *aip_real_text(double value, apr_pool_t *pool)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", value);
    return apr_pstrdup(pool, text);
}

static const char *bar_name(int bar)
{
    static const char *const names[] = {"", "forbidden", "incapable", "not_forced", "acl"};
    return names[bar];
}

/* Routes are known by their first target in headers; descriptions are sentences. */
static const char *route_name(const aip_request_t *req, int route)
{
    const aip_targets_t *targets = req->conf->targets;
    return targets->list[targets->routes->routes[route].targets[0]]->name;
}

/* All routes but the catch-all, nearest first. @return how many */
static int sorted(const aip_request_t *req, aip_ranked_t *ranked)
{
    const aip_routes_t *routes = req->conf->targets->routes;
    int n = 0;
    for (int r = 0; r < routes->n; r++) {
        int at = n;
        if (routes->routes[r].catchall) {
            continue;
        }
        for (; at > 0 && ranked[at - 1].distance > req->route.decision.distances[r]; at--) {
            ranked[at] = ranked[at - 1];
        }
        ranked[at] = (aip_ranked_t){r, req->route.decision.distances[r]};
        n++;
    }
    return n;
}

static aip_ranked_t *room(const aip_request_t *req)
{
    return apr_palloc(req->r->pool,
                      (apr_size_t)(req->conf->targets->routes->n + 1) * sizeof(aip_ranked_t));
}

static const char *scores(const aip_request_t *req)
{
    apr_pool_t *pool = req->r->pool;
    aip_ranked_t *ranked = room(req);
    int n = req->route.decision.distances ? sorted(req, ranked) : 0;
    const char *text = "";
    for (int i = 0; i < n && i < HEADER_ROUTES; i++) {
        text = apr_psprintf(pool, "%s%s=%.4f%s", text, route_name(req, ranked[i].route),
                            (double)ranked[i].distance,
                            i + 1 < n && i + 1 < HEADER_ROUTES ? ", " : "; ");
    }
    if (n) {
        const double *threshold =
            aip_route_threshold(req->conf->targets->routes, ranked[0].route, &req->route.rules);
        text = threshold ? apr_pstrcat(pool, text, "threshold=", aip_real_text(*threshold, pool),
                                       "; ", NULL)
                         : text;
    }
    return text;
}

void aip_explain_headers(const aip_request_t *req)
{
    if (req->conf->f.explain != AIP_EXPLAIN_OFF && req->route.reason != AIP_REASON_NONE &&
        aip_may_explain(req)) {
        apr_table_setn(
            req->r->headers_out, "X-LLM-Route-Scores",
            apr_pstrcat(req->r->pool, scores(req), "reason=", aip_reason_text(req), NULL));
    }
}

static json_t *text(const char *s)
{
    json_t *value = s ? json_string(s) : json_null();
    return value ? value : json_string("(not UTF-8)");
}

static json_t *number(const double *value)
{
    return value ? json_real(*value) : json_null();
}

static json_t *distance_of(const aip_request_t *req, int route)
{
    const aip_decision_t *d = &req->route.decision;
    return route >= 0 && d->distances && route != req->conf->targets->routes->catchall
               ? json_real((double)d->distances[route])
               : json_null();
}

static int route_of(const aip_request_t *req, const aip_target_t *target)
{
    return aip_routes_find(req->conf->targets->routes, target ? target->f.description : NULL);
}

/* The catch-all, and a target of no route, have the location's. */
static const double *threshold_at(const aip_request_t *req, int route)
{
    const aip_routes_t *routes = req->conf->targets->routes;
    return route >= 0 && route != routes->catchall
               ? aip_route_threshold(routes, route, &req->route.rules)
               : req->route.rules.threshold;
}

const double *aip_explain_threshold(const aip_request_t *req, const aip_target_t *target)
{
    return threshold_at(req, route_of(req, target));
}

static json_t *threshold_of(const aip_request_t *req, int route)
{
    return number(threshold_at(req, route));
}

/* What the distances alone say. */
static json_t *by_distance(const aip_request_t *req)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    int route = d->n ? d->ranked[0].route : -1;
    return json_pack("{s:s, s:o, s:o, s:o}", "reason", aip_reason_name(d->reason), "route",
                     text(route >= 0 ? routes->routes[route].description : NULL), "distance",
                     distance_of(req, route), "threshold", threshold_of(req, route));
}

static json_t *names_of(const aip_request_t *req, const aip_route_t *route)
{
    json_t *names = json_array();
    for (int i = 0; i < route->n_targets; i++) {
        json_array_append_new(names, text(req->conf->targets->list[route->targets[i]]->name));
    }
    return names;
}

static bool eligible(const aip_decision_t *d, int route)
{
    for (int i = 0; i < d->n; i++) {
        if (d->ranked[i].route == route) {
            return true;
        }
    }
    return false;
}

static json_t *distances(const aip_request_t *req)
{
    const aip_routes_t *routes = req->conf->targets->routes;
    aip_ranked_t *ranked = room(req);
    int n = req->route.decision.distances ? sorted(req, ranked) : 0;
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        const aip_route_t *route = &routes->routes[ranked[i].route];
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o, s:o, s:b}", "route",
                                        text(route->description), "targets", names_of(req, route),
                                        "distance", distance_of(req, ranked[i].route), "threshold",
                                        threshold_of(req, ranked[i].route), "eligible",
                                        eligible(&req->route.decision, ranked[i].route)));
    }
    return list;
}

static json_t *candidates(const aip_request_t *req)
{
    aip_health_rules_t rules = aip_health_rules(&req->conf->f);
    apr_time_t now = apr_time_now();
    json_t *list = json_array();
    for (int i = 0; i < req->candidates.n; i++) {
        const aip_target_t *t = req->conf->targets->list[req->candidates.targets[i]];
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:o, s:o, s:o, s:s, s:I}", "target", text(t->name),
                            "provider", t->provider_name, "model", text(t->f.model_name), "route",
                            text(t->f.description), "distance", distance_of(req, route_of(req, t)),
                            "health", aip_availability_name(aip_health_look(t->state, &rules, now)),
                            "in_flight", (json_int_t)atomic_load(&t->state->in_flight)));
    }
    return list;
}

/* Targets that are no candidates, and why. */
static json_t *left_out(const aip_request_t *req)
{
    const aip_targets_t *targets = req->conf->targets;
    aip_health_rules_t rules = aip_health_rules(&req->conf->f);
    json_t *list = json_array();
    for (int i = 0; i < targets->n; i++) {
        bool in = false;
        for (int k = 0; k < req->candidates.n; k++) {
            in = in || req->candidates.targets[k] == i;
        }
        aip_availability_e look = aip_health_look(targets->list[i]->state, &rules, apr_time_now());
        const char *why = req->route.barred && req->route.barred[i] ? bar_name(req->route.barred[i])
                          : look > AIP_EJECTED                      ? aip_availability_name(look)
                                                                    : "not_eligible";
        if (!in) {
            json_array_append_new(
                list, json_pack("{s:o, s:s}", "target", text(targets->list[i]->name), "why", why));
        }
    }
    return list;
}

static json_t *milliseconds(apr_interval_time_t t)
{
    return json_real((double)t / 1000.0);
}

static json_t *decision(const aip_request_t *req)
{
    const aip_targets_t *targets = req->conf->targets;
    const aip_target_t *first =
        req->candidates.n ? targets->list[req->candidates.targets[0]] : NULL;
    int route = route_of(req, first);
    json_t *d = json_pack("{s:s, s:o, s:o, s:o, s:o}", "reason", aip_reason_name(req->route.reason),
                          "target", text(first ? first->name : NULL), "route",
                          text(first ? first->f.description : NULL), "distance",
                          distance_of(req, route), "threshold", threshold_of(req, route));
    if (req->route.reason == AIP_REASON_STICKY) {
        json_object_set_new(d, "without_session", by_distance(req));
    }
    return d;
}

json_t *aip_explain_document(const aip_request_t *req, const aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    int session = req->route.session.target;
    json_t *all = json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:{s:b, s:o}, s:o, s:b, s:{s:o, s:o, s:o}}",
        "algorithm",
        aip_field_word(&aip_location_table[AIP_L_balancer_algorithm], f->balancer_algorithm,
                       req->r->pool),
        "decision", decision(req), "distances", distances(req), "candidates", candidates(req),
        "left_out", left_out(req), "cache", aip_cache_state_name(req->route.cache),
        "embeddings_model", text(f->embeddings_model_name), "session", "known",
        req->route.session.known, "target",
        text(session >= 0 ? req->conf->targets->list[session]->name : NULL), "failure",
        text(req->route.failure), "degraded", req->route.degraded, "timings", "embedding_ms",
        milliseconds(req->route.embed_took), "search_ms", milliseconds(req->route.search_took),
        "total_ms", milliseconds(apr_time_now() - req->start));
    if (err->status) {
        json_object_set_new(all, "error",
                            json_pack("{s:i, s:o, s:o}", "status", err->status, "code",
                                      text(err->code), "message", text(err->message)));
    }
    return all;
}

int aip_explain_dry_run(const aip_request_t *req, const aip_error_t *err)
{
    request_rec *r = req->r;
    sigset_t before;
    aip_signals_block(&before);
    json_t *all = aip_explain_document(req, err);
    char *dumped = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(9));
    const char *body = dumped ? apr_pstrcat(r->pool, dumped, "\n", NULL) : NULL;
    free(dumped);
    json_decref(all);
    aip_signals_restore(&before);
    if (!body) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_set_content_type(r, "application/json");
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    ap_set_content_length(r, (apr_off_t)strlen(body));
    ap_rputs(body, r);
    return OK;
}
