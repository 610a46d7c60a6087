/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the head of an upstream request. Nothing of the client's head is forwarded but a short
 * list of fields that concern the request itself. */
#include "credential.h"

#include "aip/access.h"
#include "aip/identity.h"
#include "aip/traces.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

static const char *const forwarded[] = {"OpenAI-Beta", "Idempotency-Key", "X-Client-Request-Id",
                                        "X-Request-Id"};

static const char *join_query(const char *query, const char *name, const char *raw,
                              apr_pool_t *pool)
{
    return apr_pstrcat(pool, query ? query : "", query ? "&" : "", name, "=", raw, NULL);
}

static const char *query_of(const aip_request_t *req, const aip_target_t *target,
                            const aip_credential_t *credential)
{
    apr_pool_t *pool = req->r->pool;
    const aip_target_fields_t *f = &target->f;
    const char *query = credential->endpoint->url.query, *raw;
    if (target->provider->api_version && !(query && ap_strstr_c(query, "api-version="))) {
        raw = aip_client_param(req, "api-version");
        query = join_query(query, "api-version",
                           raw ? raw : aip_url_encode(f->azure_api_version, pool), pool);
    }
    if (credential->param) {
        query = apr_pstrcat(pool, query ? query : "", query ? "&" : "", credential->param, NULL);
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

/* Adds the fields of AWS's signature, which covers path, query and body. */
static const char *sign(const aip_request_t *req, const aip_target_t *target,
                        const aip_credential_t *credential, const char *query, aip_span_t body,
                        const char *fields)
{
    const aip_url_t *url = &credential->endpoint->url;
    static const char *const headers[][2] = {{"Content-Type", "application/json"}};
    aip_sigv4_request_t request = {.method = "POST",
                                   .headers = headers,
                                   .n_headers = 1,
                                   .host = url->authority,
                                   .path = url->path,
                                   .query = query,
                                   .region = aip_aws_region(target->f.bedrock_aws_region),
                                   .service = "bedrock",
                                   .body = body,
                                   .now = apr_time_now()};
    const char *lines, *error;
    if (!request.region ||
        aip_sigv4_sign(&request, &credential->aws, req->r->pool, &lines, &error) != APR_SUCCESS) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, req->r,
                      "AIP0212: target %s: the request cannot be signed: %s", target->name,
                      request.region ? error : "there is no region");
        return NULL;
    }
    return apr_pstrcat(req->r->pool, fields, lines, NULL);
}

aip_span_t aip_request_head(const aip_request_t *req, const aip_target_t *target,
                            const aip_credential_t *credential, aip_span_t body)
{
    const request_rec *r = req->r;
    const aip_url_t *url = &credential->endpoint->url;
    const char *query = query_of(req, target, credential), *fields = credential->fields;
    for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++) {
        if (!credential->header_name || strcasecmp(forwarded[i], credential->header_name) != 0) {
            fields =
                add_field(fields, forwarded[i], aip_access_client_header(r, forwarded[i]), r->pool);
        }
    }
    fields = aip_trace_fields(req, target, fields);
    if (credential->aws.access_key) {
        fields = sign(req, target, credential, query, body, fields);
    }
    if (!fields) {
        return (aip_span_t){NULL, 0};
    }
    /* not apr_psprintf(), which takes eight times as long for each byte */
    const char *head =
        apr_pstrcat(r->pool, "POST ", url->path, query ? "?" : "", query ? query : "",
                    " HTTP/1.1" CRLF "Host: ", url->authority,
                    CRLF "Content-Type: application/json" CRLF "Accept: ",
                    req->stream ? "text/event-stream, application/json" : "application/json",
                    CRLF "Accept-Encoding: identity" CRLF
                         "User-Agent: mod_ai_proxy_adv/" AIP_VERSION CRLF "Content-Length: ",
                    apr_off_t_toa(r->pool, (apr_off_t)body.len), CRLF, fields, CRLF, NULL);
    return (aip_span_t){head, strlen(head)};
}
