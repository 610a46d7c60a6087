/* SPDX-License-Identifier: Apache-2.0 */
/* SetHandler ai-metrics: the books of all targets and gateways as text for Prometheus and its kin.
 * Who may read is the location's authorization and its AIAcls* rules, as with ai-status. The books
 * are read while requests write them; nobody waits for anybody. */
#include "metrics_private.h"
#include "status.h"

#include "aip/access.h"
#include "aip/observe.h"
#include "aip/signals.h"
#include "aip/trace_names.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <util_filter.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define BYTES_FOR_TARGET 24576 /* that begin with; the text grows */

/* A templated URL leads to many servers, which are not told apart. */
static const char *of_target(const char *labels, const aip_target_t *target, apr_pool_t *pool)
{
    const aip_url_t *url = &target->endpoint->url;
    bool known = !url->template;
    labels = aip_label(labels, "gen_ai_operation_name", "chat", pool);
    labels =
        aip_label(labels, "gen_ai_provider_name", aip_trace_provider(target->provider_name), pool);
    labels = aip_label(labels, "server_address", known ? url->host : "", pool);
    return aip_label(labels, "server_port", known ? apr_itoa(pool, url->port) : "", pool);
}

static void view_target(const aip_scrape_t *s, aip_target_view_t *view)
{
    const aip_target_t *target = view->target;
    const char *own = target->f.model_name;
    view->labels = aip_label(view->pool->labels, "target", target->name, s->apr);
    const char *common = of_target(view->labels, target, s->apr);
    for (int i = 0; i < AIP_SERIES; i++) {
        const aip_series_t *series = &target->metrics->series[i];
        bool other = i == AIP_SERIES - 1;
        if (!aip_series_used(series)) {
            continue;
        }
        const char *labels = aip_label(common, "gen_ai_request_model",
                                       own     ? own
                                       : other ? AIP_SERIES_OTHER
                                               : series->request_model,
                                       s->apr);
        labels = aip_label(labels, "gen_ai_response_model",
                           other ? AIP_SERIES_OTHER : series->response_model, s->apr);
        view->series[i] = series->error_type[0]
                              ? aip_label(labels, "error_type", series->error_type, s->apr)
                              : labels;
    }
}

static void view_all(aip_scrape_t *s)
{
    int n = 0;
    s->n_pools = aip_registry->targets->nelts;
    s->pools = apr_pcalloc(s->apr, (apr_size_t)(s->n_pools + 1) * sizeof *s->pools);
    for (int i = 0; i < s->n_pools; i++) {
        n += APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *)->n;
    }
    s->targets = apr_pcalloc(s->apr, (apr_size_t)(n + 1) * sizeof *s->targets);
    for (int i = 0; i < s->n_pools; i++) {
        aip_pool_view_t *pool = &s->pools[i];
        pool->targets = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        const aip_location_fields_t *fields = aip_status_fields(pool->targets);
        pool->fields = fields ? fields : s->f;
        pool->semantic = pool->fields->balancer_algorithm == AIP_ALGORITHM_SEMANTIC;
        pool->labels = aip_label(aip_label("", "server", pool->targets->server, s->apr), "pool",
                                 pool->targets->pool, s->apr);
        for (int k = 0; k < pool->targets->n; k++) {
            aip_target_view_t *view = &s->targets[s->n_targets++];
            view->target = pool->targets->list[k];
            view->pool = pool;
            view_target(s, view);
        }
    }
}

static int send_text(request_rec *r, aip_text_t *text)
{
    apr_bucket_alloc_t *alloc = r->connection->bucket_alloc;
    apr_bucket_brigade *brigade = apr_brigade_create(r->pool, alloc);
    if (text->failed) {
        free(text->data);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_set_content_length(r, (apr_off_t)text->len);
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_heap_create(text->data, text->len, free, alloc));
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(alloc));
    (void)ap_pass_brigade(r->output_filters, brigade); /* a scraper that left is no news */
    return OK;
}

static int show(request_rec *r)
{
    aip_scrape_t s = {.apr = r->pool, .f = &aip_dir_conf(r)->f};
    sigset_t before;
    aip_signals_block(&before);
    s.out.openmetrics = aip_accepts_openmetrics(apr_table_get(r->headers_in, "Accept"));
    ap_set_content_type(r, s.out.openmetrics ? AIP_TYPE_OPENMETRICS : AIP_TYPE_TEXT_0_0_4);
    apr_table_mergen(r->headers_out, "Vary", "Accept");
    view_all(&s);
    aip_text_room(&s.out.text, (apr_size_t)(s.n_targets + 1) * BYTES_FOR_TARGET);
    aip_metrics_requests(&s);
    aip_metrics_gen_ai(&s);
    aip_metrics_targets(&s);
    aip_metrics_pools(&s);
    if (s.f->metrics_kong_names) {
        aip_metrics_kong(&s);
    }
    aip_exposition_end(&s.out);
    aip_signals_restore(&before);
    return send_text(r, &s.out.text);
}

int aip_metrics_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "ai-metrics") != 0) {
        return DECLINED;
    }
    if (!aip_acls_permit(r)) {
        return aip_status_refuse(r, HTTP_FORBIDDEN, "acl_denied",
                                 "this request is not permitted here");
    }
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    if (r->method_number != M_GET) {
        apr_table_setn(r->headers_out, "Allow", "GET, HEAD");
        return aip_status_refuse(r, HTTP_METHOD_NOT_ALLOWED, "method_not_allowed",
                                 "GET and HEAD are allowed");
    }
    return show(r);
}
