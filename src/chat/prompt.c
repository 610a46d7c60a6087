/* SPDX-License-Identifier: Apache-2.0 */
/* The prompt: the text of a chat that is embedded. Messages are walked once; only those of the
 * scope are decoded, and of them no more than max_bytes need. Called once per semantic request,
 * after aip_chat_parse(). */

#include "chat_private.h"
#include "json_private.h"

#include <apr_strings.h>
#include <apr_tables.h>

/* A message of the scope. */
typedef struct chosen_t {
    aip_span_t content;
    size_t index; /* in messages, for errors */
} chosen_t;

/* The JSON strings that make the text. */
typedef struct pieces_t {
    const aip_chat_t *chat;
    apr_array_header_t *list; /* aip_span_t, none of them empty */
    apr_pool_t *pool;
    aip_error_t *err;
} pieces_t;

static size_t body_offset(const aip_chat_t *chat, aip_span_t value)
{
    return (size_t)(value.data - chat->body.data);
}

/* Fills `chosen` with the messages of the scope, oldest first; AIP_PROMPT_LAST_N is cut by the
 * caller. */
static apr_status_t choose(const aip_chat_t *chat, aip_prompt_scope_e scope,
                           apr_array_header_t *chosen, apr_pool_t *pool, aip_error_t *err)
{
    enum { ROLE, CONTENT, COUNT };
    static const aip_span_t names[COUNT] = {
        [ROLE] = AIP_NAME("role"), [CONTENT] = AIP_NAME("content")};
    const bool users = scope == AIP_PROMPT_LAST_USER || scope == AIP_PROMPT_ALL_USER;
    const aip_span_t messages = chat->members[AIP_CHAT_MESSAGES].value;
    aip_json_member_t members[COUNT];
    aip_json_error_t fault;
    const char *cursor = NULL;
    size_t index;

    for (index = 0; aip_json_array_next_members(messages, &cursor, names, COUNT, members, &fault);
         index++) {
        if (users && !aip_json_equals(members[ROLE].value, AIP_SPAN("user")))
            continue;
        if (scope == AIP_PROMPT_LAST_USER)
            apr_array_clear(chosen);
        APR_ARRAY_PUSH(chosen, chosen_t) = (chosen_t){members[CONTENT].value, index};
    }
    if (fault.status) {
        const char *name =
            apr_psprintf(pool, "messages[%" APR_SIZE_T_FMT "].%s", index, names[fault.member].data);

        return aip_chat_json_error(&fault, body_offset(chat, messages), name, pool, err);
    }
    return APR_SUCCESS;
}

static void add_piece(pieces_t *pieces, aip_span_t value)
{
    if (aip_json_type(value) == '"' && value.len > sizeof("\"\"") - 1)
        APR_ARRAY_PUSH(pieces->list, aip_span_t) = value;
}

static apr_status_t add_parts(pieces_t *pieces, const chosen_t *message)
{
    enum { TYPE, TEXT, COUNT };
    static const aip_span_t names[COUNT] = {[TYPE] = AIP_NAME("type"), [TEXT] = AIP_NAME("text")};
    aip_json_member_t members[COUNT];
    aip_json_error_t fault;
    const char *cursor = NULL;
    size_t part;

    for (part = 0;
         aip_json_array_next_members(message->content, &cursor, names, COUNT, members, &fault);
         part++) {
        if (aip_json_equals(members[TYPE].value, AIP_SPAN("text")))
            add_piece(pieces, members[TEXT].value);
    }
    if (fault.status) {
        const char *name = apr_psprintf(
            pieces->pool, "messages[%" APR_SIZE_T_FMT "].content[%" APR_SIZE_T_FMT "].%s",
            message->index, part, names[fault.member].data);

        return aip_chat_json_error(&fault, body_offset(pieces->chat, message->content), name,
                                   pieces->pool, pieces->err);
    }
    return APR_SUCCESS;
}

static apr_status_t add_message(pieces_t *pieces, const chosen_t *message)
{
    if (aip_json_type(message->content) == '[')
        return add_parts(pieces, message);
    add_piece(pieces, message->content);
    return APR_SUCCESS;
}

/* Decodes the pieces from `first` on, at most `max` bytes of text. */
static void join(const apr_array_header_t *list, int first, size_t max, aip_prompt_t *prompt,
                 apr_pool_t *pool)
{
    size_t size = 0, n = 0;
    char *out;
    int i;

    /* a piece's two quotes are more than the newline before it needs */
    for (i = first; i < list->nelts; i++)
        size += APR_ARRAY_IDX(list, i, aip_span_t).len;
    if (size > max)
        size = max;
    out = apr_palloc(pool, size ? size : 1);
    for (i = first; i < list->nelts && !prompt->truncated; i++) {
        if (i > first && n < size)
            out[n++] = '\n';
        n += aip_json_decode_max(APR_ARRAY_IDX(list, i, aip_span_t), out + n, size - n,
                                 &prompt->truncated);
    }
    prompt->text = (aip_span_t){out, n};
}

/* As join(), but the last `max` bytes. */
static void join_end(const apr_array_header_t *list, size_t max, aip_prompt_t *prompt,
                     apr_pool_t *pool)
{
    int first = list->nelts;
    size_t least = 0, cut;

    /* An escape makes at most six bytes of one. Pieces before the point where even that fills the
     * text need no decoding. */
    while (first > 0 && least <= max)
        least += (APR_ARRAY_IDX(list, --first, aip_span_t).len - 2 + 5) / 6;
    join(list, first, SIZE_MAX, prompt, pool);
    if (prompt->text.len <= max)
        return;
    cut = prompt->text.len - max;
    while (cut < prompt->text.len && ((unsigned char)prompt->text.data[cut] & 0xc0) == 0x80)
        cut++;
    prompt->text.data += cut;
    prompt->text.len -= cut;
    prompt->truncated = true;
}

apr_status_t aip_chat_prompt(const aip_chat_t *chat, aip_prompt_scope_e scope, int count,
                             size_t max_bytes, aip_prompt_t *prompt, apr_pool_t *pool,
                             aip_error_t *err)
{
    apr_array_header_t *chosen = apr_array_make(pool, 8, sizeof(chosen_t));
    pieces_t pieces = {chat, apr_array_make(pool, 8, sizeof(aip_span_t)), pool, err};
    apr_status_t rv;
    int i;

    *prompt = (aip_prompt_t){.text = AIP_SPAN("")};
    rv = choose(chat, scope, chosen, pool, err);
    if (rv != APR_SUCCESS)
        return rv;
    i = scope == AIP_PROMPT_LAST_N && count < chosen->nelts ? chosen->nelts - count : 0;
    for (; i < chosen->nelts; i++) {
        rv = add_message(&pieces, &APR_ARRAY_IDX(chosen, i, chosen_t));
        if (rv != APR_SUCCESS)
            return rv;
    }
    if (scope == AIP_PROMPT_LAST_N || scope == AIP_PROMPT_ALL)
        join_end(pieces.list, max_bytes, prompt, pool);
    else
        join(pieces.list, 0, max_bytes, prompt, pool);
    return APR_SUCCESS;
}
