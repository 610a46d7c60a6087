/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the chat unit. The first two bytes choose options and prompt scope, the rest is the body.
 * What must hold: the same bodies are taken, the same prompt is read and the same document is made
 * for a target as by the second implementation in chat_other.h; a body that was accepted gives a
 * body that is accepted, with one spelling of max_tokens; building twice changes nothing more; the
 * prompt is UTF-8 and no longer than allowed. */

#include "chat_other.h"

#include <apr_strings.h>

static const aip_span_t extra[] = {{"api_key", 7}, {"token", 5}};

static aip_chat_options_t make_options(unsigned bits)
{
    aip_chat_options_t options = {0};

    if (bits & 1)
        options.model = bits & 2 ? "gpt-5-mini" : "a\"b";
    if (bits & 4) {
        options.max_tokens = AIP_SPAN("16");
        options.temperature = AIP_SPAN("0.5");
        options.top_p = AIP_SPAN("1");
        options.top_k = AIP_SPAN("40");
    }
    options.max_tokens_name = (aip_max_tokens_e)((bits >> 3) % 3);
    options.drop_top_k = bits & 0x20;
    options.force_stream = bits & 0x40;
    options.want_usage = bits & 0x80;
    options.drop_stream_options = bits & 0x100;
    if (bits & 0x200) {
        options.extra_index = bits & 0x400 ? 1 : 0;
        options.extra_name = extra[options.extra_index];
        options.extra_value = AIP_SPAN("\"secret\"");
        options.extra_keep = bits & 0x800;
    }
    return options;
}

static void require_value(const aip_chat_t *chat, int member, aip_span_t value)
{
    const aip_span_t got = chat->members[member].value;

    require(got.len == value.len && !memcmp(got.data, value.data, value.len));
}

static void check_built(const aip_chat_t *chat, const aip_chat_options_t *options)
{
    const bool old_name = chat->members[AIP_CHAT_MAX_TOKENS].key != NULL;
    const bool new_name = chat->members[AIP_CHAT_MAX_COMPLETION_TOKENS].key != NULL;

    require(!(old_name && new_name));
    require(!old_name || options->max_tokens_name != AIP_MAX_TOKENS_NEW);
    require(!new_name || options->max_tokens_name != AIP_MAX_TOKENS_OLD);
    if (options->model)
        require(chat->model && !strcmp(chat->model, options->model));
    if (options->max_tokens.data)
        require_value(chat, old_name ? AIP_CHAT_MAX_TOKENS : AIP_CHAT_MAX_COMPLETION_TOKENS,
                      options->max_tokens);
    if (options->temperature.data)
        require_value(chat, AIP_CHAT_TEMPERATURE, options->temperature);
    if (options->drop_top_k)
        require(!chat->members[AIP_CHAT_TOP_K].key);
    else if (options->top_k.data)
        require_value(chat, AIP_CHAT_TOP_K, options->top_k);
    if (options->force_stream)
        require(chat->stream);
    if (options->drop_stream_options)
        require(!chat->members[AIP_CHAT_STREAM_OPTIONS].key);
    else if (options->want_usage && chat->stream)
        require(chat->include_usage);
    if (options->extra_name.data && !options->extra_keep)
        require_value(chat, AIP_CHAT_MEMBERS + options->extra_index, options->extra_value);
}

/* @param tree  the body by jansson, NULL: which cannot say */
static void check_prompt(const aip_chat_t *chat, unsigned bits, const json_t *tree,
                         apr_pool_t *pool)
{
    const aip_prompt_scope_e scope = (aip_prompt_scope_e)((bits >> 12) & 3);
    const size_t max_bytes = bits & 0x4000 ? 7 : bits & 0x8000 ? 40 : 100000;
    aip_error_t err = {0};
    aip_prompt_t prompt, whole;

    if (aip_chat_prompt(chat, scope, 2, max_bytes, &prompt, pool, &err) != APR_SUCCESS) {
        require(err.status == 400 && !strcmp(err.code, "duplicate_member") && err.param);
        require(!tree || other_twice(chat->body));
        return;
    }
    require(prompt.text.len <= max_bytes);
    require(aip_chat_prompt(chat, scope, 2, SIZE_MAX, &whole, pool, &err) == APR_SUCCESS &&
            !whole.truncated);
    if (tree) {
        other_text_t text = other_prompt(tree, scope, 2);

        require(text.len == whole.text.len);
        require(!text.len || !memcmp(text.data, whole.text.data, text.len));
        free(text.data);
    }
    require(prompt.truncated == (whole.text.len > max_bytes));
    if (scope == AIP_PROMPT_LAST_N || scope == AIP_PROMPT_ALL)
        whole.text.data += whole.text.len - prompt.text.len;
    require(!memcmp(whole.text.data, prompt.text.data, prompt.text.len));
    require(!prompt.truncated || prompt.text.len + 4 > max_bytes);
    require(
        aip_json_equals(aip_json_quote(prompt.text, pool), prompt.text)); /* nothing was replaced */
}

/* The document that was made is the one that was to be made; `tree` is changed. */
static void check_document(aip_span_t out, json_t *tree, const aip_chat_options_t *options)
{
    json_t *made = json_loadb(out.data, out.len, OTHER_FLAGS, NULL);

    require(made != NULL);
    other_build(tree, options);
    require(json_equal(made, tree));
    json_decref(made);
}

static void check_refused(const aip_error_t *err, aip_span_t body, const json_t *tree,
                          apr_pool_t *pool)
{
    const char *text = aip_error_json(err, pool);

    require(err->status == 400 && err->message && err->code);
    require(aip_json_validate((aip_span_t){text, strlen(text)}, NULL) == AIP_JSON_OK);
    if (strcmp(err->code, "duplicate_member") == 0)
        require(!tree || other_twice(body));
    else
        require(!tree || !other_accepts(tree) || other_twice(body));
}

/* @param tree  the body by jansson, NULL: which refuses it, or cannot say */
static void check_chat(aip_span_t body, unsigned bits, bool said, json_t *tree, apr_pool_t *pool)
{
    const aip_chat_options_t options = make_options(bits);
    aip_error_t err = {0};
    aip_chat_t chat, built;
    aip_span_t out, again;

    if (aip_chat_parse(&chat, body, extra, 2, pool, &err) != APR_SUCCESS) {
        check_refused(&err, body, tree, pool);
        return;
    }
    require(!said || (tree && other_accepts(tree)));
    check_prompt(&chat, bits, tree, pool);
    out = aip_chat_build(&chat, &options, pool);
    require(aip_chat_parse(&built, out, extra, 2, pool, &err) == APR_SUCCESS);
    check_built(&built, &options);
    if (tree)
        check_document(out, tree, &options);
    again = aip_chat_build(&built, &options, pool);
    require(again.data == out.data && again.len == out.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    char *copy = fuzz_copy(data + 2, size - 2);
    const aip_span_t body = {copy, size - 2};
    json_error_t error = {0};
    json_t *tree = json_loadb(copy, size - 2, OTHER_FLAGS, &error);
    const bool said = !other_cannot_say(body, tree, &error);
    if (!said) {
        json_decref(tree);
        tree = NULL;
    }
    check_chat(body, (unsigned)data[0] | (unsigned)data[1] << 8, said, tree, fuzz_pool());
    json_decref(tree);
    free(copy);
    apr_pool_clear(fuzz_pool());
    return 0;
}
