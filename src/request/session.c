/* SPDX-License-Identifier: Apache-2.0 */
/* AIRouteSticky: the turns of a session stay with the target of its last answer. A session is known
 * by a digest, its value in AIRouteCache is the target's name. */
#include "routers.h"

#include <apr_strings.h>
#include <http_log.h>
#include <util_cookies.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define NAME_MAX_BYTES 256

static void add(apr_array_header_t *parts, const char *data, size_t len)
{
    APR_ARRAY_PUSH(parts, aip_span_t) = (aip_span_t){data, len};
}

/* What tells the session from others. @param parts  out: NULL: the request has none @param first
 * out: it begins one, whatever others with the same words have done */
static apr_status_t session_parts(aip_request_t *req, apr_array_header_t **parts, bool *first,
                                  aip_error_t *err)
{
    request_rec *r = req->r;
    const aip_sticky_rule_t *rule = &req->conf->f.route_sticky;
    const char *value = NULL;
    *parts = NULL;
    *first = false;
    switch (rule->kind) {
    case AIP_STICKY_OFF:
        return APR_SUCCESS;
    case AIP_STICKY_HEADER:
        value = apr_table_get(r->headers_in, rule->name);
        break;
    case AIP_STICKY_COOKIE:
        ap_cookie_read(r, rule->name, &value, 0);
        break;
    case AIP_STICKY_CONVERSATION:
        if (aip_chat_opening(&req->chat, parts, first, r->pool, err) != APR_SUCCESS) {
            return APR_EGENERAL;
        }
        *parts = (*parts)->nelts ? *parts : NULL;
        return APR_SUCCESS;
    }
    if (value && *value) {
        *parts = apr_array_make(r->pool, 1, sizeof(aip_span_t));
        add(*parts, value, strlen(value));
    }
    return APR_SUCCESS;
}

/* Lengths go in front, so that parts cannot run into each other. */
static void make_key(const aip_request_t *req, const apr_array_header_t *parts, unsigned char *key)
{
    const request_rec *r = req->r;
    const char *who = r->user ? r->user : apr_table_get(r->headers_in, "Authorization");
    const char *head =
        apr_psprintf(r->pool, "session\n%d\n%s\n%s\n%s\n", (int)req->conf->f.route_sticky.kind,
                     r->server->is_virtual ? r->server->server_hostname : "",
                     req->conf->targets->path, who ? who : "");
    apr_size_t len = strlen(head), total = len;
    for (int i = 0; i < parts->nelts; i++) {
        total += sizeof(apr_uint64_t) + APR_ARRAY_IDX(parts, i, aip_span_t).len;
    }
    char *all = apr_palloc(r->pool, total), *p = all + len;
    memcpy(all, head, len);
    for (int i = 0; i < parts->nelts; i++) {
        const aip_span_t part = APR_ARRAY_IDX(parts, i, aip_span_t);
        apr_uint64_t n = part.len;
        memcpy(p, &n, sizeof n);
        memcpy(p + sizeof n, part.data ? part.data : "", part.len);
        p += sizeof n + part.len;
    }
    SHA256((const unsigned char *)all, total, key);
}

apr_status_t aip_session_find(aip_request_t *req, aip_error_t *err)
{
    aip_session_t *session = &req->route.session;
    aip_route_cache_t *cache;
    apr_array_header_t *parts;
    char name[NAME_MAX_BYTES];
    unsigned len = sizeof name;
    bool first;
    session->target = -1;
    if (req->conf->f.route_sticky.kind == AIP_STICKY_OFF ||
        !(cache = aip_route_cache_of(&req->conf->f))) {
        return APR_SUCCESS;
    }
    if (session_parts(req, &parts, &first, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (parts) {
        make_key(req, parts, session->key);
        session->known = true;
        if (!first && aip_route_cache_get(cache, req->r, session->key, name, &len)) {
            session->target = aip_targets_find(req->conf->targets, name, len);
        }
    }
    return APR_SUCCESS;
}

/* How far the session's target is, to compare with the route at `rival`. The catch-all has no
 * distance: it stands where the rival's threshold is. */
static double own_distance(const aip_request_t *req, int own, int rival)
{
    const aip_routes_t *routes = req->conf->targets->routes;
    const aip_decision_t *d = &req->route.decision;
    const double *threshold = aip_route_threshold(routes, rival, &req->route.rules);
    if (own >= 0 && !routes->routes[own].catchall) {
        return (double)d->distances[own];
    }
    return threshold ? *threshold : (double)d->distances[rival];
}

/* The nearest eligible route, if it is nearer than the session's by the margin. */
static bool another_is_nearer(const aip_request_t *req)
{
    const aip_routes_t *routes = req->conf->targets->routes;
    const aip_decision_t *d = &req->route.decision;
    int own = aip_route_of_target(routes, req->route.session.target), rival = -1;
    for (int i = 0; d->distances && i < d->n && rival < 0; i++) {
        rival = d->ranked[i].route == routes->catchall ? -1 : d->ranked[i].route;
    }
    return rival >= 0 && rival != own &&
           (double)d->distances[rival] <
               own_distance(req, own, rival) - req->conf->f.route_sticky_margin.value;
}

void aip_session_apply(aip_request_t *req)
{
    int target = req->route.session.target;
    if (target < 0 || (req->route.barred && req->route.barred[target]) || another_is_nearer(req)) {
        return;
    }
    req->route.preferred = target;
    req->route.reason = AIP_REASON_STICKY;
}

void aip_session_remember(aip_request_t *req)
{
    const aip_location_fields_t *f = &req->conf->f;
    const aip_session_t *session = &req->route.session;
    const aip_target_t *target = req->answered.target;
    aip_route_cache_t *cache = session->known && target ? aip_route_cache_of(f) : NULL;
    if (!cache || !ap_is_HTTP_SUCCESS(req->r->status) || req->answered.cut ||
        req->route.reason == AIP_REASON_EMBED_ERROR) {
        return;
    }
    if (f->route_sticky_return && req->route.reason == AIP_REASON_STICKY) {
        target = req->conf->targets->list[session->target];
    }
    aip_route_cache_put(cache, req->r, session->key, target->name, (unsigned)strlen(target->name),
                        apr_time_from_sec(f->route_sticky_ttl), true);
}
