/* SPDX-License-Identifier: Apache-2.0 */
/* Errors for clients: always JSON in OpenAI's shape. Our own are written here; for those that httpd
 * or another module makes (authentication, limits, bad framing) a filter replaces the HTML that
 * httpd generates. */
#include "aip/access.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_core.h>
#include <util_filter.h>

static ap_filter_rec_t *error_filter;

int aip_respond_error(request_rec *r, const aip_error_t *error)
{
    const char *json = aip_error_json(error, r->pool);
    r->status = error->status;
    ap_set_content_type(r, "application/json");
    ap_set_content_length(r, (apr_off_t)strlen(json));
    ap_rputs(json, r);
    return OK;
}

static const char *error_type(int status)
{
    return status == HTTP_UNAUTHORIZED        ? "authentication_error"
           : status == HTTP_FORBIDDEN         ? "permission_error"
           : status == HTTP_TOO_MANY_REQUESTS ? "rate_limit_error"
           : status >= 500                    ? "gateway_error"
                                              : "invalid_request_error";
}

/* In front of the body that ap_send_error_response() generates. */
static apr_status_t filter_error(ap_filter_t *f, apr_bucket_brigade *in)
{
    request_rec *r = f->r;
    bool eos = !APR_BRIGADE_EMPTY(in) && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(in));
    for (apr_bucket *b = APR_BRIGADE_FIRST(in); b != APR_BRIGADE_SENTINEL(in);
         b = APR_BUCKET_NEXT(b)) {
        eos = eos || APR_BUCKET_IS_EOS(b);
    }
    apr_brigade_cleanup(in);
    if (!eos) {
        return APR_SUCCESS;
    }
    const char *line = ap_get_status_line(r->status);
    aip_error_t error = {.status = r->status,
                         .type = error_type(r->status),
                         .message = apr_pstrcat(r->pool, "the gateway answered: ", line, NULL)};
    const aip_access_t *access = aip_access_of(r);
    if (access && access->error.status == r->status) {
        error = access->error;
    }
    const char *json = aip_error_json(&error, r->pool);
    ap_remove_output_filter(f);
    ap_set_content_type(r, "application/json");
    ap_set_content_length(r, (apr_off_t)strlen(json));
    apr_table_unset(r->headers_out, "Content-Language");
    APR_BRIGADE_INSERT_TAIL(in,
                            apr_bucket_pool_create(json, strlen(json), r->pool, in->bucket_alloc));
    APR_BRIGADE_INSERT_TAIL(in, apr_bucket_eos_create(in->bucket_alloc));
    return ap_pass_brigade(f->next, in);
}

/* An operator's own ErrorDocument keeps its body: a URL comes as an internal redirect, a text as
 * the response itself. */
static bool own_document(request_rec *r)
{
    const char *document = ap_response_code_string(r, ap_index_of_response(r->status));
    return r->prev || (document && *document == '"');
}

/* What httpd refuses while it reads the request's head has not been looked up yet: then the path
 * tells, if it could be read. */
static bool in_gateway(request_rec *r)
{
    ap_conf_vector_t *known = r->per_dir_config;
    if (known == r->server->lookup_defaults && r->uri && *r->uri == '/') {
        ap_location_walk(r);
    }
    bool enabled = r->per_dir_config && aip_dir_conf(r)->f.enabled;
    r->per_dir_config = known;
    return enabled;
}

void aip_hook_insert_error_filter(request_rec *r)
{
    const aip_access_t *access = aip_access_of(r);
    bool ours = access && access->error.status == r->status; /* whatever would have handled it */
    if (r->status >= 400 && !r->main && (ours || in_gateway(r)) && !own_document(r)) {
        ap_add_output_filter_handle(error_filter, NULL, r, r->connection);
    }
}

void aip_register_filters(void)
{
    error_filter = ap_register_output_filter("AI_ERROR", filter_error, NULL, AP_FTYPE_RESOURCE - 1);
}
