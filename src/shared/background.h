/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_SHARED_BACKGROUND_H
#define AIP_SRC_SHARED_BACKGROUND_H
/* Private to the glue: one thread of a child that works now and then, and ends with the child.
 * Waking and ending it takes no lock, since prefork ends a child from inside a signal handler. */

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

typedef struct aip_background_t aip_background_t;

/**
 * Starts `run`, which returns when aip_background_wait() says so. Ended and joined before `pool`
 * (which must be locked) is destroyed.
 */
apr_status_t aip_background_start(aip_background_t **background,
                                  void (*run)(aip_background_t *background, void *baton),
                                  void *baton, apr_pool_t *pool);

/** Waits for at most `limit`, or until woken. In the thread itself. @return false: it shall end */
bool aip_background_wait(aip_background_t *background, apr_interval_time_t limit);

/** Ends the present or next wait. From any thread. */
void aip_background_wake(const aip_background_t *background);

/** Not 0 as soon as the thread shall end: for what takes long. */
const volatile apr_uint32_t *aip_background_stop(const aip_background_t *background);

#endif
