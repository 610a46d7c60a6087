/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_REDACT_H
#define AIP_SRC_OBSERVE_REDACT_H
/* Private to src/observe: AILogRedact. */

#include "aip/config.h"

/**
 * Replaces what the patterns match: in the text as it is, then in each JSON string of it that holds
 * escapes, decoded.
 * @param cut  in and out: a place in the text; what is replaced around it lies before it afterwards
 * @return false: a pattern took more steps than PCRE allows; nothing may be logged
 */
bool aip_redact(const apr_array_header_t *patterns, aip_span_t *text, size_t *cut,
                apr_pool_t *pool);

#endif
