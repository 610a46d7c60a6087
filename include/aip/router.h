/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ROUTER_H
#define AIP_ROUTER_H
/* The semantic router of one configuration in one child: embeds the routes' texts in the
 * background, keeps them in a file cache, answers distances from the vector store, and from its own
 * mirror while the store is away. */

#include "aip/egress.h"
#include "aip/embeddings.h"
#include "aip/json.h"
#include "aip/log.h"
#include "aip/model2vec.h"
#include "aip/route.h"
#include "aip/vectordb.h"

/** How texts become vectors. Strings live as long as the router. */
typedef struct aip_embedder_conf_t {
    const aip_model2vec_t *local; /**< in process; the rest is unused then */
    const char *provider, *model, *url;
    const char *header_name, *header_value; /**< credential, or NULL */
    const char *param_name, *param_value;   /**< credential parameter, or NULL */
    bool param_in_body;
    bool cloud;   /**< the credential is a token of a cloud identity */
    int identity; /**< its slot in the store of secrets, or -1 */
    int dims;
    bool send_dimensions;
    apr_interval_time_t timeout;
    const aip_egress_t *egress; /**< how the provider is reached; NULL: the defaults */
} aip_embedder_conf_t;

typedef struct aip_router_conf_t {
    const char *name; /**< for log lines: where the configuration stands */
    const aip_routes_t *routes;
    aip_embedder_conf_t embedder;
    aip_metric_e metric;
    const aip_redis_conf_t *redis;       /**< or NULL */
    const aip_pgvector_conf_t *pgvector; /**< or NULL; without either the mirror is the store */
    const char *cache_dir;               /**< directory of the file cache, or NULL */
    volatile apr_uint32_t
        *announced; /**< shared by all children: state of the store that was last logged; or NULL */
    aip_log_t log;
    void (*start)(void *baton); /**< called once in the background thread, when the references are
                                   there; or NULL */
    void *start_baton;
} aip_router_conf_t;

typedef struct aip_router_t aip_router_t;

/** A child of `parent` with an allocator of its own behind a lock: for pools that several threads
 * use while the parent's allocator may have no lock (prefork). */
apr_status_t aip_pool_create_locked(apr_pool_t **pool, apr_pool_t *parent);

/** Creates a router and starts its background thread; pool cleanup stops and joins it. One per
 * configuration and child. */
apr_status_t aip_router_create(aip_router_t **router, const aip_router_conf_t *conf,
                               apr_pool_t *pool);

/** Tells the background thread to end, and does not wait. */
void aip_router_end(aip_router_t *router);

/** Waits for the thread's end: while it makes references or is in conf->start() as long as that
 * takes, since what they use goes with the child; for a store that does not answer until `until`.
 * A thread that hangs there is left to the end of the process: for a router whose pool lives as
 * long. */
void aip_router_leave(aip_router_t *router, apr_time_t until);

/** Whether the references are there; waits for them up to `timeout` microseconds. Thread-safe. */
bool aip_router_ready(aip_router_t *router, apr_interval_time_t timeout);

/** The body of the embeddings call for one text. @param conf  also holds what the caller needs to
 * send it */
aip_span_t aip_router_request(const aip_embedder_conf_t *conf, const aip_span_t *texts, int n,
                              apr_pool_t *pool);

/** Takes the provider's answer for one text: a vector ready for aip_router_distances(). */
apr_status_t aip_router_response(const aip_router_t *router, aip_span_t body, float *vector,
                                 apr_pool_t *pool, aip_error_t *err);

/** Embeds in process. @return false when the text has no known word: there is no distance to
 * anything */
bool aip_router_embed_local(const aip_router_t *router, aip_span_t text, float *vector);

/** Distances of all texts of the routes. Never fails once aip_router_ready(): when the store does,
 * the mirror answers.
 * @param distances  float[routes->n_texts] @param deadline  of the request, 0: none; a store that
 * does not answer before it is not taken for away, if it has longer to answer
 * @param degraded  out: the mirror answered for the store */
void aip_router_distances(aip_router_t *router, const float *vector, float *distances,
                          apr_time_t deadline, bool *degraded, apr_pool_t *pool);

const aip_router_conf_t *aip_router_conf(const aip_router_t *router);

/** Hex SHA-256 over all that decides the distance of a prompt to the texts: embedder, dimensions,
 * metric, texts. Does not need the references. */
const char *aip_router_key(const aip_router_t *router);

/** Hex SHA-256 over what decides a text's vector: file cache key. Exposed for tests. */
const char *aip_reference_key(const aip_embedder_conf_t *conf, aip_span_t text, apr_pool_t *pool);

#endif
