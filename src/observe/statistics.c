/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics log: one JSON line for each request of a target that asks for it, with Kong's keys
 * below "ai.proxy" and ours beside them; docs/statistics.md and its schema name them all, in this
 * order. Texts that clients or upstreams choose are bounded, payloads by a directive of their own.
 */
#include "log_sink.h"
#include "fragments.h"
#include "payload.h"

#include "aip/account.h"
#include "aip/observe.h"
#include "aip/signals.h"

#include <apr_strings.h>
#include <http_protocol.h>
#include <util_time.h>

static void put_count(aip_json_out_t *out, const char *key, apr_int64_t value)
{
    if (value >= 0) {
        aip_json_out_int(out, key, value);
    }
}

static void put_ms(aip_json_out_t *out, const char *key, apr_interval_time_t value)
{
    if (value >= 0) {
        aip_json_out_ms(out, key, value);
    } else {
        aip_json_out_null(out, key);
    }
}

static void put_real(aip_json_out_t *out, const char *key, const double *value)
{
    if (value) {
        aip_json_out_real(out, key, *value);
    } else {
        aip_json_out_null(out, key);
    }
}

static void put_meta(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    const aip_answered_t *a = &req->answered;
    const char *model = a->model ? a->model : "UNSPECIFIED";
    aip_json_out_object(out, "meta");
    if (target) {
        aip_json_out_members(out, target->fragments->meta);
    } else {
        aip_fragment_meta(out, NULL);
    }
    aip_json_out_text(out, "request_model", model);
    aip_json_out_text(out, "response_model", a->response_model ? a->response_model : model);
    aip_json_out_int(out, "llm_latency", apr_time_as_msec(req->account->total));
    aip_json_out_plain(out, "request_mode", req->stream ? AIP_SPAN("stream") : AIP_SPAN("oneshot"));
    if (target && target->provider->api_version) {
        aip_json_out_text(out, "azure_instance_id", target->f.azure_instance);
        aip_json_out_text(out, "azure_deployment_id", target->f.azure_deployment_id);
        aip_json_out_text(out, "azure_api_version", target->f.azure_api_version);
    }
    if (a->service_tier) {
        aip_json_out_text(out, "service_tier", a->service_tier);
    }
    aip_json_out_end(out);
}

static void put_details(aip_json_out_t *out, const aip_usage_t *u)
{
    if (u->cached_tokens >= 0 || u->cache_write_tokens >= 0) {
        aip_json_out_object(out, "prompt_tokens_details");
        put_count(out, "cached_tokens", u->cached_tokens);
        put_count(out, "cache_write_tokens", u->cache_write_tokens);
        aip_json_out_end(out);
    }
    if (u->reasoning_tokens >= 0) {
        aip_json_out_object(out, "completion_tokens_details");
        aip_json_out_int(out, "reasoning_tokens", u->reasoning_tokens);
        aip_json_out_end(out);
    }
}

static void put_usage(aip_json_out_t *out, const aip_account_t *account)
{
    const aip_usage_t *u = &account->usage;
    aip_json_out_object(out, "usage");
    put_count(out, "prompt_tokens", u->prompt_tokens);
    put_count(out, "completion_tokens", u->completion_tokens);
    put_count(out, "total_tokens", u->total_tokens);
    put_details(out, u);
    if (u->prompt_estimated || u->completion_estimated) {
        aip_json_out_bool(out, "estimated", true);
    }
    aip_json_out_ms(out, "time_per_token",
                    u->completion_tokens > 0 ? account->total / u->completion_tokens : 0);
    if (account->first_token >= 0) {
        aip_json_out_ms(out, "time_to_first_token", account->first_token);
    }
    aip_json_out_pico(out, "cost", account->cost_pico);
    aip_json_out_end(out);
}

static void put_latency(aip_json_out_t *out, const aip_account_t *account)
{
    aip_json_out_object(out, "latency");
    put_ms(out, "total_ms", account->total);
    put_ms(out, "upstream_ms", account->upstream);
    put_ms(out, "overhead_ms", account->overhead);
    put_ms(out, "embedding_ms", account->embedding);
    put_ms(out, "search_ms", account->search);
    put_ms(out, "time_to_first_token_ms", account->first_token);
    put_ms(out, "time_per_output_token_ms", account->per_token);
    aip_json_out_end(out);
}

static void put_tried(aip_json_out_t *out, const aip_request_t *req)
{
    aip_json_out_array(out, "tried_targets");
    for (int i = 0; i < req->upstream.n; i++) {
        const aip_attempt_t *a = &req->upstream.attempts[i];
        aip_json_out_object(out, NULL);
        if (!a->endpoint || a->endpoint == a->target->endpoint) {
            aip_json_out_members(out, a->target->fragments->tried);
        } else { /* of a template */
            aip_fragment_tried(out, a->target, &a->endpoint->url);
        }
        aip_json_out_text(out, "outcome", aip_outcome_name(a->outcome));
        aip_json_out_int(out, "status", a->status);
        aip_json_out_ms(out, "took_ms", a->took);
        aip_json_out_end(out);
    }
    aip_json_out_end(out);
}

/* What the distances alone said about a request that its session decided. */
static void put_without_session(aip_json_out_t *out, const aip_request_t *req)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    int route = d->n ? d->ranked[0].route : -1;
    bool own = route >= 0 && route != routes->catchall;
    double distance = own && d->distances ? (double)d->distances[route] : 0;
    aip_json_out_object(out, "without_session");
    aip_json_out_text(out, "reason", aip_reason_name(d->reason));
    aip_json_out_text(out, "route", route >= 0 ? routes->routes[route].description : NULL);
    put_real(out, "distance", own && d->distances ? &distance : NULL);
    put_real(out, "threshold",
             own ? aip_route_threshold(routes, route, &req->route.rules)
                 : req->route.rules.threshold);
    aip_json_out_end(out);
}

static void put_semantic(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    const char *route = target ? target->f.description : NULL;
    bool measured = d->nearest >= 0;
    double distance = measured ? (double)aip_decision_distance(routes, d, route) : 0;
    aip_json_out_object(out, "semantic");
    aip_json_out_text(out, "route", route);
    put_real(out, "distance", measured ? &distance : NULL);
    aip_json_out_text(out, "nearest", measured ? routes->routes[d->nearest].description : NULL);
    put_real(out, "threshold", aip_explain_threshold(req, target));
    aip_json_out_text(out, "reason", aip_reason_name(req->route.reason));
    if (req->route.reason == AIP_REASON_STICKY) {
        put_without_session(out, req);
    }
    aip_json_out_bool(out, "sticky", req->route.reason == AIP_REASON_STICKY);
    aip_json_out_bool(out, "cached", req->route.cache == AIP_CACHE_HIT);
    aip_json_out_text(out, "cache", aip_cache_state_name(req->route.cache));
    aip_json_out_int(out, "candidates", req->candidates.n);
    aip_json_out_text(out, "embeddings_model", req->route.embedder);
    aip_json_out_ms(out, "embeddings_latency", req->route.embed_took);
    aip_json_out_text(out, "vector_db",
                      aip_field_word(&aip_location_table[AIP_L_vectordb_strategy],
                                     req->conf->f.vectordb_strategy, req->r->pool));
    aip_json_out_ms(out, "fetch_latency", req->route.search_took);
    aip_json_out_bool(out, "degraded", req->route.degraded);
    aip_json_out_bool(out, "truncated", req->route.truncated);
    aip_json_out_text(out, "failure", req->route.failure);
    aip_json_out_end(out);
}

static void put_proxy(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    aip_json_out_object(out, "proxy");
    put_meta(out, req, target);
    put_usage(out, req->account);
    put_latency(out, req->account);
    if (target && target->f.logging_log_payloads) {
        aip_payload_write(out, req);
    }
    put_tried(out, req);
    if (req->route.reason != AIP_REASON_NONE) {
        put_semantic(out, req, target);
    }
    if (req->answered.cut) {
        aip_json_out_text(out, "cut", req->answered.cut);
    }
    aip_json_out_end(out);
}

static void put_line(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    const request_rec *r = req->r;
    char time[APR_RFC822_DATE_LEN];
    ap_recent_rfc822_date(time, r->request_time);
    aip_json_out_object(out, NULL);
    aip_json_out_plain(out, "time", (aip_span_t){time, sizeof time - 1});
    aip_json_out_int(out, "started_at", apr_time_as_msec(r->request_time));
    aip_json_out_text(out, "request_id",
                      r->log_id ? r->log_id : apr_table_get(r->subprocess_env, "UNIQUE_ID"));
    if (*req->trace.trace_id) {
        aip_json_out_plain(out, "trace_id", (aip_span_t){req->trace.trace_id, AIP_TRACE_ID_HEX});
        aip_json_out_plain(out, "span_id", (aip_span_t){req->trace.span_id, AIP_SPAN_ID_HEX});
    }
    aip_json_out_members(out, req->conf->targets->labels);
    aip_json_out_text(out, "path", r->uri);
    aip_json_out_int(out, "status", req->account->status);
    aip_json_out_text(out, "error_type", req->account->error_type);
    aip_json_out_text(out, "client_model", req->chat.model);
    aip_json_out_object(out, "ai");
    put_proxy(out, req, target);
    aip_json_out_end(out);
    aip_json_out_end(out);
    aip_json_out_byte(out, '\n');
}

/* Whether the request is to be logged. @param target  out: what the line is about: the target that
 * answered, else the last one tried that wants a line; NULL: none was tried, and some target wants
 * lines */
static bool is_logged(const aip_request_t *req, const aip_target_t **target)
{
    bool wanted = false;
    for (int i = req->upstream.n - 1; i >= 0; i--) {
        *target = req->upstream.attempts[i].target;
        wanted = (*target)->f.logging_log_statistics || (*target)->f.logging_log_payloads;
        if (wanted && (!req->answered.target || req->answered.target == *target)) {
            return true;
        }
    }
    *target = NULL;
    for (int i = 0; !req->upstream.n && i < req->conf->targets->n; i++) {
        if (req->conf->targets->list[i]->f.logging_log_statistics) {
            return true;
        }
    }
    return false;
}

int aip_statistics_write(request_rec *r)
{
    const aip_request_t *req = aip_request_get(r);
    aip_log_sink_t *sink = req ? aip_log_sink_get(req->conf->f.statistics_log) : NULL;
    const aip_target_t *target;
    if (!sink || !req->account || !is_logged(req, &target)) {
        return DECLINED;
    }
    aip_json_out_t out;
    sigset_t before;
    aip_signals_block(&before); /* not in the middle of a line, either */
    aip_json_out_init(&out, r->pool, 4096);
    put_line(&out, req, target);
    aip_log_sink_write(sink, (aip_span_t){out.data, out.len},
                       (apr_size_t)req->conf->f.statistics_log_buffer);
    aip_signals_restore(&before);
    return OK;
}
