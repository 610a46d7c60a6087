/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request: the content handler as a numbered sequence, and the hooks that claim the
 * URL. Each step either goes on or leaves an error, which is rendered once. */
#include "aip/access.h"
#include "aip/observe.h"
#include "aip/secret.h"
#include "aip/traces.h"
#include "aip/upstream.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define CLAIMED "ai-proxy:"

aip_request_t *aip_request_get(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &ai_proxy_adv_module);
}

/* No file stands behind a gateway: a claimed URL costs neither a stat() nor a walk for .htaccess.
 */
int aip_hook_translate_name(request_rec *r)
{
    const aip_dir_conf_t *conf = aip_dir_conf(r);
    if (!conf->f.enabled || r->main || r->prev) {
        return DECLINED;
    }
    r->filename = (char *)CLAIMED;
    return OK;
}

/* The per-directory configuration is the server's at this point, so the name left above decides. */
int aip_hook_map_to_storage(request_rec *r)
{
    return r->filename && strcmp(r->filename, CLAIMED) == 0 ? OK : DECLINED;
}

/* The names of body credentials; some may come from a vault. In the place of one that cannot be
 * used stands what no JSON text holds: its target fails alone. */
static void name_extra(aip_request_t *req)
{
    const aip_targets_t *targets = req->conf->targets;
    apr_pool_t *pool = req->r->pool;
    req->extra = targets->extra;
    if (!targets->extra_secret) {
        return;
    }
    aip_span_t *extra = apr_pcalloc(pool, targets->n_extra * sizeof *extra);
    for (size_t i = 0; i < targets->n_extra; i++) {
        const char *name = aip_secret_text(targets->extra[i].data, pool, NULL);
        bool usable = name && aip_body_name_ok(name);
        extra[i] = usable ? (aip_span_t){name, strlen(name)} : AIP_SPAN("\xff");
    }
    req->extra = extra;
}

static bool parse_chat(aip_request_t *req, aip_error_t *err)
{
    const aip_targets_t *targets = req->conf->targets;
    int streaming = req->conf->f.response_streaming;
    name_extra(req);
    if (aip_chat_parse(&req->chat, req->body, req->extra, targets->n_extra, req->r->pool, err) !=
        APR_SUCCESS) {
        return false;
    }
    if (req->chat.stream && streaming == AIP_STREAMING_DENY) {
        aip_error_set(err, req->r->pool, HTTP_BAD_REQUEST, "invalid_request_error",
                      "streaming_denied", "stream",
                      "response streaming is not enabled for this LLM");
        return false;
    }
    req->stream = req->chat.stream || streaming == AIP_STREAMING_ALWAYS;
    return true;
}

/* Whether the model that the client names fits, and whether there is a name at all. */
static bool check_model(aip_request_t *req, aip_error_t *err)
{
    for (int i = 0; i < req->candidates.n; i++) {
        const char *name = req->conf->targets->list[req->candidates.targets[i]]->f.model_name;
        if (!name && !req->chat.model) {
            aip_error_set(err, req->r->pool, HTTP_BAD_REQUEST, "invalid_request_error",
                          "missing_model", "model",
                          "model parameter not found in request, nor in gateway configuration");
            return false;
        }
        if (i == 0 && req->conf->f.client_model == AIP_CLIENT_MODEL_STRICT && name &&
            req->chat.model && strcmp(name, req->chat.model) != 0) {
            aip_error_set(err, req->r->pool, HTTP_BAD_REQUEST, "invalid_request_error",
                          "wrong_model", "model", "cannot use own model - must be: %s", name);
            return false;
        }
    }
    return true;
}

static aip_request_t *create(request_rec *r, const aip_dir_conf_t *conf)
{
    aip_request_t *req = apr_pcalloc(r->pool, sizeof *req);
    *req = (aip_request_t){
        .r = r, .conf = conf, .start = r->request_time, .answered.usage = AIP_USAGE_UNKNOWN};
    if (conf->f.timeout_total) {
        req->deadline = req->start + apr_time_from_msec(conf->f.timeout_total);
    }
    req->route.decision =
        (aip_decision_t){.reason = AIP_REASON_NONE, .nearest = -1, .distance = -1};
    ap_set_module_config(r->request_config, &ai_proxy_adv_module, req);
    aip_trace_start(req);
    return req;
}

aip_request_t *aip_request_dry_run(request_rec *r, const aip_dir_conf_t *conf, aip_span_t body)
{
    aip_request_t *req = create(r, conf);
    aip_error_t *err = &req->error;
    req->dry = true;
    req->start = apr_time_now();
    req->body = body;
    if (conf->f.timeout_total) {
        req->deadline = req->start + apr_time_from_msec(conf->f.timeout_total);
    }
    if (parse_chat(req, err) && aip_route_stage(req, err) == APR_SUCCESS) {
        (void)aip_balance_stage(req, err);
    }
    return req;
}

static int answer(aip_request_t *req)
{
    aip_error_t *err = &req->error;
    int rc;

    /* 1. what the header tells, before the client is asked for its body */
    if (aip_acls_check(req, err) != APR_SUCCESS || aip_request_check(req, err) != APR_SUCCESS) {
        return DECLINED;
    }
    /* 2. the body */
    apr_time_t before = apr_time_now();
    rc = aip_body_read(req, err);
    req->body_took = apr_time_now() - before;
    if (rc != OK || err->status) {
        return rc != OK ? rc : DECLINED;
    }
    /* 3. the chat */
    if (!parse_chat(req, err)) {
        return DECLINED;
    }
    /* 4. the candidates */
    apr_status_t rv = aip_route_stage(req, err);
    aip_explain_headers(req);
    rv = rv ? rv : aip_balance_stage(req, err);
    if (req->r->connection->aborted) {
        return DONE;
    }
    if (req->dry) {
        return aip_explain_dry_run(req, err);
    }
    if (rv != APR_SUCCESS || !check_model(req, err)) {
        return DECLINED;
    }
    /* 5. the attempts */
    rc = aip_upstream_run(req, err);
    aip_session_remember(req);
    return rc;
}

/* The path of the location with AIDryRunPath behind it, and nothing else, so that a section for it
 * can protect it. Below a pattern any path may be meant: there AIExplainFor has to. */
static bool asks_for_decision(const request_rec *r, const aip_dir_conf_t *conf)
{
    const char *suffix = conf->f.dry_run_path;
    size_t len = strlen(r->uri), n = strlen(suffix);
    if (len < n || strcmp(r->uri + len - n, suffix) != 0) {
        return false;
    }
    return conf->path ? len - n == strlen(conf->path) && memcmp(r->uri, conf->path, len - n) == 0
                      : conf->f.explain_for != NULL;
}

static bool may_run_dry(const aip_request_t *req, aip_error_t *err)
{
    if (req->conf->f.explain != AIP_EXPLAIN_BODY) {
        aip_error_set(err, req->r->pool, HTTP_NOT_FOUND, "invalid_request_error", "dry_run_off",
                      NULL, "dry runs are not enabled here");
    } else if (!aip_may_explain(req)) {
        aip_error_set(err, req->r->pool, HTTP_FORBIDDEN, "permission_error", "dry_run_forbidden",
                      NULL, "this request may not ask for a dry run");
    }
    return err->status == 0;
}

/* A SetHandler inside the location means that handler (server-status), not us. */
static bool other_handler(request_rec *r)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const char *error, *name = core->handler;
    if (core->expr_handler) { /* SetHandler's argument, also when it is a plain word */
        name = ap_expr_str_exec(r, core->expr_handler, &error);
    }
    return name && *name && strcasecmp(name, "none") != 0;
}

int aip_hook_handler(request_rec *r)
{
    const aip_dir_conf_t *conf = aip_dir_conf(r);
    if (!conf->f.enabled || r->main || r->prev || other_handler(r)) {
        return DECLINED;
    }
    const aip_access_t *access = aip_access_of(r);
    if (aip_access_names_file(conf->f.api_key_file) && !(access && access->consumer)) {
        return HTTP_UNAUTHORIZED; /* should some module have kept httpd from asking us */
    }
    aip_request_t *req = create(r, conf);
    /* Range is defined for GET alone (RFC 9110, section 14.2), and an answer is no file. */
    ap_remove_output_filter_byhandle(r->output_filters, "byterange");
    if (!conf->targets) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "AIP0031: AIProxy is on for %s, but no <AITarget> applies to it", r->uri);
        aip_error_set(&req->error, r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error", "no_targets",
                      NULL, "no model is configured here");
        return aip_respond_error(r, &req->error);
    }
    req->dry = asks_for_decision(r, conf);
    if (req->dry && !may_run_dry(req, &req->error)) {
        return aip_respond_error(r, &req->error);
    }
    int rc = answer(req);
    rc = rc == DECLINED ? aip_respond_error(r, &req->error) : rc;
    req->end = apr_time_now();
    return rc;
}
