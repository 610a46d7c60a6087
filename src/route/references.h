/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_ROUTE_REFERENCES_H
#define AIP_SRC_ROUTE_REFERENCES_H
/* Private to src/route: making the references of a router. */

#include "aip/router.h"

/**
 * Embeds all texts of conf->routes: from the file cache where it can, the rest in one embeddings
 * calls, which only one process makes at a time when there is a cache. Blocks; background only.
 * @param stop  not 0: give up
 * @param refs  out, allocated in `pool`
 * @param calls out: embeddings calls made
 */
apr_status_t aip_references_make(const aip_router_conf_t *conf, const volatile apr_uint32_t *stop,
                                 aip_references_t **refs, int *calls, apr_pool_t *pool,
                                 aip_error_t *err);

/** Hex SHA-256 over embedder, dimensions, metric and all texts in order. */
const char *aip_router_digest(const aip_router_conf_t *conf, apr_pool_t *pool);

#endif
