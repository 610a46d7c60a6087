/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_RETRY_AFTER_H
#define AIP_RETRY_AFTER_H
/* How long a provider asks to be left alone, read from an answer that refused a request. */

#include "aip/aip.h"
#include <apr_tables.h>
#include <apr_time.h>

/**
 * The longest pause that the header fields of a 429 or 5xx ask for:
 *   retry-after-ms: whole or decimal milliseconds (Azure, OpenAI);
 *   Retry-After: seconds (also decimal) or an HTTP date (RFC 9110, section 10.2.3); not looked at
 *     when retry-after-ms is good;
 *   x-ratelimit-reset-requests, x-ratelimit-reset-tokens, x-ratelimit-reset: a duration
 *     ("1s", "6m0s", "20ms", "2m59.56s", "1h2m"), seconds, or a Unix time in seconds or
 *     milliseconds; counts only where x-ratelimit-remaining(-requests, -tokens) of the same kind
 *     is there and 0, and only when neither of the above is good.
 * What cannot be read, is negative, not finite or in the past asks for nothing.
 * @param headers  names in any case, several of a kind: the longest counts
 * @param now  the time that dates are compared with
 * @return microseconds, 0: nothing is asked; never more than 10 years
 */
apr_interval_time_t aip_retry_after(const apr_table_t *headers, apr_time_t now);

/**
 * Whether an error body says that the account has no quota or credit left, so that waiting for
 * seconds is pointless: error.code or error.type is "insufficient_quota",
 * "billing_hard_limit_reached", "insufficient_credits", "quota_exceeded" or "billing_not_active"
 * (as strings, in OpenAI's shape; also at top level). Any body is allowed, whole or cut: what is no
 * JSON says no.
 */
bool aip_quota_exhausted(aip_span_t body);

#endif
