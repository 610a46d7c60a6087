/* SPDX-License-Identifier: Apache-2.0 */
/* The module: hooks and lifecycle, nothing else. The way of a request begins in
 * src/request/handler.c. */
#include "aip/access.h"
#include "aip/account.h"
#include "aip/config.h"
#include "aip/endpoint.h"
#include "aip/flights.h"
#include "aip/observe.h"
#include "aip/request.h"
#include "aip/route_cache.h"
#include "aip/secrets.h"
#include "aip/signals.h"
#include "aip/state.h"
#include "aip/traces.h"

#include <ap_mpm.h>
#include <apr_file_io.h>
#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <curl/curl.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_status.h>
#include <unistd.h>
#include <unixd.h>

/* The directory of cached vectors: made when it is not there, and only then given to the children's
 * user. One that exists is the operator's. */
static apr_status_t make_state_dir(const char *dir, apr_pool_t *pool)
{
    apr_fileperms_t own = APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE;
    apr_fileperms_t others =
        APR_FPROT_GREAD | APR_FPROT_GEXECUTE | APR_FPROT_WREAD | APR_FPROT_WEXECUTE;
    apr_status_t rv = apr_dir_make_recursive(ap_make_dirstr_parent(pool, dir), own | others, pool);
    rv = rv ? rv : apr_dir_make(dir, own, pool);
    if (APR_STATUS_IS_EEXIST(rv)) {
        return APR_SUCCESS;
    }
    if (rv == APR_SUCCESS && geteuid() == 0 &&
        lchown(dir, ap_unixd_config.user_id, ap_unixd_config.group_id) != 0) {
        rv = APR_FROM_OS_ERROR(errno);
    }
    return rv;
}

static void need_state_dir(const aip_location_fields_t *f, apr_pool_t *pconf, server_rec *s)
{
    const char *dir = ap_runtime_dir_relative(pconf, f->state_dir);
    apr_status_t rv = make_state_dir(dir, pconf);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, s,
                     "AIP0004: cannot make AIStateDir %s; reference vectors are not kept over a "
                     "restart",
                     dir);
    }
}

static void make_state_dirs(apr_pool_t *pconf, server_rec *s)
{
    for (int i = 0; i < aip_registry->gateways->nelts; i++) {
        need_state_dir(&APR_ARRAY_IDX(aip_registry->gateways, i, aip_gateway_t).conf->f, pconf, s);
    }
    /* A pattern or an <If> may name one for gateways that only requests put together. */
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (!section->path && section->dir->f.set[AIP_L_state_dir]) {
            need_state_dir(&section->dir->f, pconf, s);
        }
    }
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog, (void)ptemp;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        /* The configuration is read a second time before anything starts; but a start that shall
         * fail has to fail before the process has left its terminal. */
        return aip_secrets_first_look(pconf, s) == APR_SUCCESS ? OK : HTTP_INTERNAL_SERVER_ERROR;
    }
    apr_status_t rv = aip_states_create(pconf, s);
    rv = rv ? rv : aip_endpoints_define(pconf, s);
    aip_fragments_make(pconf);
    rv = rv ? rv : aip_route_cache_open(pconf, s);
    rv = rv ? rv : aip_flights_create(pconf, s);
    rv = rv ? rv : aip_secrets_open(pconf, s);
    rv = rv ? rv : aip_status_open();
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AIP0003: cannot prepare the gateway");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    make_state_dirs(pconf, s);
    aip_config_merge_all(pconf);
    return OK;
}

static apr_status_t curl_done(void *data)
{
    (void)data;
    curl_global_cleanup();
    return APR_SUCCESS;
}

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    int threaded = 0;
    aip_signals_taken = ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) != APR_SUCCESS || !threaded;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    apr_pool_cleanup_register(pchild, NULL, curl_done, apr_pool_cleanup_null);
    aip_states_child_init(pchild, s);
    aip_statistics_init(pchild, s);
    aip_route_cache_child_init(pchild, s);
    aip_flights_child_init(pchild, s);
    aip_endpoints_init(pchild, s);
    aip_secrets_child_init(pchild, s);
    aip_routers_init(pchild, s);
    aip_exchange_init(pchild, s);
    aip_traces_child_init(pchild, s);
    aip_decide_child_init(pchild);
    aip_hold_child_init();
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const mod_proxy[] = {
        "mod_proxy.c", NULL}; /* its child_init opens the mutex that workers need */
    static const char *const rewriters[] = {"mod_rewrite.c", "mod_alias.c",
                                            NULL}; /* their redirects and refusals come first */
    (void)pool;
    ap_hook_pre_config(aip_config_pre, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_config(aip_statistics_register, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_config(aip_route_cache_register, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_config(aip_flights_register, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_config(aip_log_items_register, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(aip_check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(aip_config_dump, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_open_logs(aip_statistics_open, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_status(aip_states_child_status, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, mod_proxy, NULL, APR_HOOK_MIDDLE);
    ap_hook_translate_name(aip_hook_translate_name, rewriters, NULL, APR_HOOK_FIRST);
    ap_hook_map_to_storage(aip_hook_map_to_storage, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_check_access(aip_hook_check_access, NULL, NULL, APR_HOOK_FIRST,
                         AP_AUTH_INTERNAL_PER_CONF);
    ap_hook_check_access_ex(aip_hook_check_access, NULL, NULL, APR_HOOK_FIRST,
                            AP_AUTH_INTERNAL_PER_CONF);
    ap_hook_check_authn(aip_hook_check_authn, NULL, NULL, APR_HOOK_FIRST,
                        AP_AUTH_INTERNAL_PER_CONF);
    ap_hook_handler(aip_hook_handler, NULL, mod_proxy, APR_HOOK_FIRST);
    ap_hook_handler(aip_metrics_handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(aip_status_handler, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, status_hook, aip_status_rows, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_insert_error_filter(aip_hook_insert_error_filter, NULL, NULL, APR_HOOK_LAST);
    ap_hook_log_transaction(aip_account_close, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_log_transaction(aip_statistics_write, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(aip_hold_client, NULL, NULL, APR_HOOK_REALLY_LAST);
    aip_register_filters();
    aip_backend_register();
}

AP_DECLARE_MODULE(ai_proxy_adv) = {
    STANDARD20_MODULE_STUFF,
    aip_config_create_dir,
    aip_config_merge_dir,
    NULL,
    NULL,
    aip_commands,
    register_hooks,
    0,
};
