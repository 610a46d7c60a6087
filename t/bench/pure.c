/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a request that are pure computation, one at a time and as often as asked, for
 * t/bench/instructions, which counts their instructions.
 *
 *   pure PART TIMES      prints nothing; status 1: no such part, or it did not do its work
 *   pure                 prints the names of the parts */

#include "aip/chat.h"
#include "aip/http1.h"
#include "aip/model2vec.h"
#include "aip/route.h"
#include "aip/sse.h"
#include "aip/usage.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS 100
#define ROUTES 20

static const char sentence[] =
    "The gateway keeps a connection open, reads \\\"what it must\\\" and passes the rest on.\\n";

typedef struct work_t {
    apr_pool_t *pool;    /* lives as long as the program */
    apr_pool_t *scratch; /* emptied after each time */
    aip_span_t small, large, response, chunked, stream, answer;
    const aip_model2vec_t *model;
    const aip_routes_t *routes;
    float distances[ROUTES];
} work_t;

static void need(bool done)
{
    if (!done) {
        fprintf(stderr, "pure: the work was not done\n");
        exit(1);
    }
}

/* ---- what is worked on ---- */

static aip_span_t span(const char *text)
{
    return (aip_span_t){text, strlen(text)};
}

static const char *repeat(const char *text, int n, apr_pool_t *pool)
{
    const size_t len = strlen(text);
    char *all = apr_palloc(pool, len * (size_t)n + 1);

    for (int i = 0; i < n; i++) {
        memcpy(all + len * (size_t)i, text, len);
    }
    all[len * (size_t)n] = '\0';
    return all;
}

static aip_span_t chat_of(int sentences, apr_pool_t *pool)
{
    return span(apr_pstrcat(pool,
                            "{\"model\":\"small\",\"max_tokens\":256,\"messages\":[{\"role\":"
                            "\"system\",\"content\":\"Answer briefly.\"},{\"role\":\"user\","
                            "\"content\":\"",
                            repeat(sentence, sentences, pool), "\"}]}", NULL));
}

static aip_routes_t *make_routes(work_t *w)
{
    aip_route_source_t sources[ROUTES];

    for (int i = 0; i < ROUTES; i++) {
        sources[i] = (aip_route_source_t){.description = apr_psprintf(w->pool, "topic %d", i)};
        w->distances[i] = (float)((i * 7) % ROUTES) / ROUTES;
    }
    return aip_routes_create(sources, ROUTES, w->pool);
}

static void prepare(work_t *w)
{
    apr_pool_t *pool = w->pool;
    const char *head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 "
        "00:00:00 GMT\r\nx-request-id: req_1\r\nx-ratelimit-remaining-requests: 99\r\n"
        "openai-processing-ms: 120\r\n";
    const char *answer =
        apr_pstrcat(pool,
                    "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m-"
                    "1\",\"choices\":[{"
                    "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"",
                    repeat(sentence, 6, pool),
                    "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":25,"
                    "\"completion_tokens\":12,\"total_tokens\":37,\"prompt_tokens_details\":{"
                    "\"cached_tokens\":20}}}",
                    NULL);
    const char *event =
        "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":"
        "\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},"
        "\"finish_reason\":null}]}\n\n";

    w->small = chat_of(2, pool);
    w->large = chat_of(400, pool);
    w->answer = span(answer);
    w->response = span(apr_psprintf(pool, "%sContent-Length: %" APR_SIZE_T_FMT "\r\n\r\n%s", head,
                                    strlen(answer), answer));
    w->chunked = span(apr_psprintf(pool, "%sTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n", head,
                                   repeat("20\r\n0123456789abcdef0123456789abcdef\r\n", 32, pool)));
    w->stream = span(repeat(event, EVENTS, pool));
    w->routes = make_routes(w);
}

static void load_model(work_t *w)
{
    const char *root = getenv("AIP_SRCDIR"), *error;
    const char *dir =
        apr_pstrcat(w->pool, root ? root : ".", "/share/embedder/aip-static-en-v1", NULL);
    aip_model2vec_t *model = NULL;

    need(aip_model2vec_load(&model, dir, w->pool, &error) == APR_SUCCESS);
    w->model = model;
}

/* ---- the parts ---- */

static void chat(const work_t *w, aip_span_t body)
{
    static const aip_chat_options_t options = {
        .model = "gpt-5-mini", .max_tokens = {"512", 3}, .temperature = {"0.2", 3}};
    aip_chat_t parsed;
    aip_error_t err;

    need(aip_chat_parse(&parsed, body, NULL, 0, w->scratch, &err) == APR_SUCCESS);
    need(aip_chat_build(&parsed, &options, w->scratch).len > body.len);
}

static void chat_small(const work_t *w)
{
    chat(w, w->small);
}

static void chat_large(const work_t *w)
{
    chat(w, w->large);
}

static void prompt(const work_t *w)
{
    aip_chat_t parsed;
    aip_prompt_t text;
    aip_error_t err;

    need(aip_chat_parse(&parsed, w->small, NULL, 0, w->scratch, &err) == APR_SUCCESS);
    need(aip_chat_prompt(&parsed, AIP_PROMPT_LAST_USER, 1, 8192, &text, w->scratch, &err) ==
             APR_SUCCESS &&
         text.text.len > 0);
}

typedef struct peer_t {
    aip_span_t bytes;
    size_t at, body;
} peer_t;

static apr_status_t peer_read(void *ctx, char *buf, apr_size_t *len)
{
    peer_t *p = ctx;
    size_t left = p->bytes.len - p->at;

    *len = left < *len ? left : *len;
    memcpy(buf, p->bytes.data + p->at, *len);
    p->at += *len;
    return *len ? APR_SUCCESS : APR_EOF;
}

static apr_status_t peer_write(void *ctx, const struct iovec *vec, int n, apr_size_t *written)
{
    (void)ctx;
    *written = 0;
    for (int i = 0; i < n; i++) {
        *written += vec[i].iov_len;
    }
    return APR_SUCCESS;
}

static apr_status_t peer_wait(void *ctx, aip_wait_e what, apr_interval_time_t timeout)
{
    (void)ctx, (void)what, (void)timeout;
    return APR_SUCCESS;
}

static apr_time_t peer_now(void *ctx)
{
    (void)ctx;
    return 1;
}

static bool peer_tls_failed(void *ctx)
{
    (void)ctx;
    return false;
}

static aip_sink_e on_head(void *ctx, const aip_http1_response_t *response)
{
    (void)ctx, (void)response;
    return AIP_SINK_CONTINUE;
}

static aip_sink_e on_body(void *ctx, const char *data, size_t len)
{
    (void)data;
    ((peer_t *)ctx)->body += len;
    return AIP_SINK_CONTINUE;
}

static aip_sink_e on_wait(void *ctx)
{
    (void)ctx;
    return AIP_SINK_CONTINUE;
}

static void exchange(const work_t *w, aip_span_t bytes)
{
    static const aip_http1_request_t request = {AIP_SPAN("POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
                                                AIP_SPAN("{}")};
    static const aip_http1_limits_t limits = {.write_timeout = 1000, .read_timeout = 1000};
    peer_t peer = {.bytes = bytes};
    const aip_conn_t conn = {&peer, peer_read, peer_write, peer_wait, peer_now, peer_tls_failed};
    const aip_http1_sink_t sink = {&peer, on_head, on_body, on_wait};
    aip_http1_result_t result;

    aip_http1_exchange(&conn, &request, &limits, &sink, &result, w->scratch);
    need(result.outcome == AIP_OUTCOME_OK && result.reusable && peer.body > 0);
}

static void exchange_length(const work_t *w)
{
    exchange(w, w->response);
}

static void exchange_chunked(const work_t *w)
{
    exchange(w, w->chunked);
}

static bool read_event(void *ctx, const aip_sse_event_t *event)
{
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    aip_answer_t answer;

    *(int *)ctx += aip_answer_read(event->data, &answer, &usage);
    return true;
}

/* The whole of a stream, its events read for usage and text. */
static void stream(const work_t *w)
{
    int read = 0;

    need(aip_sse_feed(aip_sse_create(w->scratch, 1u << 20), w->stream.data, w->stream.len,
                      read_event, &read));
    need(read == EVENTS);
}

/* As for a stream's chunk, or for a span that tells why it ended. */
static void answer(const work_t *w)
{
    aip_usage_t found = AIP_USAGE_UNKNOWN;
    aip_answer_t read;

    need(aip_answer_read(w->answer, &read, &found) && read.finish_reason.data);
}

static void usage(const work_t *w)
{
    aip_usage_t found = AIP_USAGE_UNKNOWN;
    aip_answer_t read;

    need(aip_answer_read_usage(w->answer, false, &read, &found) && found.cached_tokens == 20);
}

static void decide(const work_t *w)
{
    static const double threshold = 0.8;
    const aip_route_rules_t rules = {.threshold = &threshold};
    aip_decision_t decision;

    aip_decide(w->routes, w->distances, &rules, &decision, w->scratch);
    need(decision.n > 1);
}

static void embed(const work_t *w)
{
    float *vector =
        apr_palloc(w->scratch, (apr_size_t)aip_model2vec_dims(w->model) * sizeof *vector);

    need(aip_model2vec_embed(
             w->model,
             AIP_SPAN("Please compare the three quotes for the new roof and tell me which builder "
                      "can start before the first autumn storms"),
             vector) > 0);
}

static const struct {
    const char *name;
    void (*run)(const work_t *w);
} parts[] = {{"chat-330B", chat_small},
             {"chat-33KB", chat_large},
             {"prompt-330B", prompt},
             {"exchange-length", exchange_length},
             {"exchange-chunked", exchange_chunked},
             {"stream-100-events", stream},
             {"answer-800B", answer},
             {"usage-800B", usage},
             {"decide-20-routes", decide},
             {"embed-20-words", embed}};

int main(int argc, char **argv)
{
    work_t w = {0};

    for (size_t i = 0; argc < 3 && i < sizeof parts / sizeof *parts; i++) {
        puts(parts[i].name);
    }
    if (argc < 3) {
        return 0;
    }
    need(apr_initialize() == APR_SUCCESS && apr_pool_create(&w.pool, NULL) == APR_SUCCESS &&
         apr_pool_create(&w.scratch, w.pool) == APR_SUCCESS);
    prepare(&w);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(parts[i].name, argv[1]) != 0) {
            continue;
        }
        if (parts[i].run == embed) {
            load_model(&w);
        }
        for (long n = strtol(argv[2], NULL, 10); n > 0; n--) {
            parts[i].run(&w);
            apr_pool_clear(w.scratch);
        }
        return 0;
    }
    fprintf(stderr, "pure: no part %s\n", argv[1]);
    return 1;
}
