/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics log: one JSON line for each request of a target that asks for it, with Kong's keys
 * below "ai.proxy" and ours in "semantic". Logs are opened before privileges are dropped. Children
 * and threads do not mix their lines: to a file a line is one write, to a pipe, where only short
 * writes are atomic, it is written under a lock. */
#include "aip/account.h"
#include "aip/observe.h"
#include "aip/signals.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>
#include <http_protocol.h>
#include <jansson.h>
#include <util_mutex.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define MUTEX_TYPE "ai-statistics"

static apr_hash_t *logs;               /* AIStatisticsLog -> apr_file_t * */
static apr_global_mutex_t *pipe_mutex; /* NULL: no log is a pipe */

int aip_statistics_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog, (void)ptemp;
    logs = NULL;
    pipe_mutex = NULL;
    return ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0) == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
}

void aip_statistics_init(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t rv = pipe_mutex ? apr_global_mutex_child_init(
                                       &pipe_mutex, apr_global_mutex_lockfile(pipe_mutex), pchild)
                                 : APR_SUCCESS;
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s,
                     "AIP0052: no lock for the pipe of AIStatisticsLog in a child");
        pipe_mutex = NULL;
    }
}

static apr_file_t *open_log(const char *name, apr_pool_t *pconf, server_rec *s)
{
    apr_file_t *file = NULL;
    if (*name == '|') {
        if (!pipe_mutex &&
            ap_global_mutex_create(&pipe_mutex, NULL, MUTEX_TYPE, NULL, s, pconf, 0)) {
            return NULL;
        }
        piped_log *pipe = ap_open_piped_log(pconf, name + 1);
        return pipe ? ap_piped_log_write_fd(pipe) : NULL;
    }
    const char *path = ap_server_root_relative(pconf, name);
    apr_status_t rv = apr_file_open(
        &file, path, APR_FOPEN_WRITE | APR_FOPEN_APPEND | APR_FOPEN_CREATE | APR_FOPEN_LARGEFILE,
        APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD, pconf);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AIP0050: cannot open AIStatisticsLog %s", path);
        return NULL;
    }
    return file;
}

int aip_statistics_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog, (void)ptemp;
    logs = apr_hash_make(pconf);
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        const char *name = section->dir->f.statistics_log;
        if (name && !apr_hash_get(logs, name, APR_HASH_KEY_STRING)) {
            apr_file_t *file = open_log(name, pconf, s);
            if (!file) {
                return HTTP_INTERNAL_SERVER_ERROR;
            }
            apr_hash_set(logs, name, APR_HASH_KEY_STRING, file);
        }
    }
    return OK;
}

static json_t *text(const char *s)
{
    json_t *value = s ? json_string(s) : json_null();
    return value ? value : json_string("(not UTF-8)");
}

static json_t *span_text(aip_span_t span)
{
    json_t *value = json_stringn(span.data ? span.data : "", span.len);
    return value ? value : json_string("(not UTF-8)");
}

static json_t *milliseconds(apr_interval_time_t t)
{
    return json_real((double)((t + 5) / 10) / 100.0);
}

static void set_count(json_t *object, const char *key, apr_int64_t value)
{
    if (value >= 0) {
        json_object_set_new(object, key, json_integer(value));
    }
}

static json_t *meta(const aip_request_t *req, const aip_target_t *target,
                    apr_interval_time_t latency)
{
    const aip_answered_t *a = &req->answered;
    json_t *meta = json_object();
    json_object_set_new(meta, "plugin_id", text("mod_ai_proxy_adv"));
    json_object_set_new(meta, "target", text(target->name));
    json_object_set_new(meta, "provider_name", text(target->provider_name));
    json_object_set_new(meta, "request_model", text(a->model ? a->model : "UNSPECIFIED"));
    json_object_set_new(meta, "response_model",
                        text(a->response_model ? a->response_model
                             : a->model        ? a->model
                                               : "UNSPECIFIED"));
    json_object_set_new(meta, "llm_latency", json_integer(apr_time_as_msec(latency)));
    json_object_set_new(meta, "request_mode", text(req->stream ? "stream" : "oneshot"));
    if (target->provider->api_version) {
        json_object_set_new(meta, "azure_instance_id", text(target->f.azure_instance));
        json_object_set_new(meta, "azure_deployment_id", text(target->f.azure_deployment_id));
        json_object_set_new(meta, "azure_api_version", text(target->f.azure_api_version));
    }
    return meta;
}

static json_t *usage(const aip_request_t *req, apr_interval_time_t latency)
{
    const aip_answered_t *a = &req->answered;
    const aip_usage_t *u = &a->usage;
    json_t *usage = json_object();
    set_count(usage, "prompt_tokens", u->prompt_tokens);
    set_count(usage, "completion_tokens", u->completion_tokens);
    set_count(usage, "total_tokens", u->total_tokens);
    if (u->cached_tokens >= 0) {
        json_object_set_new(usage, "prompt_tokens_details",
                            json_pack("{s:I}", "cached_tokens", (json_int_t)u->cached_tokens));
    }
    if (u->reasoning_tokens >= 0) {
        json_object_set_new(
            usage, "completion_tokens_details",
            json_pack("{s:I}", "reasoning_tokens", (json_int_t)u->reasoning_tokens));
    }
    double tokens = (double)u->completion_tokens;
    json_object_set_new(usage, "time_per_token",
                        json_real(tokens > 0 ? (double)latency / 1000.0 / tokens : 0));
    if (a->first_byte_at) {
        json_object_set_new(usage, "time_to_first_token",
                            milliseconds(a->first_byte_at - req->start));
    }
    json_object_set_new(usage, "cost", json_real((double)req->account->cost_pico / 1e12));
    return usage;
}

/* A stream's payload is told as the answer that it adds up to. */
static json_t *response_payload(const aip_request_t *req)
{
    const aip_answered_t *a = &req->answered;
    if (!a->stream) {
        return span_text(a->payload);
    }
    json_t *content = json_loads(apr_psprintf(req->r->pool, "\"%.*s\"", (int)a->payload.len,
                                              a->payload.data ? a->payload.data : ""),
                                 JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_t *whole = json_pack("{s:s, s:o, s:[{s:i, s:{s:s, s:o}}]}", "object", "chat.completion",
                              "model", text(a->response_model), "choices", "index", 0, "message",
                              "role", "assistant", "content", content ? content : json_string(""));
    char *dumped = json_dumps(whole, JSON_COMPACT);
    json_t *value = json_string(dumped ? dumped : "");
    free(dumped);
    json_decref(whole);
    return value;
}

static json_t *tried(const aip_request_t *req)
{
    json_t *list = json_array();
    for (int i = 0; i < req->upstream.n; i++) {
        const aip_attempt_t *a = &req->upstream.attempts[i];
        const aip_url_t *url = a->endpoint ? &a->endpoint->url : &a->target->endpoint->url;
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s?, s:s, s:s, s:i, s:s, s:s, s:s, s:i, s:f}", "target",
                            a->target->name, "provider", a->target->provider_name, "model",
                            a->target->f.model_name, "route_type", "llm/v1/chat", "host", url->host,
                            "port", url->port, "upstream_scheme", url->tls ? "https" : "http",
                            "upstream_uri", url->path, "outcome", aip_outcome_name(a->outcome),
                            "status", a->status, "took_ms", (double)a->took / 1000.0));
    }
    return list;
}

static json_t *semantic(const aip_request_t *req, const aip_target_t *target)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_location_fields_t *f = &req->conf->f;
    const aip_routes_t *routes = req->conf->targets->routes;
    bool measured = d->nearest >= 0;
    json_t *s = json_object();
    json_object_set_new(s, "route", text(target->f.description));
    json_object_set_new(
        s, "distance",
        measured ? json_real((double)aip_decision_distance(routes, d, target->f.description))
                 : json_null());
    json_object_set_new(s, "nearest",
                        measured ? text(routes->routes[d->nearest].description) : json_null());
    const double *threshold = aip_explain_threshold(req, target);
    json_object_set_new(s, "threshold", threshold ? json_real(*threshold) : json_null());
    json_object_set_new(s, "reason", text(aip_reason_name(req->route.reason)));
    if (req->route.reason == AIP_REASON_STICKY) {
        json_object_set_new(s, "without_session", aip_explain_decision(req));
    }
    json_object_set_new(s, "cache", text(aip_cache_state_name(req->route.cache)));
    json_object_set_new(s, "candidates", json_integer(req->candidates.n));
    json_object_set_new(s, "embeddings_model", text(req->route.embedder));
    json_object_set_new(s, "embeddings_latency", milliseconds(req->route.embed_took));
    json_object_set_new(s, "vector_db",
                        text(aip_field_word(&aip_location_table[AIP_L_vectordb_strategy],
                                            f->vectordb_strategy, req->r->pool)));
    json_object_set_new(s, "fetch_latency", milliseconds(req->route.search_took));
    json_object_set_new(s, "degraded", json_boolean(req->route.degraded));
    json_object_set_new(s, "truncated", json_boolean(req->route.truncated));
    json_object_set_new(s, "failure", text(req->route.failure));
    return s;
}

static json_t *proxy_object(const aip_request_t *req, const aip_target_t *target)
{
    const aip_answered_t *a = &req->answered;
    apr_interval_time_t latency = apr_time_now() - req->start;
    json_t *proxy = json_object();
    json_object_set_new(proxy, "meta", meta(req, target, latency));
    json_object_set_new(proxy, "usage", usage(req, latency));
    if (target->f.logging_log_payloads) {
        json_t *payload = json_object();
        json_object_set_new(payload, "request", span_text(a->sent_body));
        json_object_set_new(payload, "response", response_payload(req));
        json_object_set_new(proxy, "payload", payload);
    }
    json_object_set_new(proxy, "tried_targets", tried(req));
    if (req->route.reason != AIP_REASON_NONE) {
        json_object_set_new(proxy, "semantic", semantic(req, target));
    }
    if (a->cut) {
        json_object_set_new(proxy, "cut", text(a->cut));
    }
    return proxy;
}

static void write_line(const aip_request_t *req, apr_file_t *file, json_t *line)
{
    apr_global_mutex_t *mutex = *req->conf->f.statistics_log == '|' ? pipe_mutex : NULL;
    char *dumped = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (!dumped) {
        return;
    }
    const char *whole = apr_pstrcat(req->r->pool, dumped, "\n", NULL);
    bool locked = mutex && apr_global_mutex_lock(mutex) == APR_SUCCESS;
    apr_status_t rv = apr_file_write_full(file, whole, strlen(whole), NULL);
    if (locked) {
        apr_global_mutex_unlock(mutex);
    }
    free(dumped);
    if (rv != APR_SUCCESS) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, req->r,
                      "AIP0051: cannot write to AIStatisticsLog");
    }
}

/* The target that a line is about: the one that answered, else the last one tried that wants a
 * line; or NULL. */
static const aip_target_t *logged_target(const aip_request_t *req)
{
    for (int i = req->upstream.n - 1; i >= 0; i--) {
        const aip_target_t *target = req->upstream.attempts[i].target;
        bool wanted = target->f.logging_log_statistics || target->f.logging_log_payloads;
        if (wanted && (!req->answered.target || req->answered.target == target)) {
            return target;
        }
    }
    return NULL;
}

static void write_request(const aip_request_t *req, apr_file_t *file, const aip_target_t *target)
{
    const request_rec *r = req->r;
    char time[APR_RFC822_DATE_LEN];
    apr_rfc822_date(time, r->request_time);
    json_t *line =
        json_pack("{s:s, s:I, s:s?, s:s, s:i, s:{s:o}}", "time", time, "started_at",
                  (json_int_t)apr_time_as_msec(r->request_time), "request_id",
                  r->log_id ? r->log_id : apr_table_get(r->subprocess_env, "UNIQUE_ID"), "path",
                  r->uri, "status", r->status, "ai", "proxy", proxy_object(req, target));
    if (line) {
        write_line(req, file, line);
        json_decref(line);
    }
}

int aip_statistics_write(request_rec *r)
{
    const aip_request_t *req = aip_request_get(r);
    if (!req || !req->conf->f.statistics_log || !logs) {
        return DECLINED;
    }
    const aip_target_t *target = logged_target(req);
    apr_file_t *file = apr_hash_get(logs, req->conf->f.statistics_log, APR_HASH_KEY_STRING);
    if (!file || !target) {
        return DECLINED;
    }
    sigset_t before;
    aip_signals_block(&before); /* not in the middle of a line, either */
    write_request(req, file, target);
    aip_signals_restore(&before);
    return OK;
}
