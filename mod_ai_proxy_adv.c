/* SPDX-License-Identifier: Apache-2.0 */
/* The module: hooks and lifecycle, nothing else. The way of a request begins in
 * src/request/handler.c. */
#include "aip/config.h"
#include "aip/endpoint.h"
#include "aip/observe.h"
#include "aip/request.h"

#include <apr_file_io.h>
#include <apr_strings.h>
#include <curl/curl.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <unistd.h>
#include <unixd.h>

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog, (void)ptemp;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK; /* the configuration is read a second time before anything starts */
    }
    apr_status_t rv = aip_counters_create(pconf);
    rv = rv ? rv : aip_endpoints_define(pconf, s);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AIP0003: cannot prepare the gateway");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    for (int i = 0; i < aip_registry->gateways->nelts; i++) {
        const aip_gateway_t *gateway = &APR_ARRAY_IDX(aip_registry->gateways, i, aip_gateway_t);
        const char *dir = ap_runtime_dir_relative(pconf, gateway->conf->f.state_dir);
        rv = apr_dir_make_recursive(dir, APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE,
                                    pconf);
        if (rv == APR_SUCCESS && geteuid() == 0 &&
            chown(dir, ap_unixd_config.user_id, ap_unixd_config.group_id) != 0) {
            rv = APR_FROM_OS_ERROR(errno);
        }
        if (rv != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_WARNING, rv, s,
                         "AIP0004: cannot make AIStateDir %s; reference vectors are not kept "
                         "over a restart",
                         dir);
        }
    }
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
    curl_global_init(CURL_GLOBAL_DEFAULT);
    apr_pool_cleanup_register(pchild, NULL, curl_done, apr_pool_cleanup_null);
    aip_statistics_init(pchild, s);
    aip_endpoints_init(pchild, s);
    aip_routers_init(pchild, s);
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const mod_proxy[] = {
        "mod_proxy.c", NULL}; /* its child_init opens the mutex that workers need */
    (void)pool;
    ap_hook_pre_config(aip_config_pre, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_config(aip_statistics_register, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(aip_check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_open_logs(aip_statistics_open, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, mod_proxy, NULL, APR_HOOK_MIDDLE);
    ap_hook_translate_name(aip_hook_translate_name, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_map_to_storage(aip_hook_map_to_storage, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(aip_hook_handler, NULL, mod_proxy, APR_HOOK_FIRST);
    ap_hook_insert_error_filter(aip_hook_insert_error_filter, NULL, NULL, APR_HOOK_LAST);
    ap_hook_log_transaction(aip_statistics_write, NULL, NULL, APR_HOOK_MIDDLE);
    aip_register_filters();
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
