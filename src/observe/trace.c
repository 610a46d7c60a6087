/* SPDX-License-Identifier: Apache-2.0 */
/* The trace of a request: its context when it begins, what a target is told of it, and its spans
 * when its account is closed, made of what the stages have left behind. In the request's thread.
 * No text of prompts and answers, no header and no query goes into a span. */
#include "aip/traces.h"

#include "fragments.h"

#include "aip/observe.h"
#include "aip/secret.h"
#include "aip/trace_names.h"

#include <apr_strings.h>
#include <http_core.h>

#define SPAN_EMBEDDING 0
#define SPAN_SEARCH 1
#define SPAN_ATTEMPT 2 /* the first; the others follow */

void aip_trace_start(aip_request_t *req)
{
    const aip_location_fields_t *f = &req->conf->f;
    if (f->traces != AIP_TRACES_OFF) {
        /* Without export nothing of a trace that begins here is ever recorded. */
        aip_trace_begin(&req->trace, apr_table_get(req->r->headers_in, "traceparent"),
                        f->traces == AIP_TRACES_EXPORT ? f->traces_sampling_ratio.value : 0);
    }
}

/* ---- what a target is told ---- */

static const char *add(const char *fields, const char *name, const char *value, apr_pool_t *pool)
{
    return apr_pstrcat(pool, fields, name, ": ", value, CRLF, NULL);
}

const char *aip_trace_fields(const aip_request_t *req, const aip_target_t *target,
                             const char *fields)
{
    const apr_table_t *in = req->r->headers_in;
    const char *state = apr_table_get(in, "tracestate");
    aip_trace_context_t trace = req->trace;
    char text[AIP_TRACEPARENT_LEN + 1], id[AIP_SPAN_ID_HEX + 1];
    if (!fields || !target->f.traces_propagate) {
        return fields;
    }
    bool clients = *trace.parent_id;
    if (!*trace.trace_id) { /* no spans of ours: the client's is the target's parent */
        clients = aip_traceparent_parse(apr_table_get(in, "traceparent"), &trace);
        if (!clients) {
            return fields;
        }
        apr_cpystrn(id, trace.parent_id, sizeof id);
    } else if (req->conf->f.traces == AIP_TRACES_CORRELATE) { /* the id that logs have */
        apr_cpystrn(id, trace.span_id, sizeof id);
    } else {
        aip_trace_child(&trace, SPAN_ATTEMPT + (unsigned)req->upstream.n - 1, id);
    }
    aip_traceparent_write(&trace, id, text);
    fields = add(fields, "traceparent", text, req->r->pool);
    return clients && aip_tracestate_ok(state) ? add(fields, "tracestate", state, req->r->pool)
                                               : fields;
}

/* ---- spans ---- */

static void write_request_span(aip_otlp_t *otlp, const aip_request_t *req,
                               const aip_account_t *account)
{
    const aip_answered_t *a = &req->answered;
    aip_otlp_begin(otlp, &req->trace, req->trace.span_id, req->trace.parent_id, AIP_SPAN_SERVER,
                   (aip_span_name_t){"chat", a->model}, req->start, account->end);
    aip_otlp_text(otlp, "http.request.method", req->r->method);
    aip_otlp_text(otlp, "url.path", req->r->uri);
    aip_otlp_count(otlp, "http.response.status_code", account->status);
    aip_otlp_text(otlp, "error.type", account->error_type);
    if (account->target) {
        aip_otlp_attributes(otlp, account->target->fragments->request);
    } else {
        aip_fragment_request(otlp, req->conf->targets, NULL);
    }
    aip_otlp_text(otlp, "gen_ai.request.model", req->chat.model);
    aip_otlp_count(otlp, "aiproxy.attempts", req->upstream.n);
    if (req->route.reason != AIP_REASON_NONE) {
        aip_otlp_text(otlp, "aiproxy.reason", aip_reason_name(req->route.reason));
        aip_otlp_text(otlp, "aiproxy.cache", aip_cache_state_name(req->route.cache));
    }
    aip_otlp_text(otlp, "aiproxy.cut", a->cut);
    aip_otlp_end(otlp, account->status >= 500 || a->cut);
}

static void write_embedding_span(aip_otlp_t *otlp, const aip_request_t *req)
{
    const aip_location_fields_t *f = &req->conf->f;
    const char *provider = aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                                          f->embeddings_model_provider, req->r->pool);
    bool local = f->embeddings_model_provider == AIP_EMBEDDER_LOCAL;
    const char *failure = req->route.search_start ? NULL : req->route.failure;
    char id[AIP_SPAN_ID_HEX + 1];
    aip_trace_child(&req->trace, SPAN_EMBEDDING, id);
    aip_otlp_begin(otlp, &req->trace, id, req->trace.span_id,
                   local ? AIP_SPAN_INTERNAL : AIP_SPAN_CLIENT,
                   (aip_span_name_t){"embeddings", req->route.embedder}, req->route.embed_start,
                   req->route.embed_start + req->route.embed_took);
    aip_otlp_text(otlp, "gen_ai.operation.name", "embeddings");
    aip_otlp_text(otlp, "gen_ai.provider.name", aip_trace_provider(provider));
    aip_otlp_text(otlp, "gen_ai.request.model", req->route.embedder);
    aip_otlp_count(otlp, "gen_ai.embeddings.dimension.count",
                   f->set[AIP_L_vectordb_dimensions] ? f->vectordb_dimensions : -1);
    aip_otlp_text(otlp, "error.type", failure);
    aip_otlp_end(otlp, failure);
}

static void write_search_span(aip_otlp_t *otlp, const aip_request_t *req)
{
    const char *strategy = aip_field_word(&aip_location_table[AIP_L_vectordb_strategy],
                                          req->conf->f.vectordb_strategy, req->r->pool);
    const char *database = aip_trace_database(strategy);
    char id[AIP_SPAN_ID_HEX + 1];
    aip_trace_child(&req->trace, SPAN_SEARCH, id);
    aip_otlp_begin(otlp, &req->trace, id, req->trace.span_id,
                   database ? AIP_SPAN_CLIENT : AIP_SPAN_INTERNAL,
                   (aip_span_name_t){"vector_search", NULL}, req->route.search_start,
                   req->route.search_start + req->route.search_took);
    aip_otlp_text(otlp, "db.system.name", database);
    aip_otlp_text(otlp, "db.operation.name", "vector_search");
    aip_otlp_text(otlp, "aiproxy.vectordb", strategy);
    aip_otlp_text(otlp, "error.type", req->route.degraded ? "store_error" : NULL);
    aip_otlp_end(otlp, req->route.degraded);
}

static void write_real(aip_otlp_t *otlp, const char *key, bool set, aip_number_t own,
                       aip_span_t clients)
{
    double x = own.value;
    if (set || aip_json_double(clients, &x)) {
        aip_otlp_real(otlp, key, x);
    }
}

/* What the target was asked with: its own options, else the client's numbers. */
static void write_options(aip_otlp_t *otlp, const aip_request_t *req, const aip_target_t *target)
{
    const aip_target_fields_t *f = &target->f;
    const aip_json_member_t *m = req->chat.members;
    apr_int64_t n = f->max_tokens;
    if (f->set[AIP_T_max_tokens] || aip_json_int64(m[AIP_CHAT_MAX_COMPLETION_TOKENS].value, &n) ||
        aip_json_int64(m[AIP_CHAT_MAX_TOKENS].value, &n)) {
        aip_otlp_count(otlp, "gen_ai.request.max_tokens", n);
    }
    write_real(otlp, "gen_ai.request.temperature", f->set[AIP_T_temperature], f->temperature,
               m[AIP_CHAT_TEMPERATURE].value);
    write_real(otlp, "gen_ai.request.top_p", f->set[AIP_T_top_p], f->top_p,
               m[AIP_CHAT_TOP_P].value);
    n = f->top_k;
    if (f->set[AIP_T_top_k] || aip_json_int64(m[AIP_CHAT_TOP_K].value, &n)) {
        aip_otlp_count(otlp, "gen_ai.request.top_k", n);
    }
    if (req->stream) {
        aip_otlp_flag(otlp, "gen_ai.request.stream", true);
    }
}

static const char *known_word(aip_span_t value, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (aip_json_equals(value, (aip_span_t){words[i], strlen(words[i])})) {
            return words[i];
        }
    }
    return NULL;
}

/* text or json, as OpenTelemetry calls them. */
static const char *output_type(aip_span_t response_format)
{
    static const aip_span_t name[] = {AIP_NAME("type")};
    static const char *const types[] = {"text", "json_object", "json_schema"};
    aip_json_member_t type;
    if (aip_json_type(response_format) != '{' ||
        aip_json_object_skim(response_format, name, 1, &type) != AIP_JSON_OK) {
        return NULL;
    }
    const char *word = known_word(type.value, types, sizeof types / sizeof *types);
    return word && word != types[0] ? "json" : word;
}

/* What else the client wishes, once for all attempts, since its body is read for it: numbers and
 * words of ours, no text of its own, so no `stop`. */
static void write_wishes(aip_otlp_t *otlp, const aip_request_t *req)
{
    enum { SEED, N, FREQUENCY, PRESENCE, FORMAT, EFFORT, COUNT };
    static const aip_span_t names[COUNT] = {
        [SEED] = AIP_NAME("seed"),
        [N] = AIP_NAME("n"),
        [FREQUENCY] = AIP_NAME("frequency_penalty"),
        [PRESENCE] = AIP_NAME("presence_penalty"),
        [FORMAT] = AIP_NAME("response_format"),
        [EFFORT] = AIP_NAME("reasoning_effort"),
    };
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    const aip_number_t none = {0};
    aip_json_member_t m[COUNT];
    apr_int64_t n;
    if (aip_json_object_skim(req->chat.body, names, COUNT, m) != AIP_JSON_OK) {
        return; /* one of them comes twice */
    }
    if (aip_json_int64(m[SEED].value, &n)) {
        static const aip_span_t seed = AIP_SPAN("gen_ai.request.seed");
        aip_otlp_put_count(otlp, seed, (apr_uint64_t)n); /* may be negative */
    }
    if (aip_json_int64(m[N].value, &n) && n != 1) {
        aip_otlp_count(otlp, "gen_ai.request.choice.count", n);
    }
    write_real(otlp, "gen_ai.request.frequency_penalty", false, none, m[FREQUENCY].value);
    write_real(otlp, "gen_ai.request.presence_penalty", false, none, m[PRESENCE].value);
    aip_otlp_text(otlp, "gen_ai.output.type", output_type(m[FORMAT].value));
    aip_otlp_text(otlp, "gen_ai.request.reasoning.level",
                  known_word(m[EFFORT].value, efforts, sizeof efforts / sizeof *efforts));
}

static void write_answer(aip_otlp_t *otlp, const aip_request_t *req, const aip_account_t *account)
{
    const aip_answered_t *a = &req->answered;
    const aip_usage_t *u = &account->usage;
    aip_otlp_text(otlp, "gen_ai.response.id", a->response_id);
    aip_otlp_text(otlp, "gen_ai.response.model", a->response_model);
    aip_otlp_text_list(otlp, "gen_ai.response.finish_reasons", a->finish_reason);
    if (account->first_token >= 0) {
        aip_otlp_real(otlp, "gen_ai.response.time_to_first_chunk",
                      (double)account->first_token / 1e6);
    }
    if (account->counted) {
        aip_otlp_count(otlp, "gen_ai.usage.input_tokens", u->prompt_tokens);
        aip_otlp_count(otlp, "gen_ai.usage.output_tokens", u->completion_tokens);
        aip_otlp_count(otlp, "gen_ai.usage.cache_read.input_tokens", u->cached_tokens);
        aip_otlp_count(otlp,
                       aip_trace_name(AIP_TRACE_NAME_CACHE_WRITE,
                                      (aip_semconv_e)req->conf->f.telemetry_semconv),
                       u->cache_write_tokens);
        aip_otlp_count(otlp, "gen_ai.usage.reasoning.output_tokens", u->reasoning_tokens);
    }
    if (account->priced) {
        aip_otlp_real(otlp, "aiproxy.cost", (double)account->cost_pico / 1e12);
    }
}

static void write_decision(aip_otlp_t *otlp, const aip_request_t *req, const aip_target_t *target)
{
    const aip_decision_t *decision = &req->route.decision;
    const double *threshold = aip_explain_threshold(req, target);
    if (req->route.reason == AIP_REASON_NONE) {
        return;
    }
    aip_otlp_text(otlp, "aiproxy.route", target->f.description);
    if (target->f.description && decision->nearest >= 0) {
        aip_otlp_real(otlp, "aiproxy.distance",
                      (double)aip_decision_distance(req->conf->targets->routes, decision,
                                                    target->f.description));
    }
    if (threshold) {
        aip_otlp_real(otlp, "aiproxy.threshold", *threshold);
    }
    aip_otlp_text(otlp, "aiproxy.reason", aip_reason_name(req->route.reason));
    aip_otlp_text(otlp, "aiproxy.cache", aip_cache_state_name(req->route.cache));
}

/* NULL: the attempt went well. An answer that was kept back has its status. */
static const char *attempt_error(const aip_attempt_t *attempt, apr_pool_t *pool)
{
    bool answered = attempt->outcome == AIP_OUTCOME_OK || attempt->outcome == AIP_OUTCOME_WITHHELD;
    if (answered && attempt->status >= 400) {
        return apr_itoa(pool, attempt->status);
    }
    return attempt->outcome == AIP_OUTCOME_OK ? NULL : aip_outcome_name(attempt->outcome);
}

/* @param wishes  attributes that all attempts have */
static void write_attempt_span(aip_otlp_t *otlp, const aip_request_t *req,
                               const aip_account_t *account, aip_span_t wishes, int i)
{
    const aip_attempt_t *attempt = &req->upstream.attempts[i];
    const aip_target_t *target = attempt->target;
    const char *model = aip_request_model(req, target);
    const char *error = attempt_error(attempt, req->r->pool);
    char id[AIP_SPAN_ID_HEX + 1];
    aip_trace_child(&req->trace, SPAN_ATTEMPT + (unsigned)i, id);
    aip_otlp_begin(otlp, &req->trace, id, req->trace.span_id, AIP_SPAN_CLIENT,
                   (aip_span_name_t){"chat", model}, attempt->start,
                   attempt->start + attempt->took);
    aip_otlp_attributes(otlp, target->fragments->attempt);
    if (!target->f.model_name) {
        aip_otlp_text(otlp, "gen_ai.request.model", model);
    }
    if (attempt->endpoint == target->endpoint) {
        aip_otlp_attributes(otlp, target->fragments->server);
    } else if (attempt->endpoint) { /* of a template */
        aip_fragment_server(otlp, &attempt->endpoint->url);
    }
    write_options(otlp, req, target);
    aip_otlp_attributes(otlp, wishes);
    aip_otlp_count(otlp, "http.response.status_code", attempt->status ? attempt->status : -1);
    aip_otlp_text(otlp, "error.type", error);
    aip_otlp_count(otlp, "aiproxy.attempt", i + 1);
    write_decision(otlp, req, target);
    if (i == req->upstream.n - 1 && req->answered.target == target) {
        write_answer(otlp, req, account);
    }
    aip_otlp_end(otlp, error);
}

void aip_trace_finish(const aip_request_t *req, const aip_account_t *account)
{
    aip_otlp_t otlp = {.pool = req->r->pool}, wishes = {.pool = req->r->pool};
    if (req->conf->f.traces != AIP_TRACES_EXPORT || !req->trace.sampled) {
        return;
    }
    write_request_span(&otlp, req, account);
    if (req->route.embed_start) {
        write_embedding_span(&otlp, req);
    }
    if (req->route.search_start) {
        write_search_span(&otlp, req);
    }
    if (req->upstream.n) {
        write_wishes(&wishes, req);
    }
    for (int i = 0; i < req->upstream.n; i++) {
        write_attempt_span(&otlp, req, account, (aip_span_t){wishes.data, wishes.len}, i);
    }
    aip_traces_push(req->r->server, (aip_span_t){otlp.data, otlp.len}, otlp.spans);
}
