/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_GATEWAY_H
#define AIP_GATEWAY_H
/* What the fields of a section mean for the core: routes, rules, embedder, stores. Used by the
 * module and by aipctl, so that both decide alike. */

#include "aip/egress.h"
#include "aip/fields.h"
#include "aip/router.h"

/** Directory of a local embeddings model: a path as it is, a name below the installed models. */
const char *aip_model_dir(const char *name, apr_pool_t *pool);

/**
 * Fills `conf` from the AIEmbeddings and AIVectordb directives. Strings are shared with `f`.
 * @param local  the loaded model for provider local, else not looked at
 * @return NULL, or what is missing
 */
const char *aip_embedder_conf_of(const aip_location_fields_t *f, const aip_model2vec_t *local,
                                 aip_embedder_conf_t *conf, apr_pool_t *pool);

/**
 * Fills `egress` from the AIEgress directives. Strings are shared with `f`; the files are not read.
 * @return NULL, or a sentence that names the directive that is wrong
 */
const char *aip_egress_conf_of(const aip_location_fields_t *f, aip_egress_t *egress,
                               apr_pool_t *pool);

aip_redis_conf_t *aip_redis_conf_of(const aip_location_fields_t *f, apr_pool_t *pool);
aip_pgvector_conf_t *aip_pgvector_conf_of(const aip_location_fields_t *f, apr_pool_t *pool);

/** The routes of a section's targets, in order. Shares strings with `targets`. */
aip_routes_t *aip_routes_of(const aip_target_fields_t *const *targets, int n, apr_pool_t *pool);

/** Whether a decision of the section needs the network: a provider that embeds, or a store. */
bool aip_routing_is_remote(const aip_location_fields_t *f);

/** How a section decides. Points into `f`. */
aip_route_rules_t aip_route_rules_of(const aip_location_fields_t *f);

#endif
