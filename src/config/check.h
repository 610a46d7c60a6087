/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_CONFIG_CHECK_H
#define AIP_SRC_CONFIG_CHECK_H
/* Private to src/config: the check of one section, as a request to its path would see it. */

#include "aip/config.h"

typedef struct aip_check_t {
    apr_pool_t *pool;
    const aip_section_t *section;
    aip_dir_conf_t *conf; /* effective */
    int errors;
} aip_check_t;

/** Logs an error with the section's place, and counts it. */
void aip_complain(aip_check_t *check, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Directives about routes, sessions and the cache. */
void aip_check_routing(aip_check_t *check);

/** Makes the section's AIRouteCache, if it needs one. */
void aip_check_cache(aip_check_t *check);

/** What embeds: the directives, the local model, the endpoint. */
void aip_check_embeddings(aip_check_t *check);
void aip_check_vectordb(aip_check_t *check);

/** What a request may need that gets its configuration from a combination of sections, which cannot
 * be checked as a whole: after the start neither a model can be loaded nor an endpoint or a cache
 * be made. */
void aip_prepare_embedder(aip_check_t *check);

#endif
