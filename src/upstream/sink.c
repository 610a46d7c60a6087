/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the response of an attempt: withholds it, or commits it to the client. Until the first byte
 * is passed to httpd's filters nothing of the request_rec is touched, so that a refused attempt
 * leaves no trace. */
#include "sink.h"

#include "aip/large.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#define HOLD_ERROR apr_time_from_sec(1) /* an error that goes on longer passes as it comes */
#define PASS_AT 65536 /* held bytes of a stream that are passed on without waiting for a pause */
#define HOLD_MAX                                                                                   \
    (1u << 20) /* an answer is held until it is complete, but no more of it than that */
#define EVENT_MAX (1u << 20)
#define COPY_MAX (8u << 20)
#define TIER_MAX 66 /* with quotes; a longer name of a tier is none */

static const aip_span_t dropped[] = {
    AIP_NAME("Connection"),
    AIP_NAME("Keep-Alive"),
    AIP_NAME("Proxy-Authenticate"),
    AIP_NAME("Proxy-Authorization"),
    AIP_NAME("Proxy-Connection"),
    AIP_NAME("TE"),
    AIP_NAME("Trailer"),
    AIP_NAME("Transfer-Encoding"),
    AIP_NAME("Upgrade"),
    AIP_NAME("Date"),
    AIP_NAME("Server"),
    AIP_NAME("Set-Cookie"),
    AIP_NAME("Set-Cookie2"),
    AIP_NAME("Alt-Svc"),
    AIP_NAME("Strict-Transport-Security"),
    AIP_NAME("Content-Length"),
    AIP_NAME("Content-Type"),
};

unsigned aip_status_criterion(int status)
{
    switch (status) {
    case 403:
        return AIP_CRITERION_HTTP_403;
    case 404:
        return AIP_CRITERION_HTTP_404;
    case 429:
        return AIP_CRITERION_HTTP_429;
    case 500:
        return AIP_CRITERION_HTTP_500;
    case 502:
        return AIP_CRITERION_HTTP_502;
    case 503:
        return AIP_CRITERION_HTTP_503;
    case 504:
        return AIP_CRITERION_HTTP_504;
    }
    return 0;
}

typedef struct header_copy_t {
    request_rec *r;
    const char *connection;
    const aip_mask_t *mask;
} header_copy_t;

static const char *masked(const aip_mask_t *mask, const char *value, apr_pool_t *pool)
{
    char *copy = mask ? apr_pstrdup(pool, value) : NULL;
    return copy && aip_mask_text(mask, copy, strlen(copy)) ? copy : value;
}

static int copy_header(void *baton, const char *name, const char *value)
{
    const header_copy_t *copy = baton;
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++) {
        if (dropped[i].len == len && strcasecmp(name, dropped[i].data) == 0) {
            return 1;
        }
    }
    if (!copy->connection || !ap_find_list_item(copy->r->pool, copy->connection, name)) {
        apr_table_addn(copy->r->headers_out, name, masked(copy->mask, value, copy->r->pool));
    }
    return 1;
}

static void add_own_headers(const aip_request_t *req, const aip_target_t *target)
{
    request_rec *r = req->r;
    const aip_location_fields_t *f = &req->conf->f;
    const aip_decision_t *decision = &req->route.decision;
    if (f->model_name_header && ap_is_HTTP_SUCCESS(r->status)) {
        const char *model = req->answered.model ? req->answered.model : "";
        apr_table_setn(r->headers_out, f->model_name_header_name,
                       apr_pstrcat(r->pool, target->provider_name, "/",
                                   aip_header_value_ok(model) ? model : "", NULL));
    }
    if (f->route_headers && req->route.reason != AIP_REASON_NONE && target->f.description) {
        apr_table_setn(r->headers_out, "X-LLM-Route",
                       aip_header_value_ok(target->f.description) ? target->f.description : "");
        if (decision->nearest >= 0) {
            apr_table_setn(
                r->headers_out, "X-LLM-Distance",
                apr_psprintf(r->pool, "%.4f",
                             (double)aip_decision_distance(req->conf->targets->routes, decision,
                                                           target->f.description)));
        }
    }
}

/* httpd has no words of its own for some statuses that providers use (529). */
static void set_status(request_rec *r, int status)
{
    const char *line = ap_get_status_line(status);
    r->status = status;
    r->status_line = strtol(line, NULL, 10) == status
                         ? NULL
                         : apr_psprintf(r->pool, "%d Upstream Status", status);
}

static void apply_response(const aip_request_t *req, const aip_target_t *target,
                           const aip_http1_response_t *response, const aip_mask_t *mask)
{
    request_rec *r = req->r;
    header_copy_t copy = {r, apr_table_getm(r->pool, response->headers, "Connection"), mask};
    const char *type = apr_table_get(response->headers, "Content-Type");
    set_status(r, response->status);
    apr_table_do(copy_header, &copy, response->headers, NULL);
    if (type) {
        ap_set_content_type(r, masked(mask, type, r->pool));
    }
    add_own_headers(req, target);
}

static void commit(aip_sink_state_t *state)
{
    aip_request_t *req = state->req;
    state->committed = true;
    req->answered.target = state->target;
    apply_response(req, state->target, state->response, state->mask);
    if (state->sse) { /* compression would hold events back */
        apr_table_setn(req->r->subprocess_env, "no-gzip", "1");
        apr_table_setn(req->r->subprocess_env, "no-brotli", "1");
    } else if (state->response->length >= 0) {
        ap_set_content_length(req->r, state->response->length);
    }
}

/* AITimeoutIdle: the time until the next event begins. */
static void restart_idle(aip_sink_state_t *state)
{
    if (state->sse && state->idle) {
        state->idle_until = apr_time_now() + state->idle;
    }
}

static bool pass(aip_sink_state_t *state, bool flush)
{
    request_rec *r = state->req->r;
    if (!state->committed) {
        commit(state);
    }
    if (flush) {
        APR_BRIGADE_INSERT_TAIL(state->out, apr_bucket_flush_create(state->out->bucket_alloc));
    }
    apr_status_t rv = ap_pass_brigade(r->output_filters, state->out);
    apr_brigade_cleanup(state->out);
    state->held = 0;
    restart_idle(state); /* a slow client is no fault of the target */
    state->failed = rv != APR_SUCCESS || r->connection->aborted;
    return !state->failed;
}

static void copy_bytes(aip_sink_state_t *state, const char *data, size_t len)
{
    if (len > COPY_MAX - state->copied) {
        len = COPY_MAX - state->copied;
    }
    if (state->copied + len > state->copy_room) {
        apr_size_t room = 2 * state->copied + len + 512;
        state->copy =
            aip_large_grow(state->req->r->pool, state->copy, state->copied, state->copy_room, room);
        state->copy_room = room;
    }
    memcpy(state->copy + state->copied, data, len);
    state->copied += len;
}

static void hold(aip_sink_state_t *state, const char *data, size_t len)
{
    apr_brigade_write(state->out, NULL, NULL, data, len);
    state->held += len;
}

static bool is_error(const aip_sse_event_t *event, const aip_answer_t *answer)
{
    return answer->has_error ||
           (event->name.len == 5 && event->name.data && memcmp(event->name.data, "error", 5) == 0);
}

/* An event before the stream was judged. An error withholds the answer if the criteria say so; what
 * only opens the stream (role, comments, empty choices) is held back; anything else lets it pass.
 */
static void judge_event(aip_sink_state_t *state, const aip_sse_event_t *event, bool json,
                        const aip_answer_t *answer)
{
    if (event->partial) {
        state->judged = true;
    } else if (event->data.data && is_error(event, answer)) {
        state->error_event = true;
        state->judged = true;
        state->withheld = state->withhold & AIP_CRITERION_ERROR;
    } else if (event->data.data) {
        state->judged = !json || !answer->is_chunk || answer->speaks;
    }
}

/* The first that is told counts. */
static void note_tier(aip_answered_t *answered, const aip_answer_t *answer, apr_pool_t *pool)
{
    if (!answered->service_tier && answer->service_tier.len > 2 &&
        answer->service_tier.len <= TIER_MAX) {
        answered->service_tier = aip_json_string(answer->service_tier, pool);
    }
}

static bool is_traced(const aip_request_t *req)
{
    return req->conf->f.traces == AIP_TRACES_EXPORT && req->trace.sampled;
}

/* What spans alone tell. */
static void note_for_spans(aip_request_t *req, const aip_answer_t *answer)
{
    aip_answered_t *answered = &req->answered;
    if (!is_traced(req)) {
        return;
    }
    if (answer->finish_reason.data) {
        answered->finish_reason = aip_json_string(answer->finish_reason, req->r->pool);
    }
    if (answer->id.len > 2 && !answered->response_id) {
        answered->response_id = aip_json_string(answer->id, req->r->pool);
    }
}

static void note_content(aip_sink_state_t *state, const aip_answer_t *answer)
{
    aip_answered_t *answered = &state->req->answered;
    note_for_spans(state->req, answer);
    if (answer->model.data && !answered->response_model) {
        answered->response_model = aip_json_string(answer->model, state->req->r->pool);
    }
    note_tier(answered, answer, state->req->r->pool);
    if (answer->brings && !answered->first_byte_at) {
        answered->first_byte_at = apr_time_now();
    }
    state->brought = state->brought || answer->brings || answer->text_bytes;
    state->text_bytes += answer->text_bytes;
    state->told_at = answer->has_usage ? state->text_bytes : state->told_at;
}

/* In the middle of a stream that nobody observes, events are not read: then its beginning tells. */
static void hold_event(aip_sink_state_t *state, const aip_sse_event_t *event,
                       const aip_answer_t *answer)
{
    static const aip_span_t start = AIP_SPAN("{\"error\"");
    aip_span_t raw = event->raw, data = event->data;
    bool error =
        state->response->status >= 400 ||
        (data.data && (is_error(event, answer) ||
                       (data.len > start.len && !memcmp(data.data, start.data, start.len))));
    if (state->mask && error) {
        char *copy = apr_pmemdup(state->req->r->pool, raw.data, raw.len);
        aip_mask_text(state->mask, copy, raw.len);
        raw.data = copy;
    }
    hold(state, raw.data, raw.len);
}

/* What a stream's events tell about errors, usage, model and text. */
static bool on_event(void *ctx, const aip_sse_event_t *event)
{
    aip_sink_state_t *state = ctx;
    aip_answer_t answer = {0};
    bool read = !event->partial && event->data.data && (state->observe || !state->judged);
    bool json = read && aip_answer_read(event->data, &answer, &state->req->answered.usage);
    restart_idle(state);
    if (!state->judged) {
        judge_event(state, event, json, &answer);
    } else if (json && answer.has_error) {
        state->error_event = true;
    }
    if (json && state->payloads) {
        aip_reassembly_add(state->whole, event->data);
    }
    if (json && state->observe) {
        note_content(state, &answer);
        if (state->strip_usage && answer.has_usage && !answer.has_choices && !answer.has_error) {
            return true;
        }
    }
    hold_event(state, event, &answer);
    return !state->withheld;
}

/* The next attempt takes the place of what was noted. */
static aip_kept_t kept_of(const aip_sink_state_t *state)
{
    apr_pool_t *pool = state->req->r->pool;
    aip_kept_t kept = {.response = state->response,
                       .target = state->target,
                       .mask = state->mask,
                       .answered = state->req->answered};
    if (state->payloads) {
        aip_span_t *sent = &kept.answered.sent_body;
        sent->data = apr_pmemdup(pool, sent->data, sent->len);
    }
    return kept;
}

/* The stream that began with an error, should nobody do better. */
static void keep_held(aip_sink_state_t *state)
{
    *state->kept = kept_of(state);
    apr_brigade_pflatten(state->out, &state->kept->body, &state->kept->len, state->req->r->pool);
    apr_brigade_cleanup(state->out);
    state->held = 0;
}

static void keep(aip_kept_t *kept, const char *data, size_t len)
{
    len = len > AIP_HTTP1_DRAIN_BYTES - kept->len ? AIP_HTTP1_DRAIN_BYTES - kept->len : len;
    memcpy(kept->body + kept->len, data, len);
    kept->len += len;
}

static aip_sink_e on_head(void *ctx, const aip_http1_response_t *response)
{
    aip_sink_state_t *state = ctx;
    const char *type = apr_table_get(response->headers, "Content-Type");
    apr_pool_t *pool = state->req->r->pool;
    state->response = apr_pmemdup(pool, response, sizeof *response); /* it ends with the exchange */
    state->refused = (state->hold_401 && response->status == HTTP_UNAUTHORIZED) ||
                     (state->hold_403 && response->status == HTTP_FORBIDDEN);
    if (state->refused || aip_status_criterion(response->status) & state->withhold) {
        state->withheld = true;
        *state->kept = kept_of(state);
        state->kept->body = apr_palloc(pool, AIP_HTTP1_DRAIN_BYTES);
        return AIP_SINK_DRAIN;
    }
    state->sse = type && strncasecmp(type, "text/event-stream", 17) == 0;
    if (state->sse) {
        state->events = aip_sse_create(pool, EVENT_MAX);
        state->whole = state->payloads ? aip_reassembly_create(COPY_MAX, pool) : NULL;
        restart_idle(state);
    } else if (response->status >= 400) {
        state->hold_until = apr_time_now() + HOLD_ERROR;
    } else if (state->req->stream && !(type && strncasecmp(type, "application/json", 16) == 0)) {
        state->hold_until = apr_time_now(); /* a stream of another kind */
    } else {
        state->hold_until = APR_INT64_MAX;
    }
    return AIP_SINK_CONTINUE;
}

/* A provider, or what debugs it, may repeat what it was sent. */
static void hold_error(aip_sink_state_t *state, aip_span_t text)
{
    if (text.len) {
        copy_bytes(state, text.data, text.len);
        hold(state, text.data, text.len);
    }
}

static aip_sink_e on_body(void *ctx, const char *data, size_t len)
{
    aip_sink_state_t *state = ctx;
    if (state->withheld) {
        keep(state->kept, data, len);
        return AIP_SINK_CONTINUE;
    }
    if (state->sse) {
        if (!aip_sse_feed(state->events, data, len, on_event, state)) {
            keep_held(state);
            return AIP_SINK_STOP;
        }
        if (state->judged && state->held && !state->committed) {
            commit(state);
        }
    } else if (state->mask && state->response->status >= 400) {
        hold_error(state, aip_mask_feed(state->mask, data, len));
    } else {
        if (state->observe || state->response->status >= 400) {
            copy_bytes(state, data, len);
        }
        hold(state, data, len);
    }
    size_t most = state->sse || state->committed ? PASS_AT : HOLD_MAX;
    return state->held < most || pass(state, false) ? AIP_SINK_CONTINUE : AIP_SINK_STOP;
}

/* Nothing more is there for now. What has not been committed waits, for the target may yet fail. */
static aip_sink_e on_wait(void *ctx)
{
    aip_sink_state_t *state = ctx;
    bool ripe = state->committed || (!state->sse && apr_time_now() >= state->hold_until);
    return state->withheld || !state->held || !ripe || pass(state, true) ? AIP_SINK_CONTINUE
                                                                         : AIP_SINK_STOP;
}

static bool counts_usage(const aip_request_t *req, const aip_target_t *target)
{
    int algorithm = req->conf->f.balancer_algorithm;
    return target->f.logging_log_statistics || req->conf->f.traces == AIP_TRACES_EXPORT ||
           algorithm == AIP_ALGORITHM_LOWEST_USAGE || algorithm == AIP_ALGORITHM_LOWEST_LATENCY;
}

bool aip_sink_asks_usage(const aip_request_t *req, const aip_target_t *target)
{
    return counts_usage(req, target) && target->f.logging_stream_usage;
}

void aip_sink_init(aip_sink_state_t *state, aip_request_t *req, const aip_target_t *target,
                   unsigned withhold, aip_kept_t *kept)
{
    const aip_target_fields_t *f = &target->f;
    bool usage = counts_usage(req, target);
    *state = (aip_sink_state_t){.req = req, .target = target, .withhold = withhold, .kept = kept};
    state->payloads = f->logging_log_payloads;
    state->observe = usage || f->logging_log_payloads;
    state->strip_usage = usage && !req->chat.include_usage;
    state->idle = apr_time_from_msec(req->conf->f.timeout_idle);
    state->out = apr_brigade_create(req->r->pool, req->r->connection->bucket_alloc);
}

aip_http1_sink_t aip_sink_functions(aip_sink_state_t *state)
{
    return (aip_http1_sink_t){
        .ctx = state, .on_head = on_head, .on_body = on_body, .on_wait = on_wait};
}

void aip_sink_end(aip_sink_state_t *state)
{
    if (!state->mask || !state->response) {
        return;
    }
    if (state->withheld && state->kept->body) {
        aip_mask_text(state->mask, state->kept->body, state->kept->len);
    } else if (!state->sse && state->response->status >= 400) {
        hold_error(state, aip_mask_rest(state->mask));
    }
}

static void note_body(aip_sink_state_t *state)
{
    aip_answered_t *answered = &state->req->answered;
    aip_answer_t answer;
    if (state->sse || !state->observe || /* spans tell why it ended */
        !aip_answer_read_usage(answered->payload, is_traced(state->req), &answer,
                               &answered->usage)) {
        return;
    }
    state->text_bytes = state->told_at = answer.text_bytes;
    state->brought = answer.has_choices;
    state->error_body = answer.has_error;
    note_tier(answered, &answer, state->req->r->pool);
    note_for_spans(state->req, &answer);
    if (answer.model.data) {
        answered->response_model = aip_json_string(answer.model, state->req->r->pool);
    }
}

/* Whether there is an answer that has used something. */
static bool has_used(const aip_sink_state_t *state)
{
    return state->observe && state->response && ap_is_HTTP_SUCCESS(state->response->status) &&
           (state->brought || !(state->error_event || state->error_body));
}

void aip_sink_note(aip_sink_state_t *state)
{
    aip_answered_t *answered = &state->req->answered;
    answered->stream = state->sse;
    answered->observed = state->observe;
    answered->whole = state->whole;
    if (state->copied) {
        answered->payload = (aip_span_t){state->copy, state->copied};
        note_body(state);
    }
    if (has_used(state)) {
        aip_usage_estimate(&answered->usage, state->req->chat.members[AIP_CHAT_MESSAGES].value,
                           state->text_bytes, state->text_bytes - state->told_at);
    } else {
        answered->usage = AIP_USAGE_UNKNOWN;
    }
    answered->cost_pico =
        aip_cost_pico(&state->target->rates, &answered->usage, answered->service_tier);
}

void aip_sink_finish(aip_sink_state_t *state)
{
    if (state->sse) {
        aip_sse_finish(state->events, on_event, state);
    }
    APR_BRIGADE_INSERT_TAIL(state->out, apr_bucket_eos_create(state->out->bucket_alloc));
    (void)pass(state, false);
}

void aip_sink_cut(aip_sink_state_t *state, aip_outcome_e outcome)
{
    request_rec *r = state->req->r;
    state->req->answered.cut = aip_outcome_name(outcome);
    if (state->sse) {
        aip_error_t error = {.type = "upstream_error",
                             .code = aip_outcome_name(outcome),
                             .message = "the model's answer broke off"};
        const char *json =
            aip_error_json(&error, r->pool); /* ends with a newline: one more ends the event */
        apr_brigade_puts(state->out, NULL, NULL, apr_pstrcat(r->pool, "data: ", json, "\n", NULL));
    } else {
        if (state->held && !pass(state, true)) {
            return;
        }
        r->connection->keepalive = AP_CONN_CLOSE;
        APR_BRIGADE_INSERT_TAIL(state->out, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool,
                                                                   state->out->bucket_alloc));
    }
    APR_BRIGADE_INSERT_TAIL(state->out, apr_bucket_eos_create(state->out->bucket_alloc));
    (void)pass(state, false);
}

void aip_sink_replay(aip_request_t *req, const aip_kept_t *kept)
{
    aip_sink_state_t state;
    aip_sink_init(&state, req, kept->target, 0, NULL);
    state.response = kept->response;
    state.mask = kept->mask;
    req->answered = kept->answered;
    req->answered.observed = state.observe;
    req->answered.usage = AIP_USAGE_UNKNOWN;
    req->answered.cost_pico = 0;
    req->answered.service_tier = NULL;
    req->answered.first_byte_at = 0;
    req->answered.payload = (aip_span_t){kept->body, kept->len};
    hold(&state, kept->body, kept->len);
    commit(&state);
    ap_set_content_length(req->r, (apr_off_t)kept->len);
    APR_BRIGADE_INSERT_TAIL(state.out, apr_bucket_eos_create(state.out->bucket_alloc));
    (void)pass(&state, false);
}
