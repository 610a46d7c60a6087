/* SPDX-License-Identifier: Apache-2.0 */
/* SetHandler ai-status: what all children know of the gateways, as a page for browsers and as JSON
 * for everybody else; and the order to take a target out of service or back, without a restart. Who
 * may read is the location's authorization; orders need a user that httpd has authenticated, or a
 * client on the machine itself. They are JSON, which a foreign page cannot send from a browser, or
 * forms of our own page, see status_form.c. */
#include "status.h"

#include "aip/access.h"
#include "aip/signals.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <stdatomic.h>
#include <stdlib.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define BODY_MAX 4096

/* ---- which form ---- */

/* The quality that Accept gives to a type by its full name; -1: it does not name it. */
static double quality(const char *accept, const char *type)
{
    size_t len = strlen(type);
    for (const char *p = accept; p && *p; p += *p == ',') {
        p += strspn(p, " \t");
        size_t n = strcspn(p, ",");
        if (strncasecmp(p, type, len) == 0 && strcspn(p, ",; \t") == len) {
            const char *q = ap_strstr_c(p, "q=");
            return q && q < p + n ? strtod(q + 2, NULL) : 1;
        }
        p += n;
    }
    return -1;
}

/* Browsers name text/html; whatever does not gets JSON, as it always has. */
static bool wants_page(request_rec *r)
{
    const char *accept = apr_table_get(r->headers_in, "Accept");
    if (r->args && ap_strstr_c(r->args, "format=")) {
        return ap_strstr_c(r->args, "format=html") != NULL;
    }
    apr_table_mergen(r->headers_out, "Vary", "Accept");
    double html = quality(accept, "text/html");
    return html > 0 && html >= quality(accept, "application/json");
}

/* ---- JSON ---- */

/* Takes the text out of the reach of malloc(). @param make  new reference */
static const char *dumped(json_t *json, apr_pool_t *pool)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    const char *kept = text ? apr_pstrcat(pool, text, "\n", NULL) : NULL;
    free(text);
    json_decref(json);
    return kept;
}

static int send_json(request_rec *r, const char *text)
{
    if (!text) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_set_content_type(r, "application/json");
    ap_rputs(text, r);
    return OK;
}

static int show(request_rec *r)
{
    sigset_t before;
    if (wants_page(r)) {
        return aip_form_show(r);
    }
    aip_signals_block(&before);
    const char *text = dumped(aip_status_document(r), r->pool);
    aip_signals_restore(&before);
    return send_json(r, text);
}

/* ---- orders ---- */

static bool local(const char *address)
{
    return address && (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0);
}

/* Whoever has an API key may use models, not switch them off. */
bool aip_status_may_order(const request_rec *r)
{
    bool user = r->user && !(r->ap_auth_type && strcmp(r->ap_auth_type, "ApiKey") == 0);
    return user || (local(r->connection->client_ip) && local(r->useragent_ip));
}

long aip_status_read_body(request_rec *r, char *body, long max)
{
    long len = 0, n = 1;
    if (ap_setup_client_block(r, REQUEST_CHUNKED_DECHUNK) != OK) {
        return -1;
    }
    if (!ap_should_client_block(r)) {
        return 0;
    }
    while (n > 0 && len < max) {
        n = ap_get_client_block(r, body + len, (apr_size_t)(max - len));
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

void aip_status_carry_out(request_rec *r, const aip_targets_t *targets, const aip_target_t *target,
                          bool drain)
{
    atomic_store(&target->state->drained, drain ? 1 : 0);
    ap_log_rerror(APLOG_MARK, APLOG_NOTICE, 0, r, "AIP0053: target %s of %s: %s by %s",
                  ap_escape_logitem(r->pool, target->name), targets->path,
                  drain ? "drained" : "resumed",
                  r->user ? ap_escape_logitem(r->pool, r->user) : r->useragent_ip);
}

static int carry_out(request_rec *r, const char *name, const char *path, bool drain)
{
    const aip_targets_t *targets;
    const aip_target_t *target;
    sigset_t before;
    int found = find_target(path, name, &targets, &target);
    if (found == 0) {
        return aip_status_refuse(r, HTTP_NOT_FOUND, "unknown_target", "there is no such target");
    }
    if (found > 1) {
        return aip_status_refuse(r, HTTP_CONFLICT, "ambiguous_target",
                                 "several gateways have a target of that name: add \"path\"");
    }
    aip_status_carry_out(r, targets, target, drain);
    aip_signals_block(&before);
    const char *text = dumped(
        aip_status_target(target, aip_status_fields(targets), apr_time_now(), r->pool), r->pool);
    aip_signals_restore(&before);
    return send_json(r, text);
}

/* What the body says. @return false: it is no order */
static bool read_order(const char *body, long len, const char **name, const char **action,
                       const char **path, apr_pool_t *pool)
{
    sigset_t before;
    const char *n = NULL, *a = NULL, *p = NULL;
    aip_signals_block(&before);
    json_t *json = len > 0 ? json_loadb(body, (size_t)len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    bool good = json_unpack(json, "{s:s, s:s, s?s}", "target", &n, "action", &a, "path", &p) == 0;
    *name = apr_pstrdup(pool, n);
    *action = apr_pstrdup(pool, a);
    *path = apr_pstrdup(pool, p);
    json_decref(json);
    aip_signals_restore(&before);
    return good && (strcmp(*action, "drain") == 0 || strcmp(*action, "resume") == 0);
}

static bool is_type(const char *type, const char *wanted)
{
    return type && strncasecmp(type, wanted, strlen(wanted)) == 0 &&
           strcspn(type, "; \t") == strlen(wanted);
}

static int order(request_rec *r)
{
    char body[BODY_MAX];
    const char *type = apr_table_get(r->headers_in, "Content-Type");
    const char *name, *action, *path;
    if (is_type(type, "application/x-www-form-urlencoded")) {
        return aip_form_handle(r);
    }
    if (!aip_status_may_order(r)) {
        return aip_status_refuse(r, HTTP_FORBIDDEN, "not_authorized",
                                 "orders need an authenticated user, or a client on this machine");
    }
    if (!is_type(type, "application/json")) {
        return aip_status_refuse(r, HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type",
                                 "send application/json");
    }
    long len = aip_status_read_body(r, body, BODY_MAX);
    if (!read_order(body, len, &name, &action, &path, r->pool)) {
        return aip_status_refuse(
            r, HTTP_BAD_REQUEST, "invalid_order",
            "send {\"target\": NAME, \"action\": \"drain\" or \"resume\"}, with \"path\" "
            "where the name is not unique");
    }
    return carry_out(r, name, path, strcmp(action, "drain") == 0);
}

int aip_status_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "ai-status") != 0) {
        return DECLINED;
    }
    if (!aip_acls_permit(r)) {
        return aip_status_refuse(r, HTTP_FORBIDDEN, "acl_denied",
                                 "this request is not permitted here");
    }
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->headers_out, "X-Content-Type-Options", "nosniff");
    if (r->method_number == M_GET) {
        return show(r);
    }
    if (r->method_number == M_POST) {
        return order(r);
    }
    apr_table_setn(r->headers_out, "Allow", "GET, POST");
    return aip_status_refuse(r, HTTP_METHOD_NOT_ALLOWED, "method_not_allowed",
                             "GET and POST are allowed");
}
