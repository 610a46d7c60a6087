/* SPDX-License-Identifier: Apache-2.0 */
/* The request's header checks and body. Read once into memory, up to AIMaxRequestBodySize, never to
 * a file. */
#include "aip/large.h"
#include "aip/request.h"

#include <apr_strings.h>
#include <http_log.h>
#include <http_protocol.h>
#include <util_filter.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define FIRST_ROOM 8192
#define READ_SIZE 65536

static bool has_input_filter(const request_rec *r, const char *name)
{
    for (const ap_filter_t *f = r->input_filters; f; f = f->next) {
        if (strcasecmp(f->frec->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* application/json, application/anything+json, or no type at all, as Kong takes it. */
static bool type_ok(const char *type)
{
    apr_size_t len = type ? strcspn(type, "; \t") : 0;
    if (!type || !len) {
        return true;
    }
    return (len == 16 && strncasecmp(type, "application/json", 16) == 0) ||
           (len > 17 && strncasecmp(type, "application/", 12) == 0 &&
            strncasecmp(type + len - 5, "+json", 5) == 0);
}

/* Whether the body is compressed; after mod_deflate's input filter has run: with what it does not
 * know. */
static bool encoded(const request_rec *r)
{
    const char *encoding = apr_table_get(r->headers_in, "Content-Encoding");
    return encoding && *encoding && strcasecmp(encoding, "identity") != 0;
}

static apr_status_t bad_encoding(const request_rec *r, aip_error_t *err)
{
    return aip_error_set(
        err, r->pool, HTTP_UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", "unsupported_encoding",
        NULL, "the request's Content-Encoding is not supported; send the body uncompressed");
}

static apr_status_t too_long(const aip_request_t *req, aip_error_t *err)
{
    return aip_error_set(err, req->r->pool, HTTP_REQUEST_ENTITY_TOO_LARGE, "invalid_request_error",
                         "body_too_large", NULL,
                         "the request body is longer than %" APR_INT64_T_FMT " bytes",
                         req->conf->f.max_request_body_size);
}

apr_status_t aip_request_check(aip_request_t *req, aip_error_t *err)
{
    const request_rec *r = req->r;
    const char *type = apr_table_get(r->headers_in, "Content-Type");
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_int64_t limit = req->conf->f.max_request_body_size;
    if (!length && !apr_table_get(r->headers_in, "Transfer-Encoding") &&
        r->proto_num < HTTP_VERSION(2, 0)) {
        return aip_error_set(err, r->pool, HTTP_BAD_REQUEST, "invalid_request_error",
                             "missing_body", NULL, "the request has no body; send a chat as JSON");
    }
    if (!type_ok(type)) {
        return aip_error_set(err, r->pool, HTTP_UNSUPPORTED_MEDIA_TYPE, "invalid_request_error",
                             "unsupported_media_type", NULL,
                             "the request's Content-Type must be application/json");
    }
    if (encoded(r) && !has_input_filter(r, "deflate")) {
        return bad_encoding(r, err);
    }
    if (length && limit && apr_atoi64(length) > limit) {
        return too_long(req, err);
    }
    return APR_SUCCESS;
}

typedef struct buffer_t {
    char *data;
    apr_size_t len, room;
} buffer_t;

static void append(buffer_t *buffer, const char *data, apr_size_t len, apr_pool_t *pool)
{
    if (buffer->len + len > buffer->room) {
        apr_size_t room = 2 * (buffer->len + len);
        buffer->data = aip_large_grow(pool, buffer->data, buffer->len, buffer->room, room);
        buffer->room = room;
    }
    memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
}

/* Moves a brigade into the buffer. @return APR_EOF at the end of the body, APR_ENOSPC beyond the
 * limit */
static apr_status_t take(buffer_t *buffer, apr_bucket_brigade *bb, apr_int64_t limit,
                         apr_pool_t *pool)
{
    apr_status_t rv = APR_SUCCESS;
    for (apr_bucket *b = APR_BRIGADE_FIRST(bb); rv == APR_SUCCESS && b != APR_BRIGADE_SENTINEL(bb);
         b = APR_BUCKET_NEXT(b)) {
        const char *data;
        apr_size_t len;
        if (APR_BUCKET_IS_EOS(b)) {
            rv = APR_EOF;
        } else if (!APR_BUCKET_IS_METADATA(b)) {
            rv = apr_bucket_read(b, &data, &len, APR_BLOCK_READ);
            if (rv == APR_SUCCESS && limit && (apr_int64_t)(buffer->len + len) > limit) {
                rv = APR_ENOSPC;
            } else if (rv == APR_SUCCESS) {
                append(buffer, data, len, pool);
            }
        }
    }
    apr_brigade_cleanup(bb);
    return rv;
}

/* A filter that has answered itself (LimitRequestBody, bad chunks) says AP_FILTER_ERROR: then
 * nothing is left to say. */
static int read_failed(const aip_request_t *req, apr_status_t rv, aip_error_t *err)
{
    request_rec *r = req->r;
    if (rv == APR_ENOSPC) {
        too_long(req, err);
        return OK;
    }
    int status = ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
    if (status == AP_FILTER_ERROR || rv == AP_FILTER_ERROR) {
        return AP_FILTER_ERROR;
    }
    r->connection->keepalive = AP_CONN_CLOSE;
    ap_log_rerror(APLOG_MARK, APLOG_INFO, rv, r, "AIP0030: the request body could not be read");
    aip_error_set(err, r->pool, status, "invalid_request_error", "incomplete_body", NULL,
                  status == HTTP_REQUEST_TIME_OUT
                      ? "the request body did not arrive in time"
                      : "the request body could not be read to its end");
    return OK;
}

int aip_body_read(aip_request_t *req, aip_error_t *err)
{
    request_rec *r = req->r;
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_int64_t limit = req->conf->f.max_request_body_size,
                announced = length ? apr_atoi64(length) : 0;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    buffer_t buffer = {.room = announced > 0 && announced <= (limit ? limit : FIRST_ROOM)
                                   ? (apr_size_t)announced + 1
                                   : FIRST_ROOM};
    apr_status_t rv = APR_SUCCESS;
    buffer.data = aip_large_alloc(r->pool, buffer.room);
    while (rv == APR_SUCCESS) {
        rv = ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES, APR_BLOCK_READ, READ_SIZE);
        if (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(bb)) {
            rv = APR_EGENERAL;
        }
        rv = rv == APR_SUCCESS ? take(&buffer, bb, limit, r->pool) : rv;
    }
    if (rv != APR_EOF || r->connection->aborted) {
        return read_failed(req, rv == APR_EOF ? APR_ECONNABORTED : rv, err);
    }
    req->body = (aip_span_t){buffer.data, buffer.len};
    if (!buffer.len) {
        aip_error_set(err, r->pool, HTTP_BAD_REQUEST, "invalid_request_error", "missing_body", NULL,
                      "the request has no body; send a chat as JSON");
    } else if (encoded(r)) {
        bad_encoding(r, err);
    }
    return OK;
}
