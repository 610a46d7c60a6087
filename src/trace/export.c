/* SPDX-License-Identifier: Apache-2.0 */
/* The exporter of a child: takes spans out of the queue, posts them in batches, tries again where
 * the protocol says so, and gives up before it delays the end of the child. Runs in a background
 * thread of its own; nothing here is on a request's path. */
#include "aip/fetch.h"
#include "aip/otlp.h"
#include "aip/secret.h"
#include "aip/trace_export.h"

#include <apr_strings.h>
#include <stdatomic.h>
#include <string.h>

#define ANSWER_MAX (64u << 10)
#define ATTEMPTS 5
#define FIRST_PAUSE apr_time_from_msec(500)
#define LEAST_PAUSE apr_time_from_msec(100)
#define LONGEST_PAUSE apr_time_from_sec(30)
#define COMPLAIN_EVERY apr_time_from_sec(60)
/* An export that is under way when the child shall end; libcurl looks at the clock once a second,
 * so that both make AIP_TRACE_EXIT_LIMIT. */
#define GRACE apr_time_from_sec(1)

typedef struct run_t {
    const aip_trace_exporter_t *exporter;
    aip_otlp_origin_t origin;
    apr_pool_t *pool;  /* of one batch */
    apr_uint64_t full; /* spans that found the queue full, when that was looked at last */
    apr_time_t end;    /* after the order to end: when nothing more is sent; 0: no order yet */
} run_t;

typedef struct answer_t {
    int status; /* 0: none */
    apr_interval_time_t retry_after;
    aip_span_t body;
    const char *why; /* there is none */
    bool forbidden;  /* by the rules of egress: there will be none */
} answer_t;

aip_export_verdict_e aip_export_verdict(int status)
{
    if (status >= 200 && status < 300) {
        return AIP_EXPORT_TAKEN;
    }
    return status == 0 || status == 429 || status == 502 || status == 503 || status == 504
               ? AIP_EXPORT_AGAIN
               : AIP_EXPORT_REFUSED;
}

apr_interval_time_t aip_export_pause(int failed, apr_interval_time_t retry_after)
{
    apr_interval_time_t pause =
        retry_after >= 0 ? retry_after : FIRST_PAUSE << (failed < 8 ? failed - 1 : 7);
    return pause < LEAST_PAUSE ? LEAST_PAUSE : pause > LONGEST_PAUSE ? LONGEST_PAUSE : pause;
}

/* How long something may take that begins now. */
static apr_interval_time_t time_left(run_t *run)
{
    apr_interval_time_t timeout = run->exporter->conf->timeout;
    if (aip_is_stopping(run->exporter->stop) && !run->end) {
        run->end = apr_time_now() + AIP_TRACE_EXIT_LIMIT;
    }
    if (!run->end) {
        return timeout;
    }
    apr_interval_time_t left = run->end - apr_time_now();
    return left < timeout ? left : timeout;
}

static void post(run_t *run, aip_span_t body, apr_interval_time_t timeout, answer_t *answer)
{
    const aip_traces_conf_t *conf = run->exporter->conf;
    const char *headers[3] = {"Content-Type: application/x-protobuf", NULL, NULL};
    aip_error_t err = {0};
    *answer = (answer_t){.retry_after = -1};
    if (conf->header_name) {
        const char *value = aip_secret_text(conf->header_value, run->pool, NULL);
        if (!value || !aip_header_value_ok(value)) {
            answer->why = "AITracesHeaderValue has no value that can be sent";
            return;
        }
        headers[1] = apr_pstrcat(run->pool, conf->header_name, ": ", value, NULL);
    }
    aip_fetch_t fetch = {.url = conf->endpoint,
                         .headers = headers,
                         .body = body,
                         .egress = conf->egress,
                         .max = ANSWER_MAX,
                         .timeout = timeout,
                         .stop = run->end ? NULL : run->exporter->stop,
                         .grace = GRACE,
                         .retry_after = &answer->retry_after};
    if (aip_fetch(&fetch, &answer->status, &answer->body, run->pool, &err) != APR_SUCCESS) {
        answer->status = 0;
        answer->why = err.message;
        answer->forbidden = err.code && strcmp(err.code, "egress_denied") == 0;
    }
}

/* Once a minute, of all children together. */
static void complain(const run_t *run, const char *what)
{
    const aip_trace_exporter_t *exporter = run->exporter;
    apr_time_t now = apr_time_now();
    apr_int64_t last = atomic_load(&exporter->counts->complained);
    if (now - last < COMPLAIN_EVERY ||
        !atomic_compare_exchange_strong(&exporter->counts->complained, &last, now)) {
        return;
    }
    exporter->log.write(
        exporter->log.baton, AIP_LOG_WARNING,
        apr_psprintf(run->pool,
                     "AIP0330: spans are dropped: %s; so far %" APR_UINT64_T_FMT
                     " could not be exported, %" APR_UINT64_T_FMT " found the queue full",
                     what, (apr_uint64_t)atomic_load(&exporter->counts->dropped_failed),
                     (apr_uint64_t)atomic_load(&exporter->counts->dropped_queue)));
}

static void drop(run_t *run, int spans, const char *why)
{
    atomic_fetch_add(&run->exporter->counts->dropped_failed, (apr_uint64_t)spans);
    complain(run, why);
}

static void settle(run_t *run, int spans, const answer_t *answer)
{
    const char *message;
    int rejected = aip_otlp_rejected(answer->body, spans, &message, run->pool);
    atomic_fetch_add(&run->exporter->counts->exported, (apr_uint64_t)(spans - rejected));
    if (rejected) {
        drop(run, rejected,
             apr_psprintf(run->pool, "the collector refused %d of %d%s%s", rejected, spans,
                          message ? ": " : "", message ? message : ""));
    }
}

/* @return false: the thread shall end */
static bool pause_for(const run_t *run, apr_interval_time_t length)
{
    apr_time_t end = apr_time_now() + length;
    bool on = true;
    while (on && apr_time_now() < end) { /* a queue that fills does not end it */
        on = run->exporter->wait(run->exporter->baton, end - apr_time_now());
    }
    return on;
}

/* Sends a batch, again if need be. */
static void deliver(run_t *run, aip_span_t body, int spans)
{
    answer_t answer = {.why = "the server ends"};
    for (int failed = 0; failed < ATTEMPTS;) {
        bool ending = run->end;
        apr_interval_time_t left = time_left(run);
        if (left <= 0) {
            break;
        }
        post(run, body, left, &answer);
        switch (answer.forbidden ? AIP_EXPORT_REFUSED : aip_export_verdict(answer.status)) {
        case AIP_EXPORT_TAKEN:
            settle(run, spans, &answer);
            return;
        case AIP_EXPORT_REFUSED:
            failed = ATTEMPTS;
            break;
        case AIP_EXPORT_AGAIN:
            failed++;
            /* who does not answer now has had its time */
            if (ending || aip_is_stopping(run->exporter->stop)) {
                run->end = answer.status ? run->end : 1;
                failed = ATTEMPTS;
            } else if (failed < ATTEMPTS &&
                       !pause_for(run, aip_export_pause(failed, answer.retry_after))) {
                failed = ATTEMPTS - 1; /* one last attempt */
            }
            break;
        }
    }
    drop(run, spans,
         answer.status
             ? apr_psprintf(run->pool, "the collector answered with status %d", answer.status)
             : answer.why);
}

/* Written where the spans are: they are not copied again. */
static aip_span_t body_of(const run_t *run, aip_trace_batch_t *batch)
{
    aip_span_t head = aip_otlp_head(&run->origin, batch->len, run->pool);
    char *body = batch->data + AIP_TRACE_HEAD - head.len;
    memcpy(body, head.data, head.len);
    return (aip_span_t){body, head.len + batch->len};
}

/* One batch. @return false: there was nothing */
static bool send_batch(run_t *run)
{
    aip_trace_batch_t *batch = aip_trace_queue_take(run->exporter->queue);
    if (!batch) {
        return false;
    }
    deliver(run, body_of(run, batch), batch->spans);
    aip_trace_queue_give_back(run->exporter->queue, batch);
    apr_pool_clear(run->pool);
    return true;
}

static void look_at_queue(run_t *run)
{
    apr_uint64_t now = atomic_load(&run->exporter->counts->dropped_queue);
    if (now > run->full) {
        complain(run, "requests end faster than their spans can be exported");
        apr_pool_clear(run->pool);
    }
    run->full = now;
}

void aip_trace_export_run(const aip_trace_exporter_t *exporter)
{
    run_t run = {.exporter = exporter};
    aip_otlp_origin(&run.origin, exporter->conf->service, exporter->version, exporter->instance,
                    exporter->pool);
    apr_pool_create(&run.pool, exporter->pool);
    run.full = atomic_load(&exporter->counts->dropped_queue);
    while (exporter->wait(exporter->baton, exporter->conf->flush_interval)) {
        /* What came while a batch was sent waits for its own interval: many spans, few exports. */
        while (send_batch(&run) && aip_trace_queue_pressed(exporter->queue)) {
        }
        look_at_queue(&run);
    }
    (void)time_left(&run);
    while (send_batch(&run)) {
    }
}
