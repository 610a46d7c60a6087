/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_RECENT_H
#define AIP_RECENT_H
/* What one child has just learned from the route cache: distances of prompts that are asked again
 * and again, found without a lock. Small, and forgets at once what does not fit. For all threads of
 * one process. */

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

#define AIP_RECENT_KEY 32
#define AIP_RECENT_ROUTES 32 /* more distances than this are not kept */

typedef struct aip_recent_t aip_recent_t;

/** Empty, about 100 KB. */
aip_recent_t *aip_recent_create(apr_pool_t *pool);

/** @param key        AIP_RECENT_KEY bytes of a digest
 * @param distances  out, float[n], as they were put in
 * @return whether they are known at `now` */
bool aip_recent_get(aip_recent_t *recent, const unsigned char *key, apr_time_t now,
                    float *distances, int n);

/** Keeps them, in the place of others, for times before `until`. */
void aip_recent_put(aip_recent_t *recent, const unsigned char *key, apr_time_t until,
                    const float *distances, int n);

#endif
