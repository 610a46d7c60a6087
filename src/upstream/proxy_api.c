/* SPDX-License-Identifier: Apache-2.0 */
/* Finds mod_proxy at run time. Called while the configuration is read (one thread), later only
 * read. */
#include "proxy_api.h"

#include <dlfcn.h>
#include <http_config.h>

static aip_proxy_api_t api;

void aip_proxy_api_reset(void)
{
    api.module = NULL;
}

/* ISO C has no conversion from object to function pointer; POSIX dlsym() is used through this copy.
 */
static bool find(const char *name, void *function)
{
    void *symbol = dlsym(RTLD_DEFAULT, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

const aip_proxy_api_t *aip_proxy_api(void)
{
    if (!api.module) {
        module *found = ap_find_linked_module("mod_proxy.c");
        if (found && find("ap_proxy_define_worker", &api.define_worker) &&
            find("ap_proxy_initialize_worker", &api.initialize_worker) &&
            find("ap_proxy_acquire_connection", &api.acquire_connection) &&
            find("ap_proxy_determine_connection", &api.determine_connection) &&
            find("ap_proxy_check_connection", &api.check_connection) &&
            find("ap_proxy_connection_create_ex", &api.connection_create_ex) &&
            find("ap_proxy_release_connection", &api.release_connection)) {
            api.module = found;
        }
    }
    return api.module ? &api : NULL;
}
