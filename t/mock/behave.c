/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripted behaviours: the queue that POST /__mock/behave fills, the table of "do" members, and the
 * built-in behaviours that a model name "mock-..." selects. A member that is unknown or of the
 * wrong type is refused: a typo must not turn a test of a fault into a test of nothing. Called by
 * control.c and serve.c.
 */
#include "mock.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
    F_LONG,
    F_BOOL,
    F_STRING,
    F_STRING_OR_NULL,
    F_OBJECT_OR_NULL,
    F_ARRAY,
    F_ANY,
    F_SUB
} kind_t;

typedef struct field_s {
    const char *name;
    kind_t kind;
    size_t offset;
    const struct field_s *sub;
} field_t;

typedef struct behave_s {
    struct behave_s *next;
    json_t *spec;
    int port; /* 0 = all */
    const char *path;
    const char *model;
    const char *unless; /* "Name: value" that the request must not have */
    long conn_request_min;
    long times; /* -1 = for ever */
    mock_do_t *act;
} behave_t;

#define AT(member) offsetof(mock_do_t, member)

static const field_t stream_fields[] = {
    {"events", F_ARRAY, AT(stream_events), NULL},
    {"auto", F_LONG, AT(stream_auto), NULL},
    {"interval_ms", F_LONG, AT(stream_interval_ms), NULL},
    {"sse_end", F_STRING, AT(stream_end), NULL},
    {"split_bytes", F_LONG, AT(stream_split_bytes), NULL},
    {"crlf", F_BOOL, AT(stream_crlf), NULL},
    {NULL, F_ANY, 0, NULL},
};

static const field_t trickle_fields[] = {
    {"bytes", F_LONG, AT(trickle_bytes), NULL},
    {"interval_ms", F_LONG, AT(trickle_interval_ms), NULL},
    {"head", F_BOOL, AT(trickle_head), NULL},
    {"forever", F_BOOL, AT(trickle_forever), NULL},
    {NULL, F_ANY, 0, NULL},
};

static const field_t slow_read_fields[] = {
    {"bytes", F_LONG, AT(slow_read_bytes), NULL},
    {"interval_ms", F_LONG, AT(slow_read_interval_ms), NULL},
    {NULL, F_ANY, 0, NULL},
};

static const field_t do_fields[] = {
    {"status", F_LONG, AT(status), NULL},
    {"reason", F_STRING, AT(reason), NULL},
    {"headers", F_ARRAY, AT(headers), NULL},
    {"body", F_STRING, AT(body), NULL},
    {"body_size", F_LONG, AT(body_size), NULL},
    {"content_type", F_STRING_OR_NULL, AT(content_type), NULL},
    {"content", F_STRING, AT(content), NULL},
    {"model", F_STRING, AT(model), NULL},
    {"usage", F_OBJECT_OR_NULL, AT(usage), NULL},
    {"interim", F_ARRAY, AT(interim), NULL},
    {"raw", F_STRING, AT(raw), NULL},
    {"raw_base64", F_STRING, AT(raw_base64), NULL},
    {"delay_ms", F_LONG, AT(delay_ms), NULL},
    {"head_delay_ms", F_LONG, AT(head_delay_ms), NULL},
    {"cut_after_bytes", F_LONG, AT(cut_after_bytes), NULL},
    {"stall_after_bytes", F_LONG, AT(stall_after_bytes), NULL},
    {"keepalive_limit", F_LONG, AT(keepalive_limit), NULL},
    {"silent_close_ms", F_LONG, AT(silent_close_ms), NULL},
    {"error_event", F_LONG, AT(error_event), NULL},
    {"no_read", F_ANY, AT(no_read), NULL},
    {"chunked", F_BOOL, AT(chunked), NULL},
    {"until_close", F_BOOL, AT(until_close), NULL},
    {"no_framing", F_BOOL, AT(no_framing), NULL},
    {"reset", F_BOOL, AT(reset), NULL},
    {"drop_before_head", F_BOOL, AT(drop_before_head), NULL},
    {"hang", F_BOOL, AT(hang), NULL},
    {"hang_after_head", F_BOOL, AT(hang_after_head), NULL},
    {"close", F_BOOL, AT(close), NULL},
    {"early", F_BOOL, AT(early), NULL},
    {"echo", F_BOOL, AT(echo), NULL},
    {"accept_close", F_BOOL, AT(accept_close), NULL},
    {"accept_hang", F_BOOL, AT(accept_hang), NULL},
    {"stream", F_SUB, AT(stream), stream_fields},
    {"trickle", F_SUB, AT(trickle), trickle_fields},
    {"slow_read", F_SUB, AT(slow_read), slow_read_fields},
    {NULL, F_ANY, 0, NULL},
};

const mock_do_t mock_do_default = {
    .refs = 1,
    .cut_after_bytes = -1,
    .stall_after_bytes = -1,
    .keepalive_limit = -1,
    .silent_close_ms = -1,
    .error_event = -1,
    .stream_auto = 5,
    .trickle_bytes = 1,
    .trickle_interval_ms = 10,
    .slow_read_bytes = 1024,
    .slow_read_interval_ms = 10,
};

/* A model named "mock-<name>" behaves so; "mock-<three digits>" answers with that status. */
static const struct {
    const char *name;
    const char *act;
} by_model[] = {
    {"429", "{\"status\":429,\"headers\":[[\"Retry-After\",\"1\"]]}"},
    {"503", "{\"status\":503,\"headers\":[[\"Retry-After\",\"1\"]]}"},
    {"hang", "{\"hang\":true}"},
    {"stall", "{\"hang_after_head\":true}"},
    {"drop", "{\"drop_before_head\":true}"},
    {"reset", "{\"drop_before_head\":true,\"reset\":true}"},
    {"slow", "{\"delay_ms\":200}"},
    {"cut", "{\"cut_after_bytes\":40}"},
    {"close", "{\"close\":true}"},
    {"chunked", "{\"chunked\":true}"},
    {"echo", "{\"echo\":true}"},
    {"empty", "{\"body\":\"\"}"},
    {"badjson", "{\"body\":\"{\\\"choices\\\": [\"}"},
    {"html", "{\"body\":\"<html><body>mock</body></html>\",\"content_type\":\"text/html\"}"},
    {"badheader", "{\"raw\":\"HTTP/1.1 200 OK\\r\\nno colon here\\r\\n\\r\\n\"}"},
    {"sse-error", "{\"stream\":{\"auto\":3},\"error_event\":2}"},
    {"sse-cut", "{\"stream\":{\"auto\":3,\"sse_end\":\"cut\"}}"},
};

#define BY_MODEL_N (sizeof(by_model) / sizeof(by_model[0]))

static mock_do_t *by_model_do[BY_MODEL_N];
static behave_t *queue;

static bool kind_fits(kind_t kind, const json_t *v)
{
    switch (kind) {
    case F_LONG:
        return json_is_integer(v);
    case F_BOOL:
        return json_is_boolean(v);
    case F_STRING:
        return json_is_string(v);
    case F_STRING_OR_NULL:
        return json_is_string(v) || json_is_null(v);
    case F_OBJECT_OR_NULL:
        return json_is_object(v) || json_is_null(v);
    case F_ARRAY:
        return json_is_array(v);
    case F_SUB:
        return json_is_object(v);
    case F_ANY:
        return true;
    }
    return false;
}

static bool parse_fields(mock_do_t *d, json_t *obj, const field_t *fields, char *why, size_t size)
{
    const char *key;
    json_t *v;

    json_object_foreach(obj, key, v)
    {
        const field_t *f = fields;
        char *at;

        while (f->name && strcmp(f->name, key)) {
            f++;
        }
        if (!f->name || !kind_fits(f->kind, v)) {
            snprintf(why, size, "\"do\": member \"%s\" is %s", key,
                     f->name ? "of the wrong type" : "unknown");
            return false;
        }
        at = (char *)d + f->offset;
        if (f->kind == F_LONG) {
            *(long *)(void *)at = (long)json_integer_value(v);
        } else if (f->kind == F_BOOL) {
            *(bool *)(void *)at = json_is_true(v);
        } else {
            *(json_t **)(void *)at = v;
        }
        if (f->kind == F_SUB && !parse_fields(d, v, f->sub, why, size)) {
            return false;
        }
    }
    return true;
}

static bool pairs_ok(const json_t *headers)
{
    size_t i;
    json_t *h;

    json_array_foreach(headers, i, h)
    {
        if (json_array_size(h) != 2 || !json_is_string(json_array_get(h, 0)) ||
            !json_is_string(json_array_get(h, 1))) {
            return false;
        }
    }
    return true;
}

static bool check_do(mock_do_t *d, char *why, size_t size)
{
    const char *end = d->stream_end ? json_string_value(d->stream_end) : "done";

    if (strcmp(end, "done") && strcmp(end, "none") && strcmp(end, "cut")) {
        snprintf(why, size, "sse_end must be done, none or cut, not %s", end);
        return false;
    }
    if (d->headers && !pairs_ok(d->headers)) {
        snprintf(why, size, "headers must be an array of [name, value]");
        return false;
    }
    if (d->trickle_bytes < 1 || d->slow_read_bytes < 1 || d->stream_split_bytes < 0 ||
        d->stream_auto < 0 || d->body_size < 0) {
        snprintf(why, size, "a number of bytes or events is too small");
        return false;
    }
    if (d->raw) {
        mock_buf_add(&d->raw_bytes, json_string_value(d->raw), json_string_length(d->raw));
    } else if (d->raw_base64 && !mock_base64_decode(&d->raw_bytes, json_string_value(d->raw_base64),
                                                    json_string_length(d->raw_base64))) {
        snprintf(why, size, "raw_base64 is no base64");
        return false;
    }
    d->has_raw = d->raw || d->raw_base64;
    return true;
}

void mock_do_release(mock_do_t *d)
{
    if (!d || --d->refs) {
        return;
    }
    json_decref(d->root);
    mock_buf_free(&d->raw_bytes);
    free(d);
}

static mock_do_t *do_parse(json_t *obj, char *why, size_t size)
{
    mock_do_t *d = mock_alloc(sizeof(*d));

    *d = mock_do_default;
    d->root = json_incref(obj);
    if (!parse_fields(d, obj, do_fields, why, size) || !check_do(d, why, size)) {
        mock_do_release(d);
        return NULL;
    }
    return d;
}

static void behave_free(behave_t *b)
{
    mock_do_release(b->act);
    json_decref(b->spec);
    free(b);
}

static behave_t *behave_parse(json_t *spec, char *why, size_t size)
{
    behave_t *b = mock_alloc(sizeof(*b));
    json_t *act = NULL;
    json_error_t err;

    b->times = 1;
    b->spec = json_incref(spec);
    if (json_unpack_ex(spec, &err, JSON_STRICT, "{s?i,s?s,s?s,s?s,s?I,s?I,s:o}", "port",
                       &b->port, "path", &b->path, "model", &b->model, "unless_header", &b->unless,
                       "conn_request_min",
                       &b->conn_request_min, "times", &b->times, "do", &act)) {
        snprintf(why, size, "behaviour: %s", err.text);
    } else if (!json_is_object(act)) {
        snprintf(why, size, "behaviour: \"do\" must be an object");
    } else if (b->port && !mock_listener_find(b->port)) {
        snprintf(why, size, "behaviour: port %d is not one of mine", b->port);
    } else if (b->times < -1 || b->times == 0) {
        snprintf(why, size, "behaviour: times must be -1 or at least 1");
    } else {
        b->act = do_parse(act, why, size);
    }
    if (!b->act) {
        behave_free(b);
        return NULL;
    }
    return b;
}

static bool add_one(json_t *spec, behave_t ***tail, char *why, size_t size)
{
    behave_t *b = behave_parse(spec, why, size);

    if (!b) {
        return false;
    }
    **tail = b;
    *tail = &b->next;
    return true;
}

bool mock_behave_add(json_t *spec, char *why, size_t why_size)
{
    behave_t *fresh = NULL;
    behave_t **tail = &fresh;
    bool ok = true;
    size_t i;
    json_t *item;

    if (json_is_array(spec)) {
        json_array_foreach(spec, i, item)
        {
            ok = ok && add_one(item, &tail, why, why_size);
        }
    } else {
        ok = add_one(spec, &tail, why, why_size);
    }
    while (!ok && fresh) {
        behave_t *next = fresh->next;

        behave_free(fresh);
        fresh = next;
    }
    for (tail = &queue; *tail; tail = &(*tail)->next) {
    }
    *tail = fresh;
    return ok;
}

void mock_behave_reset(void)
{
    while (queue) {
        behave_t *next = queue->next;

        behave_free(queue);
        queue = next;
    }
}

size_t mock_behave_left(void)
{
    size_t n = 0;

    for (behave_t *b = queue; b; b = b->next) {
        n++;
    }
    return n;
}

static mock_do_t *take(behave_t **at)
{
    behave_t *b = *at;
    mock_do_t *d = b->act;

    d->refs++;
    if (b->times > 0 && --b->times == 0) {
        *at = b->next;
        behave_free(b);
    }
    return d;
}

/* Whether one of the header lines is "Name: value". */
static bool has_header(mock_slice_t head, const char *line)
{
    size_t pos = 0, name_len = strcspn(line, ":");
    const char *wanted = line + name_len + strspn(line + name_len, ": ");
    mock_slice_t name, value;

    while (mock_http_header_next(head.p, head.len, &pos, &name, &value)) {
        if (name.len == name_len && !strncasecmp(name.p, line, name_len) &&
            value.len == strlen(wanted) && !memcmp(value.p, wanted, value.len)) {
            return true;
        }
    }
    return false;
}

mock_do_t *mock_behave_match(int port, mock_slice_t path, const mock_slice_t *model,
                             mock_slice_t head, unsigned conn_request)
{
    for (behave_t **at = &queue; *at; at = &(*at)->next) {
        const behave_t *b = *at;
        size_t plen = b->path ? strlen(b->path) : 0;

        if (b->act->accept_close || b->act->accept_hang || (b->port && b->port != port) ||
            plen > path.len || (plen && memcmp(path.p, b->path, plen)) ||
            (long)conn_request < b->conn_request_min || (b->unless && has_header(head, b->unless))) {
            continue;
        }
        if (b->model &&
            (!model || model->len != strlen(b->model) || memcmp(model->p, b->model, model->len))) {
            continue;
        }
        return take(at);
    }
    return NULL;
}

mock_do_t *mock_behave_match_accept(int port)
{
    for (behave_t **at = &queue; *at; at = &(*at)->next) {
        const behave_t *b = *at;

        if ((b->act->accept_close || b->act->accept_hang) && (!b->port || b->port == port)) {
            return take(at);
        }
    }
    return NULL;
}

static mock_do_t *by_model_get(size_t i)
{
    if (!by_model_do[i]) {
        json_t *obj = json_loads(by_model[i].act, 0, NULL);
        char why[128] = "no JSON";

        by_model_do[i] = obj ? do_parse(obj, why, sizeof(why)) : NULL;
        json_decref(obj);
        if (!by_model_do[i]) {
            fprintf(stderr, "mock: built-in behaviour %s: %s\n", by_model[i].name, why);
            abort();
        }
    }
    by_model_do[i]->refs++;
    return by_model_do[i];
}

mock_do_t *mock_behave_by_model(mock_slice_t model)
{
    char name[32];
    long status;
    mock_do_t *d;

    if (model.len < 6 || model.len >= sizeof(name) + 5 || memcmp(model.p, "mock-", 5)) {
        return NULL;
    }
    memcpy(name, model.p + 5, model.len - 5);
    name[model.len - 5] = '\0';
    for (size_t i = 0; i < BY_MODEL_N; i++) {
        if (!strcmp(by_model[i].name, name)) {
            return by_model_get(i);
        }
    }
    if (!mock_parse_long(name, 200, 599, &status)) {
        return NULL;
    }
    d = mock_alloc(sizeof(*d));
    *d = mock_do_default;
    d->status = status;
    return d;
}
