/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a client's chat request: checks what the gateway relies on and notes where the members lie
 * that it reads or writes. The handler calls it once per request, before any routing; the body is
 * neither copied nor changed. */

#include "chat_private.h"
#include "json_private.h"

#include <apr_strings.h>

#define BAD_REQUEST 400
#define INVALID "invalid_request_error"

const aip_span_t aip_chat_member_names[AIP_CHAT_MEMBERS] = {
    [AIP_CHAT_MODEL] = AIP_NAME("model"),
    [AIP_CHAT_MESSAGES] = AIP_NAME("messages"),
    [AIP_CHAT_STREAM] = AIP_NAME("stream"),
    [AIP_CHAT_STREAM_OPTIONS] = AIP_NAME("stream_options"),
    [AIP_CHAT_MAX_TOKENS] = AIP_NAME("max_tokens"),
    [AIP_CHAT_MAX_COMPLETION_TOKENS] = AIP_NAME("max_completion_tokens"),
    [AIP_CHAT_TEMPERATURE] = AIP_NAME("temperature"),
    [AIP_CHAT_TOP_P] = AIP_NAME("top_p"),
    [AIP_CHAT_TOP_K] = AIP_NAME("top_k"),
};

apr_status_t aip_chat_json_error(const aip_json_error_t *fault, size_t base, const char *name,
                                 apr_pool_t *pool, aip_error_t *err)
{
    const size_t offset = base + fault->offset;

    if (fault->status == AIP_JSON_DUPLICATE)
        return aip_error_set(
            err, pool, BAD_REQUEST, INVALID, "duplicate_member", name,
            "'%s' occurs twice in the request body, the second time at byte %" APR_SIZE_T_FMT, name,
            offset);
    if (fault->status == AIP_JSON_NOT_OBJECT)
        return aip_error_set(err, pool, BAD_REQUEST, INVALID, "invalid_json", NULL,
                             "the request body is JSON, but not an object");
    return aip_error_set(err, pool, BAD_REQUEST, INVALID, "invalid_json", NULL,
                         "the request body is not valid JSON: %s at byte %" APR_SIZE_T_FMT,
                         aip_json_strerror(fault->status), offset);
}

static apr_status_t wrong_type(const char *name, const char *expected, apr_pool_t *pool,
                               aip_error_t *err)
{
    return aip_error_set(err, pool, BAD_REQUEST, INVALID, "invalid_type", name, "'%s' must be %s",
                         name, expected);
}

static apr_status_t read_model(aip_chat_t *chat, apr_pool_t *pool, aip_error_t *err)
{
    const aip_span_t value = chat->members[AIP_CHAT_MODEL].value;
    char *model;
    size_t len;

    switch (aip_json_type(value)) {
    case 0:
    case 'n':
        return APR_SUCCESS;
    case '"':
        break;
    default:
        return wrong_type("model", "a string or null", pool, err);
    }
    model = apr_palloc(pool, value.len + 1);
    len = aip_json_decode(value, model);
    /* what follows a NUL would be seen by the provider only */
    if (memchr(model, '\0', len))
        return aip_error_set(err, pool, BAD_REQUEST, INVALID, "invalid_value", "model",
                             "'model' must not hold a NUL character");
    model[len] = '\0';
    chat->model = len ? model : NULL;
    return APR_SUCCESS;
}

static apr_status_t read_stream_options(aip_chat_t *chat, apr_pool_t *pool, aip_error_t *err)
{
    static const aip_span_t names[] = {AIP_NAME("include_usage")};
    const aip_span_t value = chat->members[AIP_CHAT_STREAM_OPTIONS].value;
    aip_json_error_t fault;

    switch (aip_json_type(value)) {
    case 0:
    case 'n':
        return APR_SUCCESS;
    case '{':
        break;
    default:
        return wrong_type("stream_options", "an object or null", pool, err);
    }
    if (aip_json_object(value, names, 1, &chat->include_usage_member, &fault))
        return aip_chat_json_error(&fault, (size_t)(value.data - chat->body.data),
                                   "stream_options.include_usage", pool, err);
    chat->has_options = true;
    chat->include_usage = aip_json_type(chat->include_usage_member.value) == 't';
    return APR_SUCCESS;
}

static apr_status_t read_stream(aip_chat_t *chat, apr_pool_t *pool, aip_error_t *err)
{
    switch (aip_json_type(chat->members[AIP_CHAT_STREAM].value)) {
    case 't':
        chat->stream = true;
        break;
    case 0:
    case 'f':
    case 'n':
        break;
    default:
        return wrong_type("stream", "a boolean or null", pool, err);
    }
    return read_stream_options(chat, pool, err);
}

static apr_status_t check_messages(const aip_chat_t *chat, const aip_json_items_t *items,
                                   apr_pool_t *pool, aip_error_t *err)
{
    switch (aip_json_type(chat->members[AIP_CHAT_MESSAGES].value)) {
    case 0:
        return aip_error_set(err, pool, BAD_REQUEST, INVALID, "missing_messages", "messages",
                             "the request has no 'messages'");
    case '[':
        break;
    default:
        return wrong_type("messages", "an array", pool, err);
    }
    if (!items->count)
        return aip_error_set(err, pool, BAD_REQUEST, INVALID, "empty_array", "messages",
                             "'messages' must hold at least one message");
    if (items->other)
        return aip_error_set(
            err, pool, BAD_REQUEST, INVALID, "invalid_type", "messages",
            "every item of 'messages' must be an object, the one at byte %" APR_SIZE_T_FMT
            " is not",
            (size_t)(items->other - chat->body.data));
    return APR_SUCCESS;
}

apr_status_t aip_chat_parse(aip_chat_t *chat, aip_span_t body, const aip_span_t *extra,
                            size_t n_extra, apr_pool_t *pool, aip_error_t *err)
{
    aip_span_t names[AIP_CHAT_MEMBERS + AIP_CHAT_EXTRA_MAX];
    aip_json_items_t items;
    aip_json_error_t fault;
    apr_status_t rv;

    *chat = (aip_chat_t){.body = body};
    if (n_extra > AIP_CHAT_EXTRA_MAX)
        return aip_error_set(err, pool, 500, "gateway_error", NULL, NULL,
                             "more than %d further members of the body were asked for",
                             AIP_CHAT_EXTRA_MAX);
    memcpy(names, aip_chat_member_names, sizeof(aip_chat_member_names));
    if (n_extra)
        memcpy(names + AIP_CHAT_MEMBERS, extra, n_extra * sizeof(*extra));
    if (aip_json_object_items(body, names, AIP_CHAT_MEMBERS + n_extra, chat->members,
                              AIP_CHAT_MESSAGES, &items, &fault)) {
        const aip_span_t name = names[fault.member];

        return aip_chat_json_error(&fault, 0, apr_pstrmemdup(pool, name.data, name.len), pool, err);
    }
    if ((rv = read_model(chat, pool, err)) != APR_SUCCESS ||
        (rv = read_stream(chat, pool, err)) != APR_SUCCESS)
        return rv;
    return check_messages(chat, &items, pool, err);
}
