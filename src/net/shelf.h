/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_NET_SHELF_H
#define AIP_NET_SHELF_H
/* Kept connections to one server, of whatever kind; private to the core. Every process has a shelf
 * of its own: neither the sockets nor a mutex that some thread may have held are shared across
 * fork(). The most recently used connection is taken first. Thread-safe; one mutex, under which
 * nobody connects, waits or closes. */

#include <apr_pools.h>
#include <stdbool.h>

typedef struct aip_shelf_t aip_shelf_t;     /**< of one process */
typedef struct aip_shelves_t aip_shelves_t; /**< of all that were forked from one */

/** Closes a connection. @param own  false: a parent process goes on using it, the server must not
 * notice */
typedef void aip_shelf_close_t(void *connection, bool own);

/** The end of `pool` closes what is kept. */
aip_shelves_t *aip_shelves_create(aip_shelf_close_t *close, apr_pool_t *pool);

/** The shelf of this process, made on first use and after a fork; NULL when there is no memory. */
aip_shelf_t *aip_shelf_get(aip_shelves_t *shelves);

/**
 * Takes the right to one connection, and a kept one if there is any.
 * @param most  rights that may be held at once where nothing is kept; negative: no limit
 * @param connection  out: a kept one, or NULL: the caller makes one
 * @return false when there is no right to be had
 */
bool aip_shelf_take(aip_shelf_t *shelf, apr_int64_t most, void **connection);

/** Another kept connection instead of a dead one, or NULL; the right to one is held already. */
void *aip_shelf_next(aip_shelf_t *shelf);

/** Gives the right back and keeps `connection` (may be NULL), or closes it when `most` are kept. */
void aip_shelf_give(aip_shelf_t *shelf, int most, void *connection);

#endif
