/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_SECRET_SIGV4_PRIVATE_H
#define AIP_SRC_SECRET_SIGV4_PRIVATE_H
/* Parts of the canonical request; what they are given was checked before. */

#include "aip/sigv4.h"

/** Whether every '%' has two hexadecimal digits behind it. */
bool aip_sigv4_percent_good(const char *text);

/** The path as it is signed. */
const char *aip_sigv4_canonical_path(const char *path, unsigned flags, apr_pool_t *pool);

/** Name and value of each parameter encoded anew, sorted. */
const char *aip_sigv4_canonical_query(const char *query, apr_pool_t *pool);

/** A field for aip_sigv4_canonical_headers(). */
typedef struct aip_sigv4_field_t {
    const char *name; /**< in lower case */
    const char *value;
    size_t order; /**< its place among fields of the same name */
} aip_sigv4_field_t;

/**
 * Sorts the fields. @param names  out: "host;x-amz-date"
 * @return lines "name:value\n"; values of the same name joined by ','
 */
const char *aip_sigv4_canonical_headers(aip_sigv4_field_t *fields, size_t n, apr_pool_t *pool,
                                        const char **names);

#endif
