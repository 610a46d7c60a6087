/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_NET_REDIS_TLS_H
#define AIP_NET_REDIS_TLS_H
/* TLS for a connection to Redis; private to the core, used by redis_connection.c alone. */

#include <hiredis/hiredis.h>

#include "aip/vectordb.h"

/** What the connections of one configuration share in a process; never changed after creation. */
typedef struct aip_redis_tls_t aip_redis_tls_t;

/**
 * Reads the files that `conf` names, once. Never NULL: what is wrong with them is what every
 * aip_redis_tls_start() says, so a connection without the checks that were asked for is never made.
 */
const aip_redis_tls_t *aip_redis_tls_create(const aip_redis_conf_t *conf, apr_pool_t *pool);

/**
 * The handshake on a fresh connection with whom `conf` names, its references resolved, ended at
 * `deadline` (0: never). After success `c` is in hiredis' non-blocking mode (no REDIS_BLOCK),
 * because one blocking read of TLS may be many of the socket and has no limit of its own: who uses
 * it waits with aip_redis_wait(). After failure `c` is good for redisFree() only, and err->message
 * says why: what is wrong with the certificate, the peer's alert, or the time.
 */
apr_status_t aip_redis_tls_start(const aip_redis_tls_t *tls, const aip_redis_conf_t *conf,
                                 redisContext *c, apr_time_t deadline, apr_pool_t *pool,
                                 aip_error_t *err);

/** Before a call of hiredis on a TLS connection: errors that somebody else left in this thread are
 * not this call's. */
void aip_redis_tls_forget(void);

/** Why the last call failed in TLS itself (an alert of the peer, a bad record), or NULL. */
const char *aip_redis_tls_reason(void);

/** Waits until the socket is ready for `events` (POLLIN, POLLOUT). @return false: `deadline` came;
 * 0 is none */
bool aip_redis_wait(const redisContext *c, short events, apr_time_t deadline);

#endif
