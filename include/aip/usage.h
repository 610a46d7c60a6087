/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_USAGE_H
#define AIP_USAGE_H
/* Token usage and cost, read from responses and stream chunks of OpenAI's dialect. */

#include "aip/json.h"

/** Counts are -1 while unknown. */
typedef struct aip_usage_t {
    apr_int64_t prompt_tokens, completion_tokens, total_tokens;
    apr_int64_t cached_tokens, reasoning_tokens; /**< parts of prompt and completion tokens */
    apr_int64_t cache_write_tokens;              /**< part of the prompt tokens */
    bool prompt_estimated, completion_estimated; /**< from the length of the texts */
} aip_usage_t;

#define AIP_USAGE_UNKNOWN ((aip_usage_t){-1, -1, -1, -1, -1, -1, false, false})

/** What is read of one response object or one stream chunk. */
typedef struct aip_answer_t {
    aip_span_t model;         /**< raw JSON string, data NULL when absent */
    aip_span_t finish_reason; /**< raw, of the first choice */
    aip_span_t
        content;   /**< raw JSON string of choices[0].message.content or choices[0].delta.content */
    bool speaks;   /**< the first choice's delta brings content: text, a tool call, reasoning, a
                      refusal, sound; or the choice ends */
    bool is_chunk; /**< choices is an array, be it empty */
    bool has_choices; /**< choices is a non-empty array */
    bool has_usage;   /**< usage is an object */
    bool has_error;   /**< a top-level member "error" that is not null */
} aip_answer_t;

/**
 * Reads a response object or chunk; never fails loudly: what is not there stays unset. Usage found
 * is folded into `usage` (per field the last non-null value wins; total_tokens = the provider's,
 * else prompt + completion).
 * @return false when `json` is no JSON object
 */
bool aip_answer_read(aip_span_t json, aip_answer_t *answer, aip_usage_t *usage);

/** Price of a request in the currency of the prices, which are per 1 000 000 tokens; 0 when a count
 * is unknown. */
double aip_usage_cost(const aip_usage_t *usage, double input_cost, double output_cost);

#endif
