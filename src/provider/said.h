/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_PROVIDER_SAID_H
#define AIP_SRC_PROVIDER_SAID_H
/* Private to src/provider: the readers of answers. */

#include "aip/usage.h"

/** Finds members as aip_json_object_skim() does. A duplicate makes that member ambiguous, hence
 * absent; the others still count. */
bool aip_members_find(aip_span_t json, const aip_span_t *names, size_t n,
                      aip_json_member_t *members);

/** What a message, or the delta of a chunk, says. */
typedef struct aip_said_t {
    aip_span_t content; /**< raw string, data NULL when there is none */
    bool brings;        /**< something beside the role: text, a tool call, reasoning, sound ... */
    apr_size_t bytes;   /**< of text, decoded: content, refusal, reasoning, arguments of calls */
} aip_said_t;

/** Anything but an object says nothing. */
aip_said_t aip_said_read(aip_span_t message);

#endif
