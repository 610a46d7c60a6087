/* SPDX-License-Identifier: Apache-2.0 */
/* What a chat needs of a model, and what its conversation begins with. Called after
 * aip_chat_parse(), and only where the configuration asks for it. */

#include "chat_private.h"
#include "json_private.h"

#include <apr_strings.h>

/* A message that has parts. */
static apr_status_t needs_of_parts(const aip_chat_t *chat, aip_span_t content, size_t message,
                                   unsigned *needs, apr_pool_t *pool, aip_error_t *err)
{
    static const aip_span_t names[] = {AIP_NAME("type")};
    aip_json_member_t type;
    aip_json_error_t fault;
    const char *cursor = NULL;
    size_t part;

    for (part = 0; aip_json_array_next_members(content, &cursor, names, 1, &type, &fault); part++) {
        if (aip_json_equals(type.value, AIP_SPAN("image_url")))
            *needs |= AIP_NEED_IMAGES;
        else if (aip_json_equals(type.value, AIP_SPAN("input_audio")))
            *needs |= AIP_NEED_AUDIO;
    }
    if (fault.status) {
        const char *name = apr_psprintf(
            pool, "messages[%" APR_SIZE_T_FMT "].content[%" APR_SIZE_T_FMT "].type", message, part);

        return aip_chat_json_error(&fault, (size_t)(content.data - chat->body.data), name, pool,
                                   err);
    }
    return APR_SUCCESS;
}

static apr_status_t needs_of_messages(const aip_chat_t *chat, unsigned *needs, apr_pool_t *pool,
                                      aip_error_t *err)
{
    static const aip_span_t names[] = {AIP_NAME("content")};
    const aip_span_t messages = chat->members[AIP_CHAT_MESSAGES].value;
    aip_json_member_t content;
    aip_json_error_t fault;
    const char *cursor = NULL;
    size_t i;
    apr_status_t rv;

    for (i = 0; aip_json_array_next_members(messages, &cursor, names, 1, &content, &fault); i++) {
        if (aip_json_type(content.value) != '[')
            continue;
        rv = needs_of_parts(chat, content.value, i, needs, pool, err);
        if (rv != APR_SUCCESS)
            return rv;
    }
    if (fault.status)
        return aip_chat_json_error(&fault, (size_t)(messages.data - chat->body.data),
                                   apr_psprintf(pool, "messages[%" APR_SIZE_T_FMT "].content", i),
                                   pool, err);
    return APR_SUCCESS;
}

static bool has_item(aip_span_t array, const char *wanted)
{
    const char *cursor = NULL;
    aip_span_t item;

    while (aip_json_array_next(array, &cursor, &item)) {
        if (!wanted || aip_json_equals(item, (aip_span_t){wanted, strlen(wanted)}))
            return true;
    }
    return false;
}

apr_status_t aip_chat_needs(const aip_chat_t *chat, unsigned *needs, apr_pool_t *pool,
                            aip_error_t *err)
{
    enum { TOOLS, FUNCTIONS, FORMAT, MODALITIES, COUNT };
    static const aip_span_t names[COUNT] = {[TOOLS] = AIP_NAME("tools"),
                                            [FUNCTIONS] = AIP_NAME("functions"),
                                            [FORMAT] = AIP_NAME("response_format"),
                                            [MODALITIES] = AIP_NAME("modalities")};
    static const aip_span_t type_name[] = {AIP_NAME("type")};
    aip_json_member_t members[COUNT], type = {0};
    aip_json_error_t fault;

    *needs = AIP_NEED_TEXT;
    if (aip_json_object(chat->body, names, COUNT, members, &fault))
        return aip_chat_json_error(&fault, 0, names[fault.member].data, pool, err);
    if (has_item(members[TOOLS].value, NULL) || has_item(members[FUNCTIONS].value, NULL))
        *needs |= AIP_NEED_TOOLS;
    if (has_item(members[MODALITIES].value, "audio"))
        *needs |= AIP_NEED_AUDIO;
    if (aip_json_type(members[FORMAT].value) == '{' &&
        aip_json_object(members[FORMAT].value, type_name, 1, &type, &fault))
        return aip_chat_json_error(&fault, (size_t)(members[FORMAT].value.data - chat->body.data),
                                   "response_format.type", pool, err);
    if (aip_json_equals(type.value, AIP_SPAN("json_schema")))
        *needs |= AIP_NEED_JSON_SCHEMA;
    return needs_of_messages(chat, needs, pool, err);
}

apr_status_t aip_chat_opening(const aip_chat_t *chat, apr_array_header_t **parts, bool *first,
                              apr_pool_t *pool, aip_error_t *err)
{
    enum { ROLE, CONTENT, COUNT };
    static const aip_span_t names[COUNT] = {
        [ROLE] = AIP_NAME("role"), [CONTENT] = AIP_NAME("content")};
    const aip_span_t messages = chat->members[AIP_CHAT_MESSAGES].value;
    aip_json_member_t members[COUNT];
    aip_json_error_t fault;
    const char *cursor = NULL;
    size_t i;

    *parts = apr_array_make(pool, 2, sizeof(aip_span_t));
    for (i = 0; aip_json_array_next_members(messages, &cursor, names, COUNT, members, &fault);
         i++) {
        APR_ARRAY_PUSH(*parts, aip_span_t) = members[CONTENT].value;
        if (aip_json_equals(members[ROLE].value, AIP_SPAN("user"))) {
            aip_span_t next;

            *first = !aip_json_array_next(messages, &cursor, &next);
            return APR_SUCCESS;
        }
    }
    apr_array_clear(*parts);
    *first = true;
    if (fault.status) {
        const char *name =
            apr_psprintf(pool, "messages[%" APR_SIZE_T_FMT "].%s", i, names[fault.member].data);

        return aip_chat_json_error(&fault, (size_t)(messages.data - chat->body.data), name, pool,
                                   err);
    }
    return APR_SUCCESS;
}
