/* SPDX-License-Identifier: Apache-2.0 */
/* Guards: which targets may take a request, before anything is embedded. AIRouteForbid bars a
 * target, AIRouteForce all others, AITargetAccepts those that cannot do what the request needs,
 * AIAclsAllow and AIAclsDeny those that the client may not use. */
#include "routers.h"

#include "aip/access.h"

#include <ap_expr.h>
#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

bool aip_may_explain(const aip_request_t *req)
{
    const char *text = req->conf->f.explain_for, *error = NULL;
    if (!text) {
        return true;
    }
    const ap_expr_info_t *expression =
        apr_hash_get(aip_registry->expressions, text, APR_HASH_KEY_STRING);
    return expression && ap_expr_exec(req->r, expression, &error) > 0 && !error;
}

typedef enum verdict_e { NO, YES, UNKNOWN } verdict_e;

/* @return UNKNOWN: one cannot be evaluated, and none of those before it is true */
static verdict_e any_true(request_rec *r, const apr_array_header_t *list, const char *directive,
                          const aip_target_t *target)
{
    for (int i = 0; list && i < list->nelts; i++) {
        const char *error = NULL;
        int rc = ap_expr_exec(r, APR_ARRAY_IDX(list, i, const ap_expr_info_t *), &error);
        if (rc < 0 || error) {
            ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                          "AIP0045: target %s: %s cannot be evaluated: %s", target->name, directive,
                          error ? error : "no reason given");
            return UNKNOWN;
        }
        if (rc > 0) {
            return YES;
        }
    }
    return NO;
}

static bool reads_needs(const aip_targets_t *targets)
{
    for (int i = 0; i < targets->n; i++) {
        if (targets->list[i]->f.set[AIP_T_accepts]) {
            return true;
        }
    }
    return false;
}

static aip_bar_e bar_of(const aip_request_t *req, const aip_target_t *target)
{
    if (aip_acls_bar(req, target)) {
        return AIP_BAR_ACL;
    }
    if (any_true(req->r, target->forbid, "AIRouteForbid", target) != NO) {
        return AIP_BAR_FORBIDDEN;
    }
    if (target->f.set[AIP_T_accepts] &&
        req->route.needs & ~(target->f.accepts | (unsigned)AIP_NEED_TEXT)) {
        return AIP_BAR_INCAPABLE;
    }
    return AIP_BAR_NONE;
}

apr_status_t aip_guards(aip_request_t *req, aip_error_t *err)
{
    const aip_targets_t *targets = req->conf->targets;
    unsigned char *barred, *forced;
    bool any_barred = false, any_forced = false;
    if (!targets->guarded && !req->facts) {
        return APR_SUCCESS;
    }
    if (reads_needs(targets) &&
        aip_chat_needs(&req->chat, &req->route.needs, req->r->pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    barred = apr_pcalloc(req->r->pool, (apr_size_t)targets->n);
    forced = apr_pcalloc(req->r->pool, (apr_size_t)targets->n);
    for (int i = 0; i < targets->n; i++) {
        const aip_target_t *target = targets->list[i];
        barred[i] = (unsigned char)bar_of(req, target);
        verdict_e force = any_true(req->r, target->force, "AIRouteForce", target);
        if (force == UNKNOWN) { /* it may be what keeps a request in the house */
            return aip_error_set(err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error",
                                 "guard_failed", NULL, "it cannot be told who may answer");
        }
        forced[i] = force == YES;
        any_forced = any_forced || forced[i];
    }
    for (int i = 0; i < targets->n; i++) {
        if (any_forced && !forced[i] && !barred[i]) {
            barred[i] = AIP_BAR_NOT_FORCED;
        }
        any_barred = any_barred || barred[i];
    }
    req->route.barred = any_barred ? barred : NULL;
    req->route.reason = any_forced ? AIP_REASON_FORCED : AIP_REASON_NONE;
    for (int i = 0; i < targets->n; i++) {
        if (!barred[i]) {
            return APR_SUCCESS;
        }
    }
    return aip_guards_refuse(req, err);
}

/* "tools, images" */
static const char *need_names(const aip_request_t *req)
{
    const aip_field_t *row = &aip_target_table[AIP_T_accepts];
    apr_pool_t *pool = req->r->pool;
    const char *names = NULL;
    for (int i = 1; req->route.needs >> i; i++) {
        if (req->route.needs >> i & 1) {
            const char *word = aip_field_word(row, i, pool);
            names = names ? apr_pstrcat(pool, names, ", ", word, NULL) : word;
        }
    }
    return names;
}

/* Rules are why nobody is left; that others were forced plays no part. */
static bool only_acls(const aip_request_t *req)
{
    bool acl = false;
    for (int i = 0; i < req->conf->targets->n; i++) {
        int bar = req->route.barred[i];
        if (bar == AIP_BAR_FORBIDDEN || bar == AIP_BAR_INCAPABLE) {
            return false;
        }
        acl = acl || bar == AIP_BAR_ACL;
    }
    return acl;
}

apr_status_t aip_guards_refuse(const aip_request_t *req, aip_error_t *err)
{
    if (only_acls(req)) {
        return aip_error_set(err, req->r->pool, HTTP_FORBIDDEN, "permission_error", "acl_denied",
                             NULL, "this request is not permitted here");
    }
    for (int i = 0; i < req->conf->targets->n; i++) {
        if (req->route.barred[i] == AIP_BAR_INCAPABLE) {
            return aip_error_set(err, req->r->pool, HTTP_BAD_REQUEST, "invalid_request_error",
                                 "no_capable_target", NULL,
                                 "no model that may answer here can do what the request needs: %s",
                                 need_names(req));
        }
    }
    return aip_error_set(err, req->r->pool, HTTP_FORBIDDEN, "permission_error",
                         "no_permitted_target", NULL, "no model is allowed to answer this request");
}
