/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_REASSEMBLY_H
#define AIP_REASSEMBLY_H
/* Puts the chunks of a stream of OpenAI's dialect together again: the answer that they add up to.
 */

#include "aip/json.h"

typedef struct aip_reassembly_t aip_reassembly_t;

/** @param most  bytes that are kept */
aip_reassembly_t *aip_reassembly_create(size_t most, apr_pool_t *pool);

/** Takes the data of an event; what is no chunk is passed over. */
void aip_reassembly_add(aip_reassembly_t *whole, aip_span_t chunk);

/** A chat completion: of every choice the content, reasoning, refusal, tool calls and why it ended.
 * In the pool of `whole`. @param model  NULL: null */
aip_span_t aip_reassembly_text(const aip_reassembly_t *whole, const char *model);

/** Whether something has been left out. */
bool aip_reassembly_cut(const aip_reassembly_t *whole);

#endif
