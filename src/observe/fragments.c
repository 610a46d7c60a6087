/* SPDX-License-Identifier: Apache-2.0 */
/* What logs and traces say of a gateway and a target in each request: written when the server
 * starts, copied afterwards. */
#include "fragments.h"

#include "aip/observe.h"
#include "aip/trace_names.h"

#define ROOM 512

void aip_fragment_meta(aip_json_out_t *out, const aip_target_t *target)
{
    aip_json_out_text(out, "plugin_id", "mod_ai_proxy_adv");
    aip_json_out_text(out, "target", target ? target->name : NULL);
    aip_json_out_text(out, "provider_name", target ? target->provider_name : NULL);
}

void aip_fragment_tried(aip_json_out_t *out, const aip_target_t *target, const aip_url_t *url)
{
    aip_json_out_text(out, "target", target->name);
    aip_json_out_text(out, "provider", target->provider_name);
    aip_json_out_text(out, "model", target->f.model_name);
    aip_json_out_text(out, "route_type", "llm/v1/chat");
    aip_json_out_text(out, "host", url->host);
    aip_json_out_int(out, "port", url->port);
    aip_json_out_text(out, "upstream_scheme", url->tls ? "https" : "http");
    aip_json_out_text(out, "upstream_uri", url->path);
}

static aip_span_t meta_of(const aip_target_t *target, apr_pool_t *pool)
{
    aip_json_out_t out;
    aip_json_out_init(&out, pool, ROOM);
    aip_fragment_meta(&out, target);
    return (aip_span_t){out.data, out.len};
}

static aip_span_t tried_of(const aip_target_t *target, apr_pool_t *pool)
{
    aip_json_out_t out;
    aip_json_out_init(&out, pool, ROOM);
    aip_fragment_tried(&out, target, &target->endpoint->url);
    return (aip_span_t){out.data, out.len};
}

void aip_fragment_request(aip_otlp_t *otlp, const aip_targets_t *targets,
                          const aip_target_t *target)
{
    aip_otlp_text(otlp, "gen_ai.operation.name", "chat");
    aip_otlp_text(otlp, "aiproxy.pool", targets->pool);
    aip_otlp_text(otlp, "aiproxy.target", target ? target->name : NULL);
}

void aip_fragment_server(aip_otlp_t *otlp, const aip_url_t *url)
{
    aip_otlp_text(otlp, "server.address", url->host);
    aip_otlp_count(otlp, "server.port", url->port);
}

static aip_span_t request_of(const aip_target_t *target, const aip_targets_t *targets,
                             apr_pool_t *pool)
{
    aip_otlp_t otlp = {.pool = pool};
    aip_fragment_request(&otlp, targets, target);
    return (aip_span_t){otlp.data, otlp.len};
}

static aip_span_t attempt_of(const aip_target_t *target, const aip_targets_t *targets,
                             apr_pool_t *pool)
{
    aip_otlp_t otlp = {.pool = pool};
    aip_fragment_request(&otlp, targets, target);
    aip_otlp_text(&otlp, "gen_ai.provider.name", aip_trace_provider(target->provider_name));
    aip_otlp_text(&otlp, "gen_ai.request.model", target->f.model_name);
    return (aip_span_t){otlp.data, otlp.len};
}

static aip_span_t server_of(const aip_target_t *target, apr_pool_t *pool)
{
    aip_otlp_t otlp = {.pool = pool};
    aip_fragment_server(&otlp, &target->endpoint->url);
    return (aip_span_t){otlp.data, otlp.len};
}

static aip_span_t labels_of(const aip_targets_t *targets, apr_pool_t *pool)
{
    aip_json_out_t out;
    aip_json_out_init(&out, pool, ROOM);
    aip_json_out_text(&out, "server", targets->server);
    aip_json_out_text(&out, "pool", targets->pool);
    return (aip_span_t){out.data, out.len};
}

void aip_fragments_make(apr_pool_t *pconf)
{
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        aip_targets_t *targets = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        targets->labels = labels_of(targets, pconf);
        for (int k = 0; k < targets->n; k++) {
            aip_target_t *target = targets->list[k];
            aip_fragments_t *fragments = apr_palloc(pconf, sizeof *fragments);
            *fragments = (aip_fragments_t){.meta = meta_of(target, pconf),
                                           .tried = tried_of(target, pconf),
                                           .request = request_of(target, targets, pconf),
                                           .attempt = attempt_of(target, targets, pconf),
                                           .server = server_of(target, pconf)};
            target->fragments = fragments;
        }
    }
}
