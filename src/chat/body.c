/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the body for a target of the OpenAI dialect from the client's: decides which members
 * change and has them spliced. The attempt loop calls it once per candidate; the same chat serves
 * every attempt. */

#include "chat_private.h"
#include "json_private.h"

#include <apr_cstr.h>

/* model, stream, stream_options, temperature, top_p, top_k, two spellings of max_tokens, and the
 * caller's own member */
typedef struct edits_t {
    const aip_chat_t *chat;
    aip_json_edit_t list[AIP_CHAT_MEMBERS + 1];
    size_t n;
} edits_t;

static bool same(aip_span_t a, aip_span_t b)
{
    return a.len == b.len && !memcmp(a.data, b.data, a.len);
}

/* Neither absent nor null. */
static bool has_value(const aip_json_member_t *member)
{
    const char type = aip_json_type(member->value);

    return type && type != 'n';
}

bool aip_chat_has_extra(const aip_chat_t *chat, int i)
{
    return has_value(&chat->members[AIP_CHAT_MEMBERS + i]);
}

static void set_named(edits_t *edits, aip_span_t name, const aip_json_member_t *found,
                      aip_span_t value)
{
    if (!found->key || !same(found->value, value))
        edits->list[edits->n++] = (aip_json_edit_t){.name = name, .found = found, .value = value};
}

static void set(edits_t *edits, aip_chat_member_e member, aip_span_t value)
{
    set_named(edits, aip_chat_member_names[member], &edits->chat->members[member], value);
}

static void set_if_configured(edits_t *edits, aip_chat_member_e member, aip_span_t value)
{
    if (value.data)
        set(edits, member, value);
}

static void drop(edits_t *edits, aip_chat_member_e member)
{
    if (edits->chat->members[member].key)
        edits->list[edits->n++] = (aip_json_edit_t){.name = aip_chat_member_names[member],
                                                    .found = &edits->chat->members[member]};
}

bool aip_chat_wants_completion_tokens(const char *model)
{
    static const aip_span_t families[] = {AIP_NAME("o1"), AIP_NAME("o3"), AIP_NAME("o4"),
                                          AIP_NAME("gpt-5")};
    const char *vendor_end = model ? strrchr(model, '/') : NULL;
    const char *name = vendor_end ? vendor_end + 1 : model;
    size_t i;

    for (i = 0; name && i < sizeof(families) / sizeof(families[0]); i++) {
        if (!apr_cstr_casecmpn(name, families[i].data, families[i].len)) {
            const char next = name[families[i].len];

            return next == '\0' || next == '-' || next == '.';
        }
    }
    return false;
}

static bool wants_new_name(const edits_t *edits, const aip_chat_options_t *options)
{
    switch (options->max_tokens_name) {
    case AIP_MAX_TOKENS_OLD:
        return false;
    case AIP_MAX_TOKENS_NEW:
        return true;
    case AIP_MAX_TOKENS_AUTO:
        break;
    }
    return aip_chat_wants_completion_tokens(options->model ? options->model : edits->chat->model);
}

static void edit_max_tokens(edits_t *edits, const aip_chat_options_t *options)
{
    const bool new_name = wants_new_name(edits, options);
    const aip_chat_member_e right = new_name ? AIP_CHAT_MAX_COMPLETION_TOKENS : AIP_CHAT_MAX_TOKENS;
    const aip_chat_member_e wrong = new_name ? AIP_CHAT_MAX_TOKENS : AIP_CHAT_MAX_COMPLETION_TOKENS;
    const aip_json_member_t *members = edits->chat->members;

    drop(edits, wrong);
    if (options->max_tokens.data)
        set(edits, right, options->max_tokens);
    else if (members[wrong].key &&
             !has_value(&members[right])) /* a null next to a number must not lose the number */
        set(edits, right, members[wrong].value);
}

static void edit_stream(edits_t *edits, const aip_chat_options_t *options, apr_pool_t *pool)
{
    const aip_chat_t *chat = edits->chat;
    const aip_json_edit_t usage = {.name = AIP_NAME("include_usage"),
                                   .found = &chat->include_usage_member,
                                   .value = AIP_NAME("true")};

    if (options->force_stream)
        set(edits, AIP_CHAT_STREAM, AIP_SPAN("true"));
    if (options->drop_stream_options) {
        drop(edits, AIP_CHAT_STREAM_OPTIONS);
        return;
    }
    if (!options->want_usage || chat->include_usage || !(chat->stream || options->force_stream))
        return;
    if (chat->has_options)
        set(edits, AIP_CHAT_STREAM_OPTIONS,
            aip_json_splice(chat->members[AIP_CHAT_STREAM_OPTIONS].value, &usage, 1, pool));
    else
        set(edits, AIP_CHAT_STREAM_OPTIONS, AIP_SPAN("{\"include_usage\":true}"));
}

static void edit_extra(edits_t *edits, const aip_chat_options_t *options)
{
    const aip_json_member_t *found;

    if (!options->extra_name.data || options->extra_index < 0 ||
        options->extra_index >= AIP_CHAT_EXTRA_MAX)
        return;
    found = &edits->chat->members[AIP_CHAT_MEMBERS + options->extra_index];
    if (!options->extra_keep || !has_value(found))
        set_named(edits, options->extra_name, found, options->extra_value);
}

aip_span_t aip_chat_build(const aip_chat_t *chat, const aip_chat_options_t *options,
                          apr_pool_t *pool)
{
    edits_t edits = {.chat = chat};

    if (options->model)
        set(&edits, AIP_CHAT_MODEL,
            aip_json_quote((aip_span_t){options->model, strlen(options->model)}, pool));
    edit_stream(&edits, options, pool);
    edit_max_tokens(&edits, options);
    set_if_configured(&edits, AIP_CHAT_TEMPERATURE, options->temperature);
    set_if_configured(&edits, AIP_CHAT_TOP_P, options->top_p);
    if (options->drop_top_k)
        drop(&edits, AIP_CHAT_TOP_K);
    else
        set_if_configured(&edits, AIP_CHAT_TOP_K, options->top_k);
    edit_extra(&edits, options);
    return edits.n ? aip_json_splice(chat->body, edits.list, edits.n, pool) : chat->body;
}
