/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SECRET_H
#define AIP_SECRET_H
/* Vault references in configuration values, in Kong's spelling: {vault://env/NAME[/key]} and
 * {vault://file/path}. */

#include "aip/aip.h"

/**
 * Replaces every {vault://...} in `value`; a value without one is returned as it is.
 * env: the variable NAME, or NAME in upper case with '-' as '_'; a third part selects a member of a
 * JSON object. file: the absolute path after "file"; at most 64 KiB, one line end at the end is
 * dropped.
 * @param error  out on failure: a sentence that names the reference, never a value
 */
apr_status_t aip_secret_resolve(const char *value, const char **resolved, apr_pool_t *pool,
                                const char **error);

#endif
