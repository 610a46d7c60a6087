/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_NET_REDIS_CONNECTION_H
#define AIP_NET_REDIS_CONNECTION_H
/* One connection to Redis, and what its replies mean; private to the core. Everybody but the pool
 * uses redis_pool.h. */

#include <hiredis/hiredis.h>

#include "aip/vectordb.h"

/** One command with explicit lengths: arguments may hold any bytes. */
typedef struct aip_redis_command_t {
    int argc;
    const char **argv;
    const size_t *lens;
} aip_redis_command_t;

/** Where to connect and how. Never changed after creation. */
typedef struct aip_redis_endpoint_t {
    aip_redis_conf_t conf;
    const struct aip_redis_tls_t *tls; /**< with conf.ssl only */
} aip_redis_endpoint_t;

/** How an exchange on a connection ended. */
typedef enum aip_redis_outcome_e {
    AIP_REDIS_DONE,
    AIP_REDIS_CLOSED, /* by the peer, before any byte of a reply */
    AIP_REDIS_TIMEOUT,
    AIP_REDIS_FAILED
} aip_redis_outcome_e;

aip_redis_endpoint_t *aip_redis_endpoint_create(const aip_redis_conf_t *conf, apr_pool_t *pool);

/** A connection that is ready for commands; ended by redisFree(). err->code as in vectordb.h. */
apr_status_t aip_redis_connect(const aip_redis_endpoint_t *endpoint, redisContext **connected,
                               apr_pool_t *pool, aip_error_t *err);

/** Sends all commands, then reads all replies. On any other outcome than done there are no replies
 * and the connection must be closed. */
aip_redis_outcome_e aip_redis_exchange(redisContext *c, const aip_redis_conf_t *conf,
                                       const aip_redis_command_t *commands, int n,
                                       redisReply **replies);

/** Fills `err` for an exchange that was not done. @return APR_EGENERAL */
apr_status_t aip_redis_exchange_failed(const redisContext *c, aip_redis_outcome_e outcome,
                                       const aip_redis_conf_t *conf, apr_pool_t *pool,
                                       aip_error_t *err);

/**
 * Fills `err` from an error reply (or from a reply of an unexpected type): the code by its cause,
 * the message from the server's words, cut before anything that could repeat arguments.
 * @param doing  what was asked, for the message ("FT.SEARCH")
 * @return APR_EGENERAL
 */
apr_status_t aip_redis_refused(const redisReply *reply, const char *doing, apr_pool_t *pool,
                               aip_error_t *err);

#endif
