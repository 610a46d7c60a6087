/* SPDX-License-Identifier: Apache-2.0 */
/* The embeddings call on the request path: the same pooled exchange as for targets, so that
 * connections are kept and a client that leaves ends it. No header of the client goes along, unless
 * allow_override asks for its credential. */
#include "credential.h"

#include "aip/access.h"
#include "aip/embed_texts.h"
#include "aip/large.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define ANSWER_MAX (4u << 20)

typedef struct answer_t {
    apr_pool_t *pool;
    int status;
    char *data;
    size_t len, room;
} answer_t;

static aip_sink_e on_head(void *ctx, const aip_http1_response_t *response)
{
    answer_t *answer = ctx;
    answer->status = response->status;
    return answer->status == 200 ? AIP_SINK_CONTINUE : AIP_SINK_DRAIN;
}

static aip_sink_e on_body(void *ctx, const char *data, size_t len)
{
    answer_t *answer = ctx;
    if (answer->status != 200) {
        return AIP_SINK_CONTINUE;
    }
    if (answer->len + len > ANSWER_MAX) {
        return AIP_SINK_STOP;
    }
    if (answer->len + len > answer->room) {
        size_t room = 2 * (answer->len + len) + 16384;
        answer->data = aip_large_grow(answer->pool, answer->data, answer->len, answer->room, room);
        answer->room = room;
    }
    memcpy(answer->data + answer->len, data, len);
    answer->len += len;
    return AIP_SINK_CONTINUE;
}

static aip_sink_e on_wait(void *ctx)
{
    (void)ctx;
    return AIP_SINK_CONTINUE;
}

/* The client's own, where the section lets it have one; or NULL. */
static const char *own_credential(const aip_request_t *req, const aip_embedder_conf_t *conf)
{
    const char *own = req->conf->f.embeddings_auth_allow_override && conf->header_name
                          ? aip_access_client_header(req->r, conf->header_name)
                          : NULL;
    return own && *own && aip_header_value_ok(own) ? own : NULL;
}

/* @param conf  with its references resolved */
static aip_span_t head(const aip_request_t *req, const aip_embedder_conf_t *conf,
                       const aip_endpoint_t *endpoint, apr_size_t body_len)
{
    const request_rec *r = req->r;
    const char *query = endpoint->url.query, *credential = "";
    if (conf->param_name && !conf->param_in_body) {
        query = apr_pstrcat(r->pool, query ? query : "", query ? "&" : "",
                            aip_url_encode(conf->param_name, r->pool), "=",
                            aip_url_encode(conf->param_value, r->pool), NULL);
    }
    if (conf->header_name) {
        const char *own = own_credential(req, conf);
        credential = apr_pstrcat(r->pool, conf->header_name, ": ", own ? own : conf->header_value,
                                 CRLF, NULL);
    }
    const char *text = apr_psprintf(r->pool,
                                    "POST %s%s%s HTTP/1.1" CRLF "Host: %s" CRLF
                                    "Content-Type: application/json" CRLF
                                    "Accept: application/json" CRLF "Accept-Encoding: identity" CRLF
                                    "User-Agent: mod_ai_proxy_adv/" AIP_VERSION CRLF
                                    "Content-Length: %" APR_SIZE_T_FMT CRLF "%s" CRLF,
                                    endpoint->url.path, query ? "?" : "", query ? query : "",
                                    endpoint->url.authority, body_len, credential);
    return (aip_span_t){text, strlen(text)};
}

static apr_status_t failed(const aip_request_t *req, const aip_http1_result_t *result,
                           const answer_t *answer, aip_error_t *err)
{
    if (result->outcome == AIP_OUTCOME_OK || result->outcome == AIP_OUTCOME_WITHHELD) {
        return aip_error_set(err, req->r->pool, HTTP_BAD_GATEWAY, "gateway_error",
                             "embeddings_status", NULL,
                             "the embeddings provider answered with status %d", answer->status);
    }
    bool timeout = result->outcome == AIP_OUTCOME_CONNECT_TIMEOUT ||
                   result->outcome == AIP_OUTCOME_FIRST_BYTE_TIMEOUT ||
                   result->outcome == AIP_OUTCOME_IDLE_TIMEOUT ||
                   result->outcome == AIP_OUTCOME_TOTAL_TIMEOUT ||
                   result->outcome == AIP_OUTCOME_WRITE_TIMEOUT;
    return aip_error_set(
        err, req->r->pool, timeout ? HTTP_GATEWAY_TIME_OUT : HTTP_BAD_GATEWAY, "gateway_error",
        result->outcome == AIP_OUTCOME_CLIENT_GONE ? "client_gone"
        : timeout                                  ? "embeddings_timeout"
                                                   : "embeddings_unreachable",
        NULL, "the embeddings provider did not answer: %s", aip_outcome_name(result->outcome));
}

/* One call with a resolved credential. An embedding is cheap and has no side effect: a dead pooled
 * connection is replaced once. */
static void ask(aip_request_t *req, const aip_embedder_conf_t *conf, const aip_endpoint_t *endpoint,
                aip_span_t text, apr_time_t deadline, answer_t *answer, aip_http1_result_t *result)
{
    apr_pool_t *pool = req->r->pool;
    aip_span_t body = aip_router_request(conf, &text, 1, pool);
    aip_http1_request_t request = {.head = head(req, conf, endpoint, body.len), .body = body};
    aip_http1_limits_t limits = {
        .write_timeout = conf->timeout, .read_timeout = conf->timeout, .deadline = deadline};
    *answer = (answer_t){.pool = pool};
    aip_http1_sink_t sink = {
        .ctx = answer, .on_head = on_head, .on_body = on_body, .on_wait = on_wait};
    *result = (aip_http1_result_t){0};
    for (int tries = 0; tries < 2; tries++) {
        aip_backend_t *backend = aip_backend_open(req->r, endpoint, deadline, &result->outcome);
        if (!backend) {
            break;
        }
        bool reused = aip_backend_reused(backend);
        aip_http1_exchange(aip_backend_conn(backend), &request, &limits, &sink, result, pool);
        aip_backend_close(backend, result->reusable);
        if (result->outcome != AIP_OUTCOME_DROP || !reused) {
            break;
        }
    }
    aip_credential_wipe(&request.head);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* After a 401: whether the vault knows another credential by now. */
static bool renew(const aip_embedder_conf_t *written, aip_embedder_conf_t *conf, apr_time_t end,
                  apr_pool_t *pool)
{
    aip_embedder_conf_t fresh;
    aip_error_t err = {0};
    if (aip_embedder_refused(written, conf, pool)) {
        aip_embedder_wait(written, end);
    }
    if (aip_embedder_resolve(written, &fresh, pool, &err) != APR_SUCCESS ||
        (same_text(fresh.header_value, conf->header_value) &&
         same_text(fresh.param_value, conf->param_value))) {
        return false;
    }
    *conf = fresh;
    return true;
}

apr_status_t aip_embed_call(aip_request_t *req, aip_router_t *router,
                            const aip_endpoint_t *endpoint, aip_span_t text, float *vector,
                            aip_error_t *err)
{
    apr_pool_t *pool = req->r->pool;
    const aip_embedder_conf_t *written = &aip_router_conf(router)->embedder;
    aip_embedder_conf_t conf;
    apr_time_t deadline = apr_time_now() + written->timeout;
    answer_t answer;
    aip_http1_result_t result;
    if (aip_embedder_resolve(written, &conf, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    deadline = req->deadline && req->deadline < deadline ? req->deadline : deadline;
    ask(req, &conf, endpoint, text, deadline, &answer, &result);
    if (answer.status == HTTP_UNAUTHORIZED && !own_credential(req, &conf) &&
        renew(written, &conf, deadline, pool)) {
        ask(req, &conf, endpoint, text, deadline, &answer, &result);
    }
    if (result.outcome != AIP_OUTCOME_OK || answer.status != 200) {
        return failed(req, &result, &answer, err);
    }
    return aip_router_response(router, (aip_span_t){answer.data ? answer.data : "", answer.len},
                               vector, pool, err);
}
