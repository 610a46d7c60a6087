/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_SHARED_BACKGROUND_H
#define AIP_SRC_SHARED_BACKGROUND_H
/* Private to the glue: one thread of a child that works now and then, and ends with the child.
 * Waking and ending it takes no lock, since prefork ends a child from inside a signal handler. */

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

/** How long the end of a child waits for a thread that hangs in a call to a store. */
#define AIP_BACKGROUND_GRACE apr_time_from_sec(1)

typedef struct aip_background_t aip_background_t;

/**
 * Starts `run`, which returns when aip_background_wait() says so. Ended and joined before `pool`
 * (which must be locked) is destroyed.
 */
apr_status_t aip_background_start(aip_background_t **background,
                                  void (*run)(aip_background_t *background, void *baton),
                                  void *baton, apr_pool_t *pool);

/**
 * The same for a thread that may hang in a call: it ends with `pchild`, which waits for it only for
 * AIP_BACKGROUND_GRACE and then leaves it to the end of the process. `pool` must live as long, as
 * must all that the thread uses.
 */
apr_status_t aip_background_start_loose(aip_background_t **background,
                                        void (*run)(aip_background_t *background, void *baton),
                                        void *baton, apr_pool_t *pool, apr_pool_t *pchild);

/** Waits for at most `limit`, or until woken. In the thread itself. @return false: it shall end */
bool aip_background_wait(aip_background_t *background, apr_interval_time_t limit);

/** Ends the present or next wait. From any thread. */
void aip_background_wake(const aip_background_t *background);

/** Not 0 as soon as the thread shall end: for what takes long. */
const volatile apr_uint32_t *aip_background_stop(const aip_background_t *background);

#endif
