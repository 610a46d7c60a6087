/* SPDX-License-Identifier: Apache-2.0 */
/* The status document: the server, its gateways, its secrets and files of API keys. Both forms of
 * the page show it, so that they cannot differ. */
#include "status.h"

#include "aip/apikey.h"
#include "aip/watched.h"

#include <ap_mpm.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>
#include <scoreboard.h>
#include <stdatomic.h>

APLOG_USE_MODULE(ai_proxy_adv);

const aip_gateway_t *aip_status_gateway(const aip_targets_t *targets)
{
    for (int i = 0; i < aip_registry->gateways->nelts; i++) {
        const aip_gateway_t *gateway = &APR_ARRAY_IDX(aip_registry->gateways, i, aip_gateway_t);
        if (gateway->conf->targets == targets) {
            return gateway;
        }
    }
    return NULL;
}

/* Those of its gateway, or of the section it stands in. */
const aip_location_fields_t *aip_status_fields(const aip_targets_t *targets)
{
    const aip_gateway_t *gateway = aip_status_gateway(targets);
    if (gateway) {
        return &gateway->conf->f;
    }
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (section->dir->targets == targets) {
            return &section->dir->f;
        }
    }
    return NULL;
}

/* ---- the server ---- */

static int children(void)
{
    int limit = 0, n = 0;
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &limit);
    for (int i = 0; i < limit && ap_exists_scoreboard_image(); i++) {
        n += ap_get_scoreboard_process(i)->pid != 0;
    }
    return n;
}

static json_t *server_object(apr_time_t now)
{
    const global_score *global = ap_get_scoreboard_global();
    int generation = 0;
    apr_time_t started = global ? global->restart_time : 0;
    ap_mpm_query(AP_MPMQ_GENERATION, &generation);
    return json_pack("{s:s, s:s, s:s, s:o, s:I, s:i, s:i, s:o}", "version", AIP_VERSION, "httpd",
                     ap_get_server_description(), "mpm", ap_show_mpm(), "started",
                     aip_status_time(started), "uptime_s",
                     (json_int_t)(started ? apr_time_sec(now - started) : 0), "generation",
                     generation, "children", children(), "time", aip_status_time(now));
}

/* ---- secrets ---- */

/* The vault's name out of "{vault://NAME/..." or "... <AIVault NAME>". */
static json_t *vault_of(const char *shown, apr_pool_t *pool)
{
    static const char *const starts[] = {"{vault://", "<AIVault "};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        const char *start = strstr(shown, starts[i]);
        if (start) {
            start += strlen(starts[i]);
            return aip_status_text(apr_pstrmemdup(pool, start, strcspn(start, "/>}?#")), pool);
        }
    }
    return json_null();
}

static json_t *secrets_list(apr_pool_t *pool)
{
    const aip_secrets_t *store = aip_secrets_used();
    json_t *list = json_array();
    apr_time_t now = apr_time_now();
    for (int i = 0; store && i < aip_secrets_count(store); i++) {
        aip_secret_look_t look;
        aip_secrets_look(store, i, now, &look);
        const char *kind = *look.shown == '{'                             ? "reference"
                           : strncmp(look.shown, "the identity", 12) == 0 ? "identity"
                                                                          : "login";
        json_array_append_new(
            list,
            json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:I}", "kind", kind, "vault",
                      vault_of(look.shown, pool), "reference", aip_status_text(look.shown, pool),
                      "state", look.state, "age_s",
                      look.checked ? json_integer(apr_time_sec(now - look.checked)) : json_null(),
                      "next_refresh_s",
                      look.due > now ? json_integer(apr_time_sec(look.due - now)) : json_null(),
                      "failures", (json_int_t)look.failures));
    }
    return list;
}

static json_t *key_files_list(request_rec *r)
{
    json_t *list = json_array();
    for (apr_hash_index_t *i = apr_hash_first(r->pool, aip_registry->key_files); i;
         i = apr_hash_next(i)) {
        const char *error, *name = apr_hash_this_key(i);
        aip_watched_t *file = apr_hash_this_val(i);
        const aip_apikeys_t *keys = aip_watched_acquire(file, apr_time_now(), r->pool, &error);
        json_array_append_new(list,
                              json_pack("{s:o, s:i, s:o}", "file", aip_status_text(name, r->pool),
                                        "consumers", aip_apikeys_count(keys), "loaded",
                                        aip_status_time(aip_watched_loaded(file))));
        aip_watched_release(file);
        if (error) {
            ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                          "AIP0340: %s; what was read before still holds", error);
        }
    }
    return list;
}

/* ---- gateways ---- */

static void set_share(json_t *object, json_int_t all)
{
    json_int_t own =
        json_integer_value(json_object_get(json_object_get(object, "hour"), "requests"));
    json_object_set_new(object, "share",
                        all > 0 ? json_real((double)own / (double)all) : json_null());
}

static json_t *targets_list(const aip_targets_t *targets, const aip_location_fields_t *f,
                            apr_time_t now, apr_pool_t *pool)
{
    json_t *list = json_array(), *object;
    json_int_t all = 0;
    size_t i;
    for (int k = 0; k < targets->n; k++) {
        json_array_append_new(list, aip_status_target(targets->list[k], f, now, pool));
    }
    json_array_foreach(list, i, object)
    {
        all += json_integer_value(json_object_get(json_object_get(object, "hour"), "requests"));
    }
    json_array_foreach(list, i, object)
    {
        set_share(object, all);
    }
    return list;
}

static json_t *gateway_object(const aip_targets_t *targets, apr_time_t now, apr_pool_t *pool)
{
    const aip_location_fields_t *f = aip_status_fields(targets);
    if (!f) {
        return json_null(); /* targets of no section: there are none */
    }
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:s, s:s}", "server", aip_status_text(targets->server, pool), "path",
        aip_status_text(targets->path, pool), "gateway", aip_status_text(targets->pool, pool),
        "currency", f->cost_currency, "algorithm",
        aip_field_word(&aip_location_table[AIP_L_balancer_algorithm], f->balancer_algorithm, pool));
    aip_status_routing(object, targets, aip_status_gateway(targets), f, pool);
    json_object_set_new(object, "targets", targets_list(targets, f, now, pool));
    json_t *totals = aip_status_totals(targets->list, targets->n, pool);
    json_object_set_new(totals, "all_requests",
                        json_integer((json_int_t)atomic_load(&targets->metrics->requests)));
    json_object_set_new(object, "totals", totals);
    aip_status_figures(object, targets->history->minutes, now, pool);
    json_object_set_new(object, "dry_run", json_boolean(aip_status_gateway(targets)));
    return object;
}

json_t *aip_status_document(request_rec *r)
{
    json_t *list = json_array();
    apr_time_t now = apr_time_now();
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        json_array_append_new(
            list,
            gateway_object(APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *), now, r->pool));
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "version", AIP_VERSION, "server",
                     server_object(now), "gateways", list, "secrets", secrets_list(r->pool),
                     "api_key_files", key_files_list(r));
}

int aip_status_refuse(request_rec *r, int status, const char *code, const char *message)
{
    aip_error_t error = {.status = status,
                         .type = status == HTTP_FORBIDDEN ? "permission_error"
                                                          : "invalid_request_error",
                         .code = code,
                         .message = message};
    return aip_respond_error(r, &error);
}
