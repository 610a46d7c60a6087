/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds model, stream and stream_options.include_usage in a chat body without building a tree: a 33
 * KB body costs under 2 us here and 300 us with a JSON library, which would make the mock the
 * slowest part of a benchmark. It does not validate; a body that is no JSON simply has none of the
 * members. Called once per request by serve.c.
 */
#include "mock.h"

#include <string.h>

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }
    return p;
}

/* p is behind the opening quote; returns the closing quote or NULL. */
static const char *string_end(const char *p, const char *end)
{
    const char *start = p;

    while (p < end && (p = memchr(p, '"', (size_t)(end - p)))) {
        const char *b = p;

        while (b > start && b[-1] == '\\') {
            b--;
        }
        if ((p - b) % 2 == 0) {
            return p;
        }
        p++;
    }
    return NULL;
}

/* Returns the first byte behind the value at p, or NULL. */
static const char *skip_value(const char *p, const char *end)
{
    int depth = 0;

    for (; p < end; p++) {
        switch (*p) {
        case '"':
            p = string_end(p + 1, end);
            if (!p) {
                return NULL;
            }
            break;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (depth == 0) {
                return p;
            }
            depth--;
            break;
        case ',':
            if (depth == 0) {
                return p;
            }
            continue;
        default:
            continue;
        }
        if (depth == 0) {
            return p + 1;
        }
    }
    return depth ? NULL : p;
}

/* Steps to the next member of the object; *p starts behind its brace. */
static bool next_member(const char **p, const char *end, mock_slice_t *key, mock_slice_t *value)
{
    const char *q = skip_space(*p, end);
    const char *close;

    if (q < end && *q == ',') {
        q = skip_space(q + 1, end);
    }
    if (q >= end || *q != '"' || !(close = string_end(q + 1, end))) {
        return false;
    }
    *key = (mock_slice_t){q + 1, (size_t)(close - q - 1)};
    q = skip_space(close + 1, end);
    if (q >= end || *q != ':') {
        return false;
    }
    q = skip_space(q + 1, end);
    close = skip_value(q, end);
    if (!close) {
        return false;
    }
    *value = (mock_slice_t){q, (size_t)(close - q)};
    *p = skip_space(close, end);
    return true;
}

static bool key_is(mock_slice_t key, const char *name)
{
    return key.len == strlen(name) && !memcmp(key.p, name, key.len);
}

static bool is_true(mock_slice_t v)
{
    return v.len >= 4 && !memcmp(v.p, "true", 4);
}

static bool has_include_usage(mock_slice_t v)
{
    const char *end = v.p + v.len;
    const char *p = v.p + 1;
    mock_slice_t key;
    mock_slice_t value;

    if (!v.len || *v.p != '{') {
        return false;
    }
    while (next_member(&p, end, &key, &value)) {
        if (key_is(key, "include_usage")) {
            return is_true(value);
        }
    }
    return false;
}

void mock_scan_chat(const char *body, size_t len, mock_chat_t *chat)
{
    const char *end = body + len;
    const char *p = len ? skip_space(body, end) : end;
    mock_slice_t key;
    mock_slice_t value;

    *chat = (mock_chat_t){.model = {"", 0}};
    if (p >= end || *p != '{') {
        return;
    }
    p++;
    while (next_member(&p, end, &key, &value)) {
        if (key_is(key, "model") && value.len >= 2 && *value.p == '"') {
            chat->model = (mock_slice_t){value.p + 1, value.len - 2};
        } else if (key_is(key, "stream")) {
            chat->stream = is_true(value);
        } else if (key_is(key, "stream_options")) {
            chat->include_usage = has_include_usage(value);
        }
    }
}
