/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_SHARED_CACHE_CALLS_H
#define AIP_SRC_SHARED_CACHE_CALLS_H
/* Private to src/shared: calls of socache providers that go over the network, with a time limit.
 * httpd's redis and memcache providers wait for ever for a server that has stopped answering. */

#include "aip/aip.h"

#include <httpd.h>

#include <ap_socache.h>

/** Longest value. */
#define AIP_CACHE_VALUE_MAX 16400

typedef struct aip_cache_call_t {
    const ap_socache_provider_t *provider;
    ap_socache_instance_t *instance;
    server_rec *server;
    const unsigned char *key;
    unsigned key_len;
    bool store;
    apr_time_t expiry; /**< of a value to store */
} aip_cache_call_t;

/** child_init: starts the threads that make the calls. */
apr_status_t aip_cache_calls_init(void);

/**
 * Retrieves or stores. A call that is late goes on in its thread, and its result is dropped.
 * @param data  the value to store; room for the one to retrieve
 * @param len   its length, at most AIP_CACHE_VALUE_MAX; in: room, out: length
 * @return the provider's status; APR_TIMEUP: it is late; APR_EBUSY: no thread was free in time
 */
apr_status_t aip_cache_call(const aip_cache_call_t *call, void *data, unsigned *len,
                            apr_interval_time_t limit);

#endif
