/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ROUTE_CACHE_H
#define AIP_ROUTE_CACHE_H
/* Glue: what children, and machines, remember together about prompts and sessions, in one of
 * httpd's socache providers. Keys are digests. A provider that fails is a miss, never an error. */

#include "aip/config.h"

#include <openssl/sha.h>

#define AIP_CACHE_KEY SHA256_DIGEST_LENGTH

typedef struct aip_route_cache_t aip_route_cache_t;

/** pre_config hook: the lock's type. */
int aip_route_cache_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);

/** Whether a socache provider of that name is loaded. */
bool aip_route_cache_known(const char *provider);

/** Whether a section with these fields remembers anything. */
bool aip_route_cache_wanted(const aip_location_fields_t *f);

/** check_config: parses AIRouteCache and makes the instance, once for all sections that say the
 * same. @return NULL, or what is wrong */
const char *aip_route_cache_declare(const aip_location_fields_t *f, apr_pool_t *pconf);

/** post_config: opens all that were declared. Failures are logged. */
apr_status_t aip_route_cache_open(apr_pool_t *pconf, server_rec *s);

void aip_route_cache_child_init(apr_pool_t *pchild, server_rec *s);

/** The cache of a request's configuration, or NULL: none is configured or loaded. */
aip_route_cache_t *aip_route_cache_of(const aip_location_fields_t *f);

/** @param len  in: room in `data`, out: bytes of the value @return whether there is one */
bool aip_route_cache_get(aip_route_cache_t *cache, request_rec *r, const unsigned char *key,
                         void *data, unsigned *len);

/** Replaces what is kept under the key. @param replace  there may be an older value */
void aip_route_cache_put(aip_route_cache_t *cache, request_rec *r, const unsigned char *key,
                         const void *data, unsigned len, apr_interval_time_t ttl, bool replace);

#endif
