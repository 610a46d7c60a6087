/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_PROXY_API_H
#define AIP_SRC_UPSTREAM_PROXY_API_H
/* Private to src/upstream: mod_proxy's functions, found at configuration time instead of linked, so
 * that modules may be loaded in any order and a missing mod_proxy is a configuration error. */

#include <httpd.h>
#include <mod_proxy.h>
#include <stdbool.h>

typedef struct aip_proxy_api_t {
    module *module; /**< proxy_module */
    __typeof__(&ap_proxy_define_worker) define_worker;
    __typeof__(&ap_proxy_initialize_worker) initialize_worker;
    __typeof__(&ap_proxy_acquire_connection) acquire_connection;
    __typeof__(&ap_proxy_determine_connection) determine_connection;
    __typeof__(&ap_proxy_check_connection) check_connection;
    __typeof__(&ap_proxy_connection_create_ex) connection_create_ex;
    __typeof__(&ap_proxy_release_connection) release_connection;
} aip_proxy_api_t;

/** The functions, looked up at the first call of a configuration; NULL when mod_proxy is not
 * loaded. */
const aip_proxy_api_t *aip_proxy_api(void);

/** Forgets them: another configuration read may load mod_proxy elsewhere. */
void aip_proxy_api_reset(void);

#endif
