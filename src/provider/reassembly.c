/* SPDX-License-Identifier: Apache-2.0 */
/* The answer that the chunks of a stream add up to, for logs. Pieces of strings are kept as they
 * are spelled in JSON, one behind the other, and are not decoded. */
#include "aip/reassembly.h"

#include "aip/json_out.h"

#include <apr_tables.h>
#include <string.h>

#define CHOICES 64    /* kept of one answer */
#define TOOL_CALLS 64 /* kept of one choice */

enum { CONTENT, REASONING_CONTENT, REASONING, REFUSAL, N_TEXTS };

static const char *const text_names[] = {"content", "reasoning_content", "reasoning", "refusal"};

/* The inside of a JSON string. */
typedef struct string_t {
    char *data;
    size_t len, room;
    bool there;
} string_t;

typedef struct call_t {
    apr_int64_t index;
    string_t id, name, arguments;
} call_t;

typedef struct choice_t {
    apr_int64_t index;
    string_t texts[N_TEXTS], finish_reason;
    apr_array_header_t *calls; /* call_t */
} choice_t;

struct aip_reassembly_t {
    apr_pool_t *pool;
    apr_array_header_t *choices; /* choice_t */
    size_t left;                 /* bytes that may still be kept */
    bool cut;
};

aip_reassembly_t *aip_reassembly_create(size_t most, apr_pool_t *pool)
{
    aip_reassembly_t *whole = apr_palloc(pool, sizeof *whole);
    *whole = (aip_reassembly_t){
        .pool = pool, .choices = apr_array_make(pool, 1, sizeof(choice_t)), .left = most};
    return whole;
}

/* A raw string, to be put behind what is there. */
static void append(aip_reassembly_t *whole, string_t *string, aip_span_t raw)
{
    if (aip_json_type(raw) != '"') {
        return;
    }
    size_t len = raw.len - 2, need = string->len + len;
    string->there = true;
    if (len == 0) {
        return; /* the role comes with an empty text: there may be no memory yet */
    }
    if (len > whole->left) {
        whole->cut = true; /* a piece is kept as a whole or not at all: escapes are not split */
        whole->left = 0;
        return;
    }
    whole->left -= len;
    if (need > string->room) {
        char *data = apr_palloc(whole->pool, 2 * need + 64);
        if (string->len) {
            memcpy(data, string->data, string->len);
        }
        string->data = data;
        string->room = 2 * need + 64;
    }
    memcpy(string->data + string->len, raw.data + 1, len);
    string->len = need;
}

/* The whole value, once. */
static void note(aip_reassembly_t *whole, string_t *string, aip_span_t raw)
{
    if (!string->len) {
        append(whole, string, raw);
    }
}

static choice_t *choice_of(aip_reassembly_t *whole, apr_int64_t index)
{
    for (int i = 0; i < whole->choices->nelts; i++) {
        if (APR_ARRAY_IDX(whole->choices, i, choice_t).index == index) {
            return &APR_ARRAY_IDX(whole->choices, i, choice_t);
        }
    }
    if (whole->choices->nelts == CHOICES) {
        whole->cut = true;
        return NULL;
    }
    choice_t *choice = apr_array_push(whole->choices);
    *choice = (choice_t){.index = index};
    return choice;
}

static call_t *call_of(aip_reassembly_t *whole, choice_t *choice, apr_int64_t index)
{
    if (!choice->calls) {
        choice->calls = apr_array_make(whole->pool, 1, sizeof(call_t));
    }
    for (int i = 0; i < choice->calls->nelts; i++) {
        if (APR_ARRAY_IDX(choice->calls, i, call_t).index == index) {
            return &APR_ARRAY_IDX(choice->calls, i, call_t);
        }
    }
    if (choice->calls->nelts == TOOL_CALLS) {
        whole->cut = true;
        return NULL;
    }
    call_t *call = apr_array_push(choice->calls);
    *call = (call_t){.index = index};
    return call;
}

static bool members(aip_span_t json, const aip_span_t *names, size_t n, aip_json_member_t *found)
{
    return json.data && aip_json_object(json, names, n, found, NULL) == AIP_JSON_OK;
}

static void add_call(aip_reassembly_t *whole, choice_t *choice, aip_span_t json)
{
    static const aip_span_t names[] = {{"index", 5}, {"id", 2}, {"function", 8}};
    static const aip_span_t of_function[] = {{"name", 4}, {"arguments", 9}};
    aip_json_member_t found[3], function[2] = {{0}};
    apr_int64_t index = 0;
    if (!members(json, names, 3, found)) {
        return;
    }
    aip_json_int64(found[0].value, &index);
    call_t *call = call_of(whole, choice, index);
    if (call) {
        note(whole, &call->id, found[1].value);
        if (members(found[2].value, of_function, 2, function)) {
            note(whole, &call->name, function[0].value);
            append(whole, &call->arguments, function[1].value);
        }
    }
}

static void add_choice(aip_reassembly_t *whole, aip_span_t json)
{
    static const aip_span_t names[] = {{"index", 5}, {"delta", 5}, {"finish_reason", 13}};
    static const aip_span_t of_delta[] = {{"content", 7},
                                          {"reasoning_content", 17},
                                          {"reasoning", 9},
                                          {"refusal", 7},
                                          {"tool_calls", 10}};
    aip_json_member_t found[3], delta[N_TEXTS + 1];
    apr_int64_t index = 0;
    const char *cursor = NULL;
    aip_span_t item;
    if (!members(json, names, 3, found)) {
        return;
    }
    aip_json_int64(found[0].value, &index);
    choice_t *choice = choice_of(whole, index);
    if (!choice) {
        return;
    }
    note(whole, &choice->finish_reason, found[2].value);
    if (members(found[1].value, of_delta, N_TEXTS + 1, delta)) {
        for (int i = 0; i < N_TEXTS; i++) {
            append(whole, &choice->texts[i], delta[i].value);
        }
        while (aip_json_type(delta[N_TEXTS].value) == '[' &&
               aip_json_array_next(delta[N_TEXTS].value, &cursor, &item)) {
            add_call(whole, choice, item);
        }
    }
}

void aip_reassembly_add(aip_reassembly_t *whole, aip_span_t chunk)
{
    static const aip_span_t names[] = {{"choices", 7}};
    aip_json_member_t found[1];
    const char *cursor = NULL;
    aip_span_t item;
    if (members(chunk, names, 1, found) && aip_json_type(found[0].value) == '[') {
        while (aip_json_array_next(found[0].value, &cursor, &item)) {
            add_choice(whole, item);
        }
    }
}

static void put_string(aip_json_out_t *out, const char *key, const string_t *string)
{
    if (!string->there) {
        aip_json_out_null(out, key);
        return;
    }
    char *quoted = apr_palloc(out->pool, string->len + 2);
    quoted[0] = quoted[string->len + 1] = '"';
    if (string->len) {
        memcpy(quoted + 1, string->data, string->len);
    }
    aip_json_out_raw(out, key, (aip_span_t){quoted, string->len + 2});
}

static void put_calls(aip_json_out_t *out, const apr_array_header_t *calls)
{
    aip_json_out_array(out, "tool_calls");
    for (int i = 0; i < calls->nelts; i++) {
        const call_t *call = &APR_ARRAY_IDX(calls, i, call_t);
        aip_json_out_object(out, NULL);
        put_string(out, "id", &call->id);
        aip_json_out_text(out, "type", "function");
        aip_json_out_object(out, "function");
        put_string(out, "name", &call->name);
        put_string(out, "arguments", &call->arguments);
        aip_json_out_end(out);
        aip_json_out_end(out);
    }
    aip_json_out_end(out);
}

static void put_choice(aip_json_out_t *out, const choice_t *choice)
{
    aip_json_out_object(out, NULL);
    aip_json_out_int(out, "index", choice->index);
    aip_json_out_object(out, "message");
    aip_json_out_text(out, "role", "assistant");
    for (int i = 0; i < N_TEXTS; i++) {
        if (i == CONTENT || choice->texts[i].there) {
            put_string(out, text_names[i], &choice->texts[i]);
        }
    }
    if (choice->calls) {
        put_calls(out, choice->calls);
    }
    aip_json_out_end(out);
    put_string(out, "finish_reason", &choice->finish_reason);
    aip_json_out_end(out);
}

aip_span_t aip_reassembly_text(const aip_reassembly_t *whole, const char *model)
{
    aip_json_out_t out;
    aip_json_out_init(&out, whole->pool, 1024);
    aip_json_out_object(&out, NULL);
    aip_json_out_text(&out, "object", "chat.completion");
    aip_json_out_text(&out, "model", model);
    aip_json_out_array(&out, "choices");
    for (int i = 0; i < whole->choices->nelts; i++) {
        put_choice(&out, &APR_ARRAY_IDX(whole->choices, i, choice_t));
    }
    aip_json_out_end(&out);
    aip_json_out_end(&out);
    return (aip_span_t){out.data, out.len};
}

bool aip_reassembly_cut(const aip_reassembly_t *whole)
{
    return whole->cut;
}
