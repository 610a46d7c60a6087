/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_CHAT_H
#define AIP_CHAT_H
/* A client's chat request in OpenAI's dialect (POST /v1/chat/completions): what the gateway reads
 * of it, the prompt text for routing, and the body for a target. Pure; the body is referenced, not
 * copied, and must outlive the chat. */

#include "aip/error.h"
#include "aip/json.h"
#include <apr_tables.h>

/** Members of the body that the gateway reads or writes. The order is that of aip_chat_t.members.
 */
typedef enum aip_chat_member_e {
    AIP_CHAT_MODEL,
    AIP_CHAT_MESSAGES,
    AIP_CHAT_STREAM,
    AIP_CHAT_STREAM_OPTIONS,
    AIP_CHAT_MAX_TOKENS,
    AIP_CHAT_MAX_COMPLETION_TOKENS,
    AIP_CHAT_TEMPERATURE,
    AIP_CHAT_TOP_P,
    AIP_CHAT_TOP_K,
    AIP_CHAT_MEMBERS /**< how many; members named by the caller follow */
} aip_chat_member_e;

/** At most this many further members can be named by a caller (credentials that travel in the
 * body). */
#define AIP_CHAT_EXTRA_MAX 16

typedef struct aip_chat_t {
    aip_span_t body;
    aip_json_member_t members[AIP_CHAT_MEMBERS + AIP_CHAT_EXTRA_MAX];
    const char *model;  /**< decoded, or NULL when absent, null or "" */
    bool stream;        /**< "stream": true */
    bool include_usage; /**< the client asked for stream_options.include_usage */
    bool has_options;   /**< stream_options is an object: include_usage_member points into it */
    aip_json_member_t include_usage_member;
} aip_chat_t;

/**
 * Checks a body and locates what the gateway needs.
 * Errors (status 400, type invalid_request_error, never quoting the body): no JSON / bad UTF-8 /
 * too deep (code invalid_json, message with the byte offset), not an object, an owned member twice
 * (code duplicate_member, param = its name), model neither string nor null, stream neither boolean
 * nor null, stream_options neither object nor null, messages missing (code missing_messages), not
 * an array, empty, or with an item that is no object.
 * @param extra  further top-level names that the caller will write, n_extra <= AIP_CHAT_EXTRA_MAX
 */
apr_status_t aip_chat_parse(aip_chat_t *chat, aip_span_t body, const aip_span_t *extra,
                            size_t n_extra, apr_pool_t *pool, aip_error_t *err);

/** Which messages make the prompt text. */
typedef enum aip_prompt_scope_e {
    AIP_PROMPT_LAST_USER, /**< the last message whose role is user */
    AIP_PROMPT_ALL_USER,  /**< all messages whose role is user */
    AIP_PROMPT_LAST_N,    /**< the last `count` messages of any role */
    AIP_PROMPT_ALL        /**< all messages */
} aip_prompt_scope_e;

typedef struct aip_prompt_t {
    aip_span_t text; /**< UTF-8; len 0 when there is no text (images only, no user message ...) */
    bool truncated;  /**< cut to max_bytes, at a character boundary */
} aip_prompt_t;

/**
 * Collects the prompt text: string contents, and the `text` of parts whose type is "text"; pieces
 * are joined by "\n". When it is longer than max_bytes the END of the text is kept for
 * AIP_PROMPT_LAST_N and AIP_PROMPT_ALL (newest words), the beginning otherwise. Duplicate
 * role/content/type/text members are errors as in aip_chat_parse().
 * @param count      messages for AIP_PROMPT_LAST_N, >= 1
 * @param max_bytes  > 0
 */
apr_status_t aip_chat_prompt(const aip_chat_t *chat, aip_prompt_scope_e scope, int count,
                             size_t max_bytes, aip_prompt_t *prompt, apr_pool_t *pool,
                             aip_error_t *err);

/** What a request needs of a model besides text; bits, in the order of the words of
 * AITargetAccepts. */
typedef enum aip_need_e {
    AIP_NEED_TEXT = 1u << 0, /**< always */
    AIP_NEED_TOOLS = 1u << 1,
    AIP_NEED_IMAGES = 1u << 2,
    AIP_NEED_AUDIO = 1u << 3,
    AIP_NEED_JSON_SCHEMA = 1u << 4
} aip_need_e;

/** What a request needs: tools or functions that are not empty, parts of type image_url or
 * input_audio in any message, audio among the modalities, a response_format of type json_schema.
 * Errors as for aip_chat_prompt(). */
apr_status_t aip_chat_needs(const aip_chat_t *chat, unsigned *needs, apr_pool_t *pool,
                            aip_error_t *err);

/**
 * What stays the same in all turns of a conversation: the contents of the messages up to the first
 * one whose role is user, as they are written in the body.
 * @param parts  out: contents in order; none when no message of the user is there
 * @param first  out: nothing follows, this is the first turn
 */
apr_status_t aip_chat_opening(const aip_chat_t *chat, apr_array_header_t **parts, bool *first,
                              apr_pool_t *pool, aip_error_t *err);

/** How max_tokens is spelled for a target. */
typedef enum aip_max_tokens_e {
    AIP_MAX_TOKENS_AUTO, /**< max_completion_tokens for the o1, o3, o4 and gpt-5 families, else
                            max_tokens */
    AIP_MAX_TOKENS_OLD,
    AIP_MAX_TOKENS_NEW
} aip_max_tokens_e;

/** True for models that reject max_tokens: o1, o3, o4, gpt-5 and what begins with one of them and
 * '-', '.' or end; a vendor prefix ("openai/") and letter case do not matter. */
bool aip_chat_wants_completion_tokens(const char *model);

/** What a target wants changed. Values are raw JSON; data NULL = not configured (the client's value
 * stays). */
typedef struct aip_chat_options_t {
    const char *model; /**< upstream name; NULL: the client's stays */
    aip_span_t max_tokens, temperature, top_p, top_k;
    aip_max_tokens_e max_tokens_name;
    bool drop_top_k;   /**< the dialect does not know top_k: neither the configured nor the client's
                          is sent */
    bool force_stream; /**< "stream": true whatever the client said */
    bool want_usage;   /**< streams: ask for stream_options.include_usage */
    bool drop_stream_options;           /**< the provider rejects stream_options */
    aip_span_t extra_name, extra_value; /**< one more member (credential in the body); name.data
                                           NULL = none; value is raw JSON */
    int extra_index; /**< its index among the `extra` names given to aip_chat_parse() */
    bool extra_keep; /**< keep the client's value when there is one */
} aip_chat_options_t;

/** Whether the client sent a member of the i-th `extra` name, other than null. */
bool aip_chat_has_extra(const aip_chat_t *chat, int i);

/**
 * The body for a target: owned members replaced, everything else byte for byte. If the client sent
 * the other spelling of max_tokens it is renamed, value kept, so that exactly one spelling leaves;
 * a configured max_tokens wins over both. When nothing changes chat->body itself is returned.
 */
aip_span_t aip_chat_build(const aip_chat_t *chat, const aip_chat_options_t *options,
                          apr_pool_t *pool);

#endif
