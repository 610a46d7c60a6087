/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embeddings stub: answers like POST /v1/embeddings with the fixed vectors of vectors.c. A
 * model name "stub-<variant>" makes it answer wrongly in one labelled way. Called by answer.c for
 * paths that end in /embeddings, so that scripted behaviours apply to it as to chats.
 */
#include "mock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIMS_DEFAULT 1536
#define DIMS_MAX 65536
#define SLOW_MS 200

typedef struct {
    json_t *root;
    json_t *input;
    size_t items;
    size_t dims;
    bool base64;
    const char *model;
} embed_request_t;

static bool is(const embed_request_t *e, const char *variant)
{
    return !strcmp(e->model, variant);
}

long mock_embed_delay(mock_slice_t model)
{
    if (model.len == 9 && !memcmp(model.p, "stub-hang", 9)) {
        return -1;
    }
    return model.len == 9 && !memcmp(model.p, "stub-slow", 9) ? SLOW_MS : 0;
}

/* An input is a string, an array of strings, an array of token ids, or an array of such arrays. */
static bool read_input(embed_request_t *e)
{
    json_t *first = json_array_get(e->input, 0);

    if (json_is_string(e->input) || json_is_integer(first)) {
        e->items = json_string_length(e->input) || first ? 1 : 0;
        return e->items > 0;
    }
    e->items = json_array_size(e->input);
    for (size_t i = 0; i < e->items; i++) {
        json_t *item = json_array_get(e->input, i);

        if (!json_string_length(item) && !json_array_size(item)) {
            return false;
        }
    }
    return e->items > 0;
}

static const char *read_request(embed_request_t *e, mock_slice_t body)
{
    const char *format = "float";
    json_t *dims;

    e->model = "";
    e->root = json_loadb(body.p, body.len, 0, NULL);
    if (!json_is_object(e->root)) {
        return "the body is not a JSON object";
    }
    json_unpack(e->root, "{s?s,s?s}", "model", &e->model, "encoding_format", &format);
    if (!*e->model) {
        return "model is missing";
    }
    e->input = json_object_get(e->root, "input");
    if (!read_input(e)) {
        return "input must be a non-empty string or an array of them";
    }
    if (strcmp(format, "float") && strcmp(format, "base64")) {
        return "encoding_format must be float or base64";
    }
    e->base64 = !strcmp(format, "base64") && !is(e, "stub-float-only");
    dims = json_object_get(e->root, "dimensions");
    e->dims = dims ? (size_t)json_integer_value(dims) : DIMS_DEFAULT;
    if (e->dims < 1 || e->dims > DIMS_MAX) {
        return "dimensions out of range";
    }
    if (is(e, "stub-short") && e->dims > 1) {
        e->dims--;
    }
    return NULL;
}

static void item_vector(const embed_request_t *e, size_t i, float *v)
{
    json_t *item = json_is_string(e->input) || json_is_integer(json_array_get(e->input, 0))
                       ? e->input
                       : json_array_get(e->input, i);
    char *tokens = json_is_string(item) ? NULL : json_dumps(item, JSON_COMPACT);

    if (tokens) {
        mock_vector_of(tokens, strlen(tokens), v, e->dims);
    } else {
        mock_vector_of(json_string_value(item), json_string_length(item), v, e->dims);
    }
    free(tokens);
    if (is(e, "stub-zero")) {
        memset(v, 0, e->dims * sizeof(float));
    } else if (is(e, "stub-nan")) {
        v[e->dims / 2] = nanf("");
    }
}

static void add_vector(mock_buf_t *b, const embed_request_t *e, const float *v)
{
    if (e->base64) {
        /* little-endian binary32, as the API sends it; this code runs on little-endian machines */
        mock_buf_str(b, "\"");
        mock_buf_base64(b, v, e->dims * sizeof(float));
        mock_buf_str(b, "\"");
        return;
    }
    for (size_t i = 0; i < e->dims; i++) {
        mock_buf_str(b, i ? "," : "[");
        if (isnan(v[i])) {
            mock_buf_str(b, "NaN");
        } else {
            mock_buf_printf(b, "%.9g", (double)v[i]);
        }
    }
    mock_buf_str(b, "]");
}

static void add_answer(mock_buf_t *b, const embed_request_t *e)
{
    float *v = mock_alloc(e->dims * sizeof(float));
    size_t n = is(e, "stub-missing") ? e->items - 1 : e->items;
    json_t *model = json_object_get(e->root, "model");
    char *name = json_dumps(model, JSON_ENCODE_ANY);

    mock_buf_str(b, "{\"object\":\"list\",\"data\":[");
    for (size_t k = 0; k < n; k++) {
        size_t i = is(e, "stub-shuffled") ? n - 1 - k : k;

        item_vector(e, i, v);
        mock_buf_printf(b, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", k ? "," : "",
                        i);
        add_vector(b, e, v);
        mock_buf_str(b, "}");
    }
    mock_buf_printf(b, "],\"model\":%s,\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}",
                    name, 8 * e->items, 8 * e->items);
    free(name);
    free(v);
}

void mock_embed_answer(mock_body_t *b, const mock_request_t *q)
{
    embed_request_t e = {.root = NULL};
    const char *why = read_request(&e, q->body);

    if (why) {
        b->status = 400;
        mock_openai_error(b, 400, why);
    } else if (is(&e, "stub-500")) {
        b->status = 500;
        mock_openai_error(b, 500, "stub-500");
    } else if (is(&e, "stub-html")) {
        b->content_type = "text/html";
        mock_buf_str(&b->bytes, "<html><body>stub-html</body></html>");
    } else {
        add_answer(&b->bytes, &e);
    }
    json_decref(e.root);
}
