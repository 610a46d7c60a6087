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

#define PUT(out, table, from) aip_json_out_fields(out, table, sizeof(table) / sizeof *(table), from)

static void put_real(aip_json_out_t *out, const char *key, const double *value)
{
    if (value) {
        aip_json_out_real(out, key, *value);
    } else {
        aip_json_out_null(out, key);
    }
}

typedef struct meta_t {
    const char *request_model, *response_model, *service_tier;
    aip_span_t mode;
    apr_int64_t latency; /* milliseconds */
} meta_t;

static void put_azure(aip_json_out_t *out, const aip_target_t *target)
{
    static const aip_json_field_t azure[] = {
        AIP_JSON_FIELD("azure_instance_id", AIP_JSON_TEXT, aip_target_t, f.azure_instance),
        AIP_JSON_FIELD("azure_deployment_id", AIP_JSON_TEXT, aip_target_t, f.azure_deployment_id),
        AIP_JSON_FIELD("azure_api_version", AIP_JSON_TEXT, aip_target_t, f.azure_api_version),
    };
    if (target && target->provider->api_version) {
        PUT(out, azure, target);
    }
}

static void put_meta(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    static const aip_json_field_t answered[] = {
        AIP_JSON_FIELD("request_model", AIP_JSON_TEXT, meta_t, request_model),
        AIP_JSON_FIELD("response_model", AIP_JSON_TEXT, meta_t, response_model),
        AIP_JSON_FIELD("llm_latency", AIP_JSON_INT64, meta_t, latency),
        AIP_JSON_FIELD("request_mode", AIP_JSON_PLAIN, meta_t, mode),
    };
    static const aip_json_field_t tier[] = {
        AIP_JSON_FIELD("service_tier", AIP_JSON_TEXT_SET, meta_t, service_tier),
    };
    const aip_answered_t *a = &req->answered;
    const char *model = a->model ? a->model : "UNSPECIFIED";
    const meta_t meta = {.request_model = model,
                         .response_model = a->response_model ? a->response_model : model,
                         .mode = req->stream ? AIP_SPAN("stream") : AIP_SPAN("oneshot"),
                         .service_tier = a->service_tier,
                         .latency = apr_time_as_msec(req->account->total)};
    aip_json_out_object(out, "meta");
    if (target) {
        aip_json_out_members(out, target->fragments->meta);
    } else {
        aip_fragment_meta(out, NULL);
    }
    PUT(out, answered, &meta);
    put_azure(out, target);
    PUT(out, tier, &meta);
    aip_json_out_end(out);
}

static void put_details(aip_json_out_t *out, const aip_usage_t *u)
{
    static const aip_json_field_t prompt[] = {
        AIP_JSON_FIELD("cached_tokens", AIP_JSON_COUNT, aip_usage_t, cached_tokens),
        AIP_JSON_FIELD("cache_write_tokens", AIP_JSON_COUNT, aip_usage_t, cache_write_tokens),
    };
    if (u->cached_tokens >= 0 || u->cache_write_tokens >= 0) {
        aip_json_out_object(out, "prompt_tokens_details");
        PUT(out, prompt, u);
        aip_json_out_end(out);
    }
    if (u->reasoning_tokens >= 0) {
        aip_json_out_object(out, "completion_tokens_details");
        aip_json_out_int(out, "reasoning_tokens", u->reasoning_tokens);
        aip_json_out_end(out);
    }
}

typedef struct costs_t {
    apr_interval_time_t per_token, first_token; /* of the whole time */
    apr_int64_t pico;
} costs_t;

static void put_usage(aip_json_out_t *out, const aip_account_t *account)
{
    static const aip_json_field_t counts[] = {
        AIP_JSON_FIELD("prompt_tokens", AIP_JSON_COUNT, aip_usage_t, prompt_tokens),
        AIP_JSON_FIELD("completion_tokens", AIP_JSON_COUNT, aip_usage_t, completion_tokens),
        AIP_JSON_FIELD("total_tokens", AIP_JSON_COUNT, aip_usage_t, total_tokens),
    };
    static const aip_json_field_t costs[] = {
        AIP_JSON_FIELD("time_per_token", AIP_JSON_MS, costs_t, per_token),
        AIP_JSON_FIELD("time_to_first_token", AIP_JSON_MS_SET, costs_t, first_token),
        AIP_JSON_FIELD("cost", AIP_JSON_PICO, costs_t, pico),
    };
    const aip_usage_t *u = &account->usage;
    const costs_t all = {
        .per_token = u->completion_tokens > 0 ? account->total / u->completion_tokens : 0,
        .first_token = account->first_token,
        .pico = account->cost_pico,
    };
    aip_json_out_object(out, "usage");
    PUT(out, counts, u);
    put_details(out, u);
    if (u->prompt_estimated || u->completion_estimated) {
        aip_json_out_bool(out, "estimated", true);
    }
    PUT(out, costs, &all);
    aip_json_out_end(out);
}

static void put_latency(aip_json_out_t *out, const aip_account_t *account)
{
    static const aip_json_field_t latency[] = {
        AIP_JSON_FIELD("total_ms", AIP_JSON_MS_NULL, aip_account_t, total),
        AIP_JSON_FIELD("upstream_ms", AIP_JSON_MS_NULL, aip_account_t, upstream),
        AIP_JSON_FIELD("overhead_ms", AIP_JSON_MS_NULL, aip_account_t, overhead),
        AIP_JSON_FIELD("embedding_ms", AIP_JSON_MS_NULL, aip_account_t, embedding),
        AIP_JSON_FIELD("search_ms", AIP_JSON_MS_NULL, aip_account_t, search),
        AIP_JSON_FIELD("time_to_first_token_ms", AIP_JSON_MS_NULL, aip_account_t, first_token),
        AIP_JSON_FIELD("time_per_output_token_ms", AIP_JSON_MS_NULL, aip_account_t, per_token),
    };
    aip_json_out_object(out, "latency");
    PUT(out, latency, account);
    aip_json_out_end(out);
}

typedef struct tried_t {
    const char *outcome;
    int status;
    apr_interval_time_t took;
} tried_t;

static void put_tried(aip_json_out_t *out, const aip_request_t *req)
{
    static const aip_json_field_t ended[] = {
        AIP_JSON_FIELD("outcome", AIP_JSON_TEXT, tried_t, outcome),
        AIP_JSON_FIELD("status", AIP_JSON_INT, tried_t, status),
        AIP_JSON_FIELD("took_ms", AIP_JSON_MS, tried_t, took),
    };
    aip_json_out_array(out, "tried_targets");
    for (int i = 0; i < req->upstream.n; i++) {
        const aip_attempt_t *a = &req->upstream.attempts[i];
        const tried_t tried = {aip_outcome_name(a->outcome), a->status, a->took};
        aip_json_out_object(out, NULL);
        if (!a->endpoint || a->endpoint == a->target->endpoint) {
            aip_json_out_members(out, a->target->fragments->tried);
        } else { /* of a template */
            aip_fragment_tried(out, a->target, &a->endpoint->url);
        }
        PUT(out, ended, &tried);
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

typedef struct chosen_t {
    const char *cache, *embedder, *vectordb, *failure;
    apr_interval_time_t embed_took, search_took;
    int candidates;
    bool sticky, cached, degraded, truncated;
} chosen_t;

static void put_semantic(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    static const aip_json_field_t chosen[] = {
        AIP_JSON_FIELD("sticky", AIP_JSON_BOOL, chosen_t, sticky),
        AIP_JSON_FIELD("cached", AIP_JSON_BOOL, chosen_t, cached),
        AIP_JSON_FIELD("cache", AIP_JSON_TEXT, chosen_t, cache),
        AIP_JSON_FIELD("candidates", AIP_JSON_INT, chosen_t, candidates),
        AIP_JSON_FIELD("embeddings_model", AIP_JSON_TEXT, chosen_t, embedder),
        AIP_JSON_FIELD("embeddings_latency", AIP_JSON_MS, chosen_t, embed_took),
        AIP_JSON_FIELD("vector_db", AIP_JSON_TEXT, chosen_t, vectordb),
        AIP_JSON_FIELD("fetch_latency", AIP_JSON_MS, chosen_t, search_took),
        AIP_JSON_FIELD("degraded", AIP_JSON_BOOL, chosen_t, degraded),
        AIP_JSON_FIELD("truncated", AIP_JSON_BOOL, chosen_t, truncated),
        AIP_JSON_FIELD("failure", AIP_JSON_TEXT, chosen_t, failure),
    };
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    const char *route = target ? target->f.description : NULL;
    const chosen_t how = {
        .cache = aip_cache_state_name(req->route.cache),
        .embedder = req->route.embedder,
        .vectordb = aip_field_word(&aip_location_table[AIP_L_vectordb_strategy],
                                   req->conf->f.vectordb_strategy, req->r->pool),
        .failure = req->route.failure,
        .embed_took = req->route.embed_took,
        .search_took = req->route.search_took,
        .candidates = req->candidates.n,
        .sticky = req->route.reason == AIP_REASON_STICKY,
        .cached = req->route.cache == AIP_CACHE_HIT,
        .degraded = req->route.degraded,
        .truncated = req->route.truncated,
    };
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
    PUT(out, chosen, &how);
    aip_json_out_end(out);
}

static void put_proxy(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    aip_json_out_object(out, "ai");
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
    aip_json_out_end(out);
}

/* A request in a few words. */
typedef struct brief_t {
    aip_span_t time, trace_id, span_id;
    const char *id, *path, *error_type, *client_model;
    apr_int64_t started_at; /* milliseconds */
    int status;
} brief_t;

static void put_line(aip_json_out_t *out, const aip_request_t *req, const aip_target_t *target)
{
    static const aip_json_field_t begun[] = {
        AIP_JSON_FIELD("time", AIP_JSON_PLAIN, brief_t, time),
        AIP_JSON_FIELD("started_at", AIP_JSON_INT64, brief_t, started_at),
        AIP_JSON_FIELD("request_id", AIP_JSON_TEXT, brief_t, id),
        AIP_JSON_FIELD("trace_id", AIP_JSON_PLAIN_SET, brief_t, trace_id),
        AIP_JSON_FIELD("span_id", AIP_JSON_PLAIN_SET, brief_t, span_id),
    };
    static const aip_json_field_t ended[] = {
        AIP_JSON_FIELD("path", AIP_JSON_TEXT, brief_t, path),
        AIP_JSON_FIELD("status", AIP_JSON_INT, brief_t, status),
        AIP_JSON_FIELD("error_type", AIP_JSON_TEXT, brief_t, error_type),
        AIP_JSON_FIELD("client_model", AIP_JSON_TEXT, brief_t, client_model),
    };
    const request_rec *r = req->r;
    const aip_trace_context_t *trace = &req->trace;
    char time[APR_RFC822_DATE_LEN];
    ap_recent_rfc822_date(time, r->request_time);
    const brief_t brief = {
        .time = {time, sizeof time - 1},
        .id = r->log_id ? r->log_id : apr_table_get(r->subprocess_env, "UNIQUE_ID"),
        .trace_id = {*trace->trace_id ? trace->trace_id : NULL, AIP_TRACE_ID_HEX},
        .span_id = {*trace->trace_id ? trace->span_id : NULL, AIP_SPAN_ID_HEX},
        .path = r->uri,
        .error_type = req->account->error_type,
        .client_model = req->chat.model,
        .started_at = apr_time_as_msec(r->request_time),
        .status = req->account->status,
    };
    aip_json_out_object(out, NULL);
    PUT(out, begun, &brief);
    aip_json_out_members(out, req->conf->targets->labels);
    PUT(out, ended, &brief);
    put_proxy(out, req, target);
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
