/* SPDX-License-Identifier: Apache-2.0 */
/* SetHandler ai-status: what all children know of the targets, as JSON; and the order to take a
 * target out of service or back, without a restart. Who may read is the location's authorization;
 * orders need a user that httpd has authenticated, or a client on the machine itself. They are
 * JSON, which a foreign page cannot send from a browser. */
#include "aip/access.h"
#include "aip/observe.h"
#include "aip/state.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <jansson.h>
#include <stdatomic.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define BODY_MAX 4096

/* The fields that hold for a list of targets: those of its gateway, or of the section it stands in.
 */
static const aip_location_fields_t *fields_of(const aip_targets_t *targets)
{
    for (int i = 0; i < aip_registry->gateways->nelts; i++) {
        const aip_gateway_t *gateway = &APR_ARRAY_IDX(aip_registry->gateways, i, aip_gateway_t);
        if (gateway->conf->targets == targets) {
            return &gateway->conf->f;
        }
    }
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (section->dir->targets == targets) {
            return &section->dir->f;
        }
    }
    return NULL;
}

static json_t *usage_object(const aip_target_state_t *s, apr_interval_time_t window, apr_time_t now)
{
    static const char *const names[AIP_USAGE_KINDS] = {"total_tokens", "prompt_tokens",
                                                       "completion_tokens", "cost"};
    json_t *object = json_object();
    for (int i = 0; i < AIP_USAGE_KINDS; i++) {
        json_object_set_new(object, names[i], json_real(aip_decay_read(&s->usage[i], now, window)));
    }
    json_object_set_new(object, "other_machines",
                        json_real(aip_decay_read(&s->other_usage[AIP_USAGE_TOTAL], now, window)));
    return object;
}

static json_t *latency_object(const aip_target_state_t *s)
{
    static const char *const names[AIP_LATENCY_KINDS] = {"tpot_ms", "e2e_ms"};
    json_t *object = json_object();
    for (int i = 0; i < AIP_LATENCY_KINDS; i++) {
        double last = aip_decay_last(&s->latency[i]);
        json_object_set_new(object, names[i], last < 0 ? json_null() : json_real(last / 1000));
    }
    return object;
}

static json_t *target_object(const aip_target_t *target, const aip_location_fields_t *f,
                             apr_time_t now)
{
    const aip_target_state_t *s = target->state;
    aip_health_rules_t rules = aip_health_rules(f);
    apr_time_t back = aip_health_back_at(s, &rules, now);
    return json_pack(
        "{s:s, s:s, s:s?, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "name", target->name,
        "provider", target->provider_name, "model", target->f.model_name, "weight",
        (int)target->f.weight, "availability",
        aip_availability_name(aip_health_look(s, &rules, now)), "back_in_ms",
        back ? (json_int_t)apr_time_as_msec(back - now) : (json_int_t)0, "in_flight",
        (json_int_t)atomic_load(&s->in_flight), "fails", (json_int_t)atomic_load(&s->fails),
        "attempts", (json_int_t)atomic_load(&s->attempts), "failures",
        (json_int_t)atomic_load(&s->failures), "answers", (json_int_t)atomic_load(&s->answers),
        "usage", usage_object(s, apr_time_from_msec(f->balancer_usage_window), now), "latency",
        latency_object(s));
}

static void add_count(json_t *object, const char *name, _Atomic(apr_uint64_t) *count)
{
    json_object_set_new(object, name, json_integer((json_int_t)atomic_load(count)));
}

/* What was decided, where the distances came from, and what failed. */
static json_t *routing_object(aip_route_counts_t *counts)
{
    static const char *const failures[AIP_ROUTE_N_FAILURES] = {AIP_ROUTE_FAILURES};
    json_t *reasons = json_object(), *cache = json_object(), *failed = json_object();
    for (int i = 0; i < AIP_ROUTE_N_REASONS; i++) {
        add_count(reasons, aip_reason_name((aip_reason_e)i), &counts->reasons[i]);
    }
    for (int i = 0; i < AIP_ROUTE_N_CACHE; i++) {
        add_count(cache, aip_cache_state_name((aip_cache_state_e)i), &counts->cache[i]);
    }
    for (int i = 0; i < AIP_ROUTE_N_FAILURES; i++) {
        add_count(failed, failures[i], &counts->failures[i]);
    }
    add_count(failed, "store_error", &counts->store_errors);
    return json_pack("{s:o, s:o, s:o}", "decisions", reasons, "cache", cache, "failures", failed);
}

static json_t *gateway_object(const aip_targets_t *targets, apr_pool_t *pool)
{
    const aip_location_fields_t *f = fields_of(targets);
    json_t *list = json_array();
    for (int i = 0; i < targets->n; i++) {
        json_array_append_new(list, target_object(targets->list[i], f, apr_time_now()));
    }
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o}", "server", targets->server, "path", targets->path, "algorithm",
        aip_field_word(&aip_location_table[AIP_L_balancer_algorithm], f->balancer_algorithm, pool),
        "routing", routing_object(targets->counts), "targets", list);
}

static int send_json(request_rec *r, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!text) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_set_content_type(r, "application/json");
    ap_rputs(apr_pstrcat(r->pool, text, "\n", NULL), r);
    free(text);
    return OK;
}

static int refuse(request_rec *r, int status, const char *code, const char *message)
{
    aip_error_t error = {.status = status,
                         .type = status == HTTP_FORBIDDEN ? "permission_error"
                                                          : "invalid_request_error",
                         .code = code,
                         .message = message};
    return aip_respond_error(r, &error);
}

static int show(request_rec *r)
{
    json_t *list = json_array();
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        json_array_append_new(
            list,
            gateway_object(APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *), r->pool));
    }
    return send_json(r, json_pack("{s:s, s:o}", "version", AIP_VERSION, "gateways", list));
}

static bool local(const char *address)
{
    return address && (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0);
}

/* Whoever has an API key may use models, not switch them off. */
static bool may_order(const request_rec *r)
{
    bool user = r->user && !(r->ap_auth_type && strcmp(r->ap_auth_type, "ApiKey") == 0);
    return user || (local(r->connection->client_ip) && local(r->useragent_ip));
}

/* @return the body's length, or -1: too long or broken off */
static long read_body(request_rec *r, char *body)
{
    long len = 0, n = 1;
    if (ap_setup_client_block(r, REQUEST_CHUNKED_DECHUNK) != OK) {
        return -1;
    }
    if (!ap_should_client_block(r)) {
        return 0;
    }
    while (n > 0 && len < BODY_MAX) {
        n = ap_get_client_block(r, body + len, (apr_size_t)(BODY_MAX - len));
        len += n > 0 ? n : 0;
    }
    return n == 0 ? len : -1;
}

/* The target that an order means. @return how many there are */
static int find_target(const char *path, const char *name, const aip_targets_t **targets,
                       const aip_target_t **target)
{
    int found = 0;
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        const aip_targets_t *list = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        for (int k = 0; k < list->n && (!path || strcmp(path, list->path) == 0); k++) {
            if (strcmp(list->list[k]->name, name) == 0) {
                *targets = list;
                *target = list->list[k];
                found++;
            }
        }
    }
    return found;
}

static int carry_out(request_rec *r, const char *name, const char *path, bool drain)
{
    const aip_targets_t *targets;
    const aip_target_t *target;
    int found = find_target(path, name, &targets, &target);
    if (found == 0) {
        return refuse(r, HTTP_NOT_FOUND, "unknown_target", "there is no such target");
    }
    if (found > 1) {
        return refuse(r, HTTP_CONFLICT, "ambiguous_target",
                      "several gateways have a target of that name: add \"path\"");
    }
    atomic_store(&target->state->drained, drain ? 1 : 0);
    ap_log_rerror(APLOG_MARK, APLOG_NOTICE, 0, r, "AIP0053: target %s of %s: %s by %s",
                  target->name, targets->path, drain ? "drained" : "resumed",
                  r->user ? ap_escape_logitem(r->pool, r->user) : r->useragent_ip);
    return send_json(r, target_object(target, fields_of(targets), apr_time_now()));
}

static int order(request_rec *r)
{
    char body[BODY_MAX];
    const char *type = apr_table_get(r->headers_in, "Content-Type");
    const char *name = NULL, *action = NULL, *path = NULL;
    if (!may_order(r)) {
        return refuse(r, HTTP_FORBIDDEN, "not_authorized",
                      "orders need an authenticated user, or a client on this machine");
    }
    if (!type || strncasecmp(type, "application/json", 16) != 0 || (type[16] && type[16] != ';')) {
        return refuse(r, HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type",
                      "send application/json");
    }
    long len = read_body(r, body);
    json_t *json = len > 0 ? json_loadb(body, (size_t)len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    int rc;
    if (json_unpack(json, "{s:s, s:s, s?s}", "target", &name, "action", &action, "path", &path) ||
        (strcmp(action, "drain") != 0 && strcmp(action, "resume") != 0)) {
        rc = refuse(r, HTTP_BAD_REQUEST, "invalid_order",
                    "send {\"target\": NAME, \"action\": \"drain\" or \"resume\"}, with \"path\" "
                    "where the name is not unique");
    } else {
        rc = carry_out(r, name, path, strcmp(action, "drain") == 0);
    }
    json_decref(json);
    return rc;
}

int aip_status_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "ai-status") != 0) {
        return DECLINED;
    }
    if (!aip_acls_permit(r)) {
        return refuse(r, HTTP_FORBIDDEN, "acl_denied", "this request is not permitted here");
    }
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    if (r->method_number == M_GET) {
        return show(r);
    }
    if (r->method_number == M_POST) {
        return order(r);
    }
    apr_table_setn(r->headers_out, "Allow", "GET, POST");
    return refuse(r, HTTP_METHOD_NOT_ALLOWED, "method_not_allowed", "GET and POST are allowed");
}
