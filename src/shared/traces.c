/* SPDX-License-Identifier: Apache-2.0 */
/* The exporters of a child: a queue and a thread for each configuration of AITraces, so that a
 * collector that hangs does no harm to another server's spans. They end with the child, within
 * AIP_TRACE_EXIT_LIMIT. */
#include "aip/traces.h"

#include "background.h"

#include "aip/router.h"
#include "aip/signals.h"
#include "aip/state.h"

#include <apr_strings.h>
#include <http_log.h>
#include <stdatomic.h>

APLOG_USE_MODULE(ai_proxy_adv);

typedef struct exporter_t {
    aip_trace_exporter_t core;
    aip_background_t *background;
} exporter_t;

static exporter_t **exporters; /* of this child, by the index of their configuration; NULL: none */

aip_traces_counts_t *aip_traces_counts(void)
{
    return &aip_shared_words()->traces;
}

static bool wait_for(void *baton, apr_interval_time_t limit)
{
    return aip_background_wait(baton, limit);
}

static void log_line(void *baton, aip_log_level_e level, const char *message)
{
    ap_log_error(APLOG_MARK, (int)level, 0, (server_rec *)baton, "%s", message);
}

static void run(aip_background_t *self, void *baton)
{
    exporter_t *exporter = baton;
    exporter->core.baton = self;
    exporter->core.stop = aip_background_stop(self);
    aip_trace_export_run(&exporter->core);
}

static exporter_t *start(const aip_traces_conf_t *conf, apr_pool_t *pchild, server_rec *s)
{
    exporter_t *exporter = apr_pcalloc(pchild, sizeof *exporter);
    apr_pool_t *pool;
    exporter->core = (aip_trace_exporter_t){
        .conf = conf,
        .version = AIP_VERSION,
        .instance = aip_machine_id(),
        .queue = aip_trace_queue_create(conf->queue_size, AIP_TRACE_BATCH_BYTES, pchild),
        .counts = aip_traces_counts(),
        .log = {log_line, s},
        .wait = wait_for};
    apr_status_t rv = aip_pool_create_locked(&pool, pchild);
    exporter->core.pool = pool;
    if (rv == APR_SUCCESS && exporter->core.queue) {
        rv = aip_background_start(&exporter->background, run, exporter, pool);
    }
    if (!exporter->background) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "AIP0331: this child has no thread that exports spans: they are dropped");
        return NULL;
    }
    return exporter;
}

void aip_traces_child_init(apr_pool_t *pchild, server_rec *s)
{
    const apr_array_header_t *all = aip_registry->traces;
    exporters = apr_pcalloc(pchild, (apr_size_t)(all->nelts + 1) * sizeof(exporter_t *));
    for (int i = 0; i < all->nelts; i++) {
        exporters[i] = start(APR_ARRAY_IDX(all, i, const aip_traces_conf_t *), pchild, s);
    }
}

void aip_traces_push(const server_rec *s, aip_span_t data, int spans)
{
    const aip_traces_conf_t *conf = apr_hash_get(aip_registry->traces_of, &s, sizeof s);
    exporter_t *exporter = conf ? exporters[conf->index] : NULL;
    aip_trace_queued_e queued = AIP_TRACE_FULL;
    if (exporter) {
        sigset_t before;
        aip_signals_block(&before);
        queued = aip_trace_queue_push(exporter->core.queue, data, spans);
        aip_signals_restore(&before);
    }
    if (queued == AIP_TRACE_FULL) {
        atomic_fetch_add(&aip_traces_counts()->dropped_queue, (apr_uint64_t)spans);
    } else if (queued == AIP_TRACE_QUEUED_WAKE) {
        aip_background_wake(exporter->background);
    }
}
