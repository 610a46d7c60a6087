/* SPDX-License-Identifier: Apache-2.0 */
/* check_config for AITraces: where the spans of each server go, checked before anything starts. */
#include "check.h"

#include "aip/secret.h"
#include "aip/traces.h"
#include "aip/vault.h"

#include <apr_strings.h>
#include <http_core.h>

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same(const aip_traces_conf_t *a, const aip_traces_conf_t *b)
{
    return same_text(a->endpoint, b->endpoint) && same_text(a->header_name, b->header_name) &&
           same_text(a->header_value, b->header_value) && same_text(a->service, b->service) &&
           a->queue_size == b->queue_size && a->flush_interval == b->flush_interval &&
           a->timeout == b->timeout && a->egress == b->egress;
}

/* NULL, or what is wrong. Without export too: what is written should be right. */
static const char *header_error(const aip_location_fields_t *f, apr_pool_t *pool)
{
    const char *name = f->traces_header_name, *value = f->traces_header_value;
    if (!name != !value) {
        return name ? "AITracesHeaderName needs AITracesHeaderValue"
                    : "AITracesHeaderValue needs AITracesHeaderName";
    }
    if (name && !aip_header_name_ok(name)) {
        return apr_psprintf(pool, "AITracesHeaderName '%s' is no header name", name);
    }
    if (name && (strcasecmp(name, "Content-Type") == 0 || strcasecmp(name, "Expect") == 0)) {
        return apr_psprintf(pool, "AITracesHeaderName: %s is the gateway's own to send", name);
    }
    return value && !aip_reference_in(value) && !aip_header_value_ok(value)
               ? "AITracesHeaderValue: the value cannot be sent in a header"
               : NULL;
}

static const char *endpoint_error(const aip_location_fields_t *f, const aip_egress_t *egress,
                                  apr_pool_t *pool)
{
    aip_url_t url;
    const char *why;
    if (aip_url_parse(f->traces_endpoint, &url, pool, &why) != APR_SUCCESS) {
        return apr_psprintf(pool, "AITracesEndpoint '%s' %s",
                            aip_url_shown(f->traces_endpoint, pool), why);
    }
    const char *denied =
        f->traces == AIP_TRACES_EXPORT ? aip_egress_denied(egress, &url, pool) : NULL;
    return denied ? apr_pstrcat(pool, "AITracesEndpoint: ", denied, NULL) : NULL;
}

static const aip_traces_conf_t *share(const aip_location_fields_t *f, const aip_egress_t *egress,
                                      apr_pool_t *pconf)
{
    apr_array_header_t *all = aip_registry->traces;
    aip_traces_conf_t conf = {.index = all->nelts,
                              .endpoint = f->traces_endpoint,
                              .header_name = f->traces_header_name,
                              .header_value = f->traces_header_value,
                              .service = f->traces_service_name,
                              .queue_size = (int)f->traces_queue_size,
                              .flush_interval = apr_time_from_msec(f->traces_flush_interval),
                              .timeout = apr_time_from_msec(f->traces_timeout),
                              .egress = egress};
    for (int i = 0; i < all->nelts; i++) {
        const aip_traces_conf_t *other = APR_ARRAY_IDX(all, i, const aip_traces_conf_t *);
        if (same(other, &conf)) {
            return other;
        }
    }
    return APR_ARRAY_PUSH(all, const aip_traces_conf_t *) = apr_pmemdup(pconf, &conf, sizeof conf);
}

/* The place of the server's first line, for messages. */
static int complain(server_rec *s, const char *error, apr_pool_t *pconf)
{
    aip_section_t section = {.server = s, .where = s->is_virtual ? "a virtual host" : "the server"};
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *other = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (other->server == s && other->path && !*other->path) {
            section = *other;
        }
    }
    aip_check_t check = {.pool = pconf, .section = &section};
    aip_complain(&check, "%s", error);
    return check.errors;
}

static int prepare(server_rec *s, const aip_location_fields_t *f, apr_pool_t *pconf)
{
    const aip_egress_t *egress = aip_egress_of(s);
    const char *error = header_error(f, pconf);
    error = error ? error : endpoint_error(f, egress, pconf);
    if (error) {
        return complain(s, error, pconf);
    }
    if (f->traces == AIP_TRACES_EXPORT) {
        server_rec **key = apr_pmemdup(pconf, &s, sizeof s);
        apr_hash_set(aip_registry->traces_of, key, sizeof *key, share(f, egress, pconf));
    }
    return 0;
}

int aip_traces_prepare(apr_pool_t *pconf, server_rec *main_server)
{
    int errors = 0;
    aip_registry->traces = apr_array_make(pconf, 2, sizeof(const aip_traces_conf_t *));
    aip_registry->traces_of = apr_hash_make(pconf);
    for (server_rec *s = main_server; s; s = s->next) {
        const aip_dir_conf_t *dir = ap_get_module_config(s->lookup_defaults, &ai_proxy_adv_module);
        errors += dir ? prepare(s, &dir->f, pconf) : 0;
    }
    return errors;
}
