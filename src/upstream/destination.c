/* SPDX-License-Identifier: Apache-2.0 */
/* Where one attempt goes: the target's endpoint or, when its URL holds templates, a copy of it with
 * the URL that this request makes of them, if AIEgressAllow lets that pass. */
#include "credential.h"

#include "aip/access.h"
#include "aip/egress.h"
#include "aip/template.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* Named groups of <LocationMatch> are in the environment as MATCH_NAME. */
static const char *capture(const request_rec *r, const char *key)
{
    char *name = apr_pstrcat(r->pool, "MATCH_", key, NULL);
    for (char *p = name; *p; p++) {
        *p = *p == '-' ? '_' : (char)apr_toupper(*p);
    }
    return apr_table_get(r->subprocess_env, name);
}

static const char *parameter(const aip_request_t *req, const char *key)
{
    const char *raw = aip_client_param(req, key);
    char *value = raw ? apr_pstrdup(req->r->pool, raw) : NULL;
    return value && ap_unescape_urlencoded(value) == OK ? value : NULL;
}

static const char *look_up(void *baton, const char *source, const char *key)
{
    const aip_request_t *req = baton;
    switch (*source) {
    case 'h':
        return aip_access_client_header(req->r, key);
    case 'q':
        return parameter(req, key);
    default:
        return capture(req->r, key);
    }
}

apr_status_t aip_destination(const aip_request_t *req, const aip_target_t *target,
                             const aip_endpoint_t **endpoint, aip_error_t *err)
{
    const aip_endpoint_t *e = target->endpoint;
    apr_pool_t *pool = req->r->pool;
    const char *text, *error;
    *endpoint = e;
    if (!e->url.template) {
        return APR_SUCCESS;
    }
    aip_endpoint_t *own = apr_pmemdup(pool, e, sizeof *own);
    if (aip_template_expand(e->url.template, look_up, (void *)req, &text, pool, err) !=
        APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (aip_url_parse(text, &own->url, pool, &error) != APR_SUCCESS) {
        return aip_error_set(err, pool, HTTP_BAD_REQUEST, "invalid_request_error",
                             "template_source", NULL, "the URL of the model cannot be made");
    }
    if (!aip_egress_allows(e->egress, &own->url)) {
        ap_log_rerror(
            APLOG_MARK, APLOG_INFO, 0, req->r,
            "AIP0215: target %s: a request asked for %s, which no AIEgressAllow lets pass",
            target->name, own->url.origin);
        return aip_error_set(err, pool, HTTP_FORBIDDEN, "permission_error", "egress_denied", NULL,
                             "this gateway does not go to the host that the request asks for");
    }
    own->proxied = aip_egress_proxied(e->egress, own->url.host);
    *endpoint = own;
    return APR_SUCCESS;
}
