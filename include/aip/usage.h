/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_USAGE_H
#define AIP_USAGE_H
/* Token usage, read from responses and stream chunks of OpenAI's dialect, or estimated. */

#include "aip/json.h"

/** Larger counts make no sense, and are not taken. */
#define AIP_TOKENS_MAX APR_INT64_C(1000000000000)

/** Counts are -1 while unknown, and at most AIP_TOKENS_MAX. */
typedef struct aip_usage_t {
    apr_int64_t prompt_tokens, completion_tokens, total_tokens;
    apr_int64_t cached_tokens, reasoning_tokens; /**< parts of prompt and completion tokens */
    apr_int64_t cache_write_tokens;              /**< part of the prompt tokens */
    bool prompt_estimated, completion_estimated; /**< from the length of the texts */
    apr_int64_t cache_write_5m_tokens, cache_write_1h_tokens; /**< parts of cache_write_tokens */
} aip_usage_t;

#define AIP_USAGE_UNKNOWN ((aip_usage_t){-1, -1, -1, -1, -1, -1, false, false, -1, -1})

/** What is read of one response object or one stream chunk. */
typedef struct aip_answer_t {
    aip_span_t id;            /**< raw JSON string, data NULL when absent */
    aip_span_t model;         /**< raw JSON string, data NULL when absent */
    aip_span_t service_tier;  /**< raw JSON string, data NULL when absent */
    aip_span_t finish_reason; /**< raw, of the first choice */
    aip_span_t
        content; /**< raw JSON string of choices[0].message.content or choices[0].delta.content */
    apr_size_t text_bytes; /**< of the text of all choices, decoded: content, refusal, reasoning,
                              arguments of tool calls */
    bool brings;      /**< a delta brings content: text, a tool call, reasoning, a refusal, sound */
    bool speaks;      /**< that, or the first choice ends, or not all choices can be read */
    bool is_chunk;    /**< choices is an array, be it empty */
    bool has_choices; /**< choices is a non-empty array */
    bool has_usage;   /**< usage is an object */
    bool has_error;   /**< a top-level member "error" that is not null */
} aip_answer_t;

/**
 * Reads a response object or chunk; never fails loudly: what is not there stays unset. Usage found
 * is folded into `usage` (per field the last value that makes sense wins; total_tokens = the
 * provider's, else prompt + completion; cache_write_tokens = the provider's, else the sum of its
 * lifetimes).
 * @return false when `json` is no object. What is nested in it is checked only where it is read.
 */
bool aip_answer_read(aip_span_t json, aip_answer_t *answer, aip_usage_t *usage);

/** The same of a whole answer, of whose choices nothing is read when it tells how many tokens it
 * has: then content and text_bytes are not known, but has_choices is.
 * @param finish  finish_reason is wanted all the same */
bool aip_answer_read_usage(aip_span_t json, bool finish, aip_answer_t *answer, aip_usage_t *usage);

/**
 * Fills in what a provider did not tell about an answer, and marks it: four bytes of text are a
 * token. The prompt's text is that of all messages: contents, text parts, reasoning, arguments of
 * tool calls; images, sound and files are none.
 * @param messages  array of the request, validated
 * @param bytes     of text in the answer as far as it was seen, see aip_answer_t
 * @param later     of these, what came after the usage that was told last, and is not part of it
 */
void aip_usage_estimate(aip_usage_t *usage, aip_span_t messages, apr_size_t bytes,
                        apr_size_t later);

#endif
