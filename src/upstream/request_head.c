/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the head of an upstream request. Nothing of the client's head is forwarded but a short
 * list of fields that concern the request itself, and the client's own credential where
 * allow_override says so; an API key of the gateway's is none of those. */
#include "aip/access.h"
#include "aip/upstream.h"

#include <apr_strings.h>
#include <http_core.h>

static const char *const forwarded[] = {"OpenAI-Beta",  "Idempotency-Key", "X-Client-Request-Id",
                                        "X-Request-Id", "traceparent",     "tracestate"};
static const char *const client_credentials[] = {"Authorization", "Api-Key", "X-Api-Key"};

/* The raw value of a query parameter of the client, or NULL. */
static const char *client_param(const request_rec *r, const char *name, apr_pool_t *pool)
{
    apr_size_t len = strlen(name);
    for (const char *p = r->args; p && *p;
         p = ap_strchr_c(p, '&') ? ap_strchr_c(p, '&') + 1 : NULL) {
        if (strncmp(p, name, len) == 0 && p[len] == '=') {
            const char *value = p + len + 1, *end = ap_strchr_c(value, '&');
            value = end ? apr_pstrmemdup(pool, value, (apr_size_t)(end - value)) : value;
            char *decoded = apr_pstrdup(pool, value);
            ap_unescape_url(decoded);
            return aip_access_is_key(r, decoded) ? NULL : value;
        }
    }
    return NULL;
}

static const char *join_query(const char *query, const char *name, const char *raw,
                              apr_pool_t *pool)
{
    return apr_pstrcat(pool, query ? query : "", query ? "&" : "", name, "=", raw, NULL);
}

static const char *query_of(const aip_request_t *req, const aip_target_t *target)
{
    apr_pool_t *pool = req->r->pool;
    const aip_target_fields_t *f = &target->f;
    const char *query = target->endpoint->url.query, *raw;
    if (target->provider->api_version && !(query && ap_strstr_c(query, "api-version="))) {
        raw = client_param(req->r, "api-version", pool);
        query = join_query(query, "api-version",
                           raw ? raw : aip_url_encode(f->azure_api_version, pool), pool);
    }
    if (f->auth_param_name && f->auth_param_location == AIP_PARAM_QUERY) {
        const char *name = aip_url_encode(f->auth_param_name, pool);
        raw = f->auth_allow_override ? client_param(req->r, name, pool) : NULL;
        query =
            join_query(query, name, raw ? raw : aip_url_encode(f->auth_param_value, pool), pool);
    }
    return query;
}

static const char *add_field(const char *fields, const char *name, const char *value,
                             apr_pool_t *pool)
{
    return value && aip_header_value_ok(value)
               ? apr_pstrcat(pool, fields, name, ": ", value, CRLF, NULL)
               : fields;
}

static const char *credential(const aip_request_t *req, const aip_target_t *target)
{
    const request_rec *r = req->r;
    const aip_target_fields_t *f = &target->f;
    const char *fields = "";
    if (f->auth_header_name) {
        const char *own =
            f->auth_allow_override ? aip_access_client_header(r, f->auth_header_name) : NULL;
        return add_field("", f->auth_header_name, own ? own : f->auth_header_value, r->pool);
    }
    for (size_t i = 0;
         f->auth_allow_override && i < sizeof client_credentials / sizeof *client_credentials;
         i++) {
        fields = add_field(fields, client_credentials[i],
                           aip_access_client_header(r, client_credentials[i]), r->pool);
    }
    return fields;
}

aip_span_t aip_request_head(const aip_request_t *req, const aip_target_t *target,
                            apr_size_t body_len)
{
    const request_rec *r = req->r;
    const aip_url_t *url = &target->endpoint->url;
    const char *query = query_of(req, target), *fields = credential(req, target);
    for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++) {
        if (!target->f.auth_header_name ||
            strcasecmp(forwarded[i], target->f.auth_header_name) != 0) {
            fields =
                add_field(fields, forwarded[i], aip_access_client_header(r, forwarded[i]), r->pool);
        }
    }
    const char *head = apr_psprintf(
        r->pool,
        "POST %s%s%s HTTP/1.1" CRLF "Host: %s" CRLF "Content-Type: application/json" CRLF
        "Accept: %s" CRLF "Accept-Encoding: identity" CRLF
        "User-Agent: mod_ai_proxy_adv/" AIP_VERSION CRLF "Content-Length: %" APR_SIZE_T_FMT CRLF
        "%s" CRLF,
        url->path, query ? "?" : "", query ? query : "", url->authority,
        req->stream ? "text/event-stream, application/json" : "application/json", body_len, fields);
    return (aip_span_t){head, strlen(head)};
}
