/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_WATCHED_H
#define AIP_WATCHED_H
/* A file whose contents are kept parsed in memory and follow it without a restart. Opened while the
 * configuration is read, before the children are forked; each child looks at the file itself, at
 * most once a second, in the thread of whichever request comes first. What cannot be read or parsed
 * changes nothing: the last good contents stay. */

#include "aip/aip.h"

#include <apr_time.h>

typedef struct aip_watched_t aip_watched_t;

/** Makes contents of a file's text, all of it in `pool`, which lives as long as they do.
 * @return NULL: `error` says why, without quoting the text */
typedef void *aip_watched_parse_fn(const char *text, size_t len, apr_pool_t *pool,
                                   const char **error);

/**
 * Reads the file for the first time. `pool` is the configuration's.
 * @param path  absolute
 * @return NULL: `error` says why
 */
aip_watched_t *aip_watched_open(const char *path, aip_watched_parse_fn *parse, apr_pool_t *pool,
                                const char **error);

/** Whether everybody on the machine may read the file, as of the last time it was read. */
bool aip_watched_is_public(const aip_watched_t *watched);

/** When this process read what it holds now. Between aip_watched_acquire() and _release(). */
apr_time_t aip_watched_loaded(const aip_watched_t *watched);

/**
 * The contents; valid until aip_watched_release(), which must follow soon. Thread-safe; no thread
 * ever waits for another one: while one reads a new file the others get the old contents.
 * @param error  out: NULL, or why a new file cannot be used, allocated in `pool`; said once for
 *               each state of the file, by one of the children
 */
const void *aip_watched_acquire(aip_watched_t *watched, apr_time_t now, apr_pool_t *pool,
                                const char **error);
void aip_watched_release(aip_watched_t *watched);

#endif
