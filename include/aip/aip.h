/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_AIP_H
#define AIP_AIP_H
/* Types that every unit of the core shares. Core headers include this one; it includes APR only. */

#include <apr.h>
#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>
#include <stddef.h>

/** Bytes that somebody else owns; not terminated by NUL. `data` is NULL iff there is no value at
 * all. */
typedef struct aip_span_t {
    const char *data;
    size_t len;
} aip_span_t;

/** A span of a string literal. */
#define AIP_SPAN(literal) ((aip_span_t){(literal), sizeof(literal) - 1})
/** The same in static tables, where that would be no constant expression in strict C. */
#define AIP_NAME(literal)                                                                          \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }

/** Whether somebody has set a word that tells a thread to end. NULL: nobody ever will. */
static inline bool aip_is_stopping(const volatile apr_uint32_t *stop)
{
    return stop && __atomic_load_n(stop, __ATOMIC_ACQUIRE);
}

#endif
