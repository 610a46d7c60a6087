/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_NET_REDIS_POOL_H
#define AIP_NET_REDIS_POOL_H
/* Connections to one Redis server, shared by the threads of a process; private to the core. A
 * caller never holds a connection: it hands over commands and gets their replies. */

#include "redis_connection.h"

typedef struct aip_redis_pool_t aip_redis_pool_t;

/**
 * A pool of at most conf->pool_size idle connections. Makes no connection. Every process that uses
 * it after a fork gets connections of its own; `conf` is copied, its strings must live as long as
 * `pool`, whose end closes everything.
 */
aip_redis_pool_t *aip_redis_pool_create(const aip_redis_conf_t *conf, apr_pool_t *pool);

/**
 * Sends `n` commands in one go and reads their replies, on a pooled connection or a new one. The
 * commands must be idempotent: when a pooled connection turns out to be dead before any reply byte
 * came, all are sent once more on a new connection. Thread-safe; blocks at most for the time-outs
 * of the configuration. SIGPIPE must be ignored by the process, as httpd does (hiredis writes
 * without MSG_NOSIGNAL).
 * @param replies  out, `n` replies, never NULL, freed when `pool` is cleared; error replies are for
 * the caller to judge
 * @return APR_SUCCESS, or APR_EGENERAL with err->code vectordb_unreachable, _timeout, _auth or
 * _error
 */
apr_status_t aip_redis_run(aip_redis_pool_t *redis, const aip_redis_command_t *commands, int n,
                           redisReply **replies, apr_pool_t *pool, aip_error_t *err);

#endif
