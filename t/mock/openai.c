/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock's normal answers: chat completions, buffered and as server-sent events, the model list,
 * and error bodies, all in the OpenAI API's shape. Ids and token counts are fixed so that tests can
 * name them. Called by answer.c; strings that come from the request are already JSON-escaped and
 * are copied as they are.
 */
#include "mock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_USAGE "{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}"

/* A JSON string's inside; jansson's dump keeps it valid for any text. */
static void add_escaped(mock_buf_t *b, const json_t *s)
{
    char *text = json_dumps(s, JSON_ENCODE_ANY);

    mock_buf_add(b, text + 1, strlen(text) - 2);
    free(text);
}

static void add_model(mock_buf_t *b, const mock_request_t *q, const mock_do_t *d)
{
    if (d->model) {
        add_escaped(b, d->model);
    } else if (q->chat.model.len) {
        mock_buf_add(b, q->chat.model.p, q->chat.model.len);
    } else {
        mock_buf_str(b, "mock");
    }
}

static void add_content(mock_buf_t *b, const mock_request_t *q, const mock_do_t *d)
{
    if (d->content) {
        add_escaped(b, d->content);
        return;
    }
    mock_buf_str(b, "I am ");
    add_model(b, q, d);
    mock_buf_printf(b, ", played by %s.", q->listener->name);
}

static void add_usage(mock_buf_t *b, const mock_do_t *d)
{
    char *text;

    if (!d->usage) {
        mock_buf_str(b, DEFAULT_USAGE);
        return;
    }
    text = json_dumps(d->usage, JSON_COMPACT | JSON_ENCODE_ANY);
    mock_buf_str(b, text);
    free(text);
}

static void add_top(mock_buf_t *b, const mock_request_t *q, const mock_do_t *d, const char *object)
{
    mock_buf_printf(
        b, "{\"id\":\"chatcmpl-mock-%llu\",\"object\":\"%s\",\"created\":%lld,\"model\":\"",
        (unsigned long long)q->seq, object, (long long)time(NULL));
    add_model(b, q, d);
    mock_buf_str(b, "\",\"system_fingerprint\":\"fp_mock\",");
}

void mock_openai_chat(mock_body_t *b, const mock_request_t *q, const mock_do_t *d)
{
    add_top(&b->bytes, q, d, "chat.completion");
    mock_buf_str(&b->bytes,
                 "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
    add_content(&b->bytes, q, d);
    mock_buf_str(&b->bytes, "\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    if (!json_is_null(d->usage)) {
        mock_buf_str(&b->bytes, ",\"usage\":");
        add_usage(&b->bytes, d);
    }
    mock_buf_str(&b->bytes, "}");
}

static void end_event(mock_body_t *b, const mock_do_t *d)
{
    mock_buf_str(&b->bytes, d->stream_crlf ? "\r\n\r\n" : "\n\n");
    mock_body_piece(b, d->stream_interval_ms);
}

static void add_error_event(mock_body_t *b, const mock_do_t *d)
{
    mock_buf_str(&b->bytes, "data: {\"error\":{\"message\":\"scripted stream error\",\"type\":"
                            "\"server_error\",\"param\":null,\"code\":\"mock_stream_error\"}}");
    end_event(b, d);
}

/* delta: the members of the delta object; finish: JSON value */
static void add_chunk(mock_body_t *b, const mock_request_t *q, const mock_do_t *d,
                      const char *delta, size_t delta_len, const char *finish)
{
    mock_buf_str(&b->bytes, "data: ");
    add_top(&b->bytes, q, d, "chat.completion.chunk");
    mock_buf_str(&b->bytes, "\"choices\":[{\"index\":0,\"delta\":{");
    mock_buf_add(&b->bytes, delta, delta_len);
    mock_buf_printf(&b->bytes, "},\"logprobs\":null,\"finish_reason\":%s}]", finish);
    if (q->chat.include_usage) {
        mock_buf_str(&b->bytes, ",\"usage\":null");
    }
    mock_buf_str(&b->bytes, "}");
    end_event(b, d);
}

static void add_content_chunk(mock_body_t *b, const mock_request_t *q, const mock_do_t *d, long i)
{
    static mock_buf_t delta;

    delta.len = 0;
    mock_buf_str(&delta, "\"content\":\"");
    if (i == 0) {
        add_content(&delta, q, d);
    } else {
        mock_buf_printf(&delta, " %ld", i);
    }
    mock_buf_str(&delta, "\"");
    add_chunk(b, q, d, delta.data, delta.len, "null");
}

static void add_usage_chunk(mock_body_t *b, const mock_request_t *q, const mock_do_t *d)
{
    mock_buf_str(&b->bytes, "data: ");
    add_top(&b->bytes, q, d, "chat.completion.chunk");
    mock_buf_str(&b->bytes, "\"choices\":[],\"usage\":");
    add_usage(&b->bytes, d);
    mock_buf_str(&b->bytes, "}");
    end_event(b, d);
}

/* Both return false when error_event ended the stream. */
static bool add_scripted_events(mock_body_t *b, const mock_do_t *d)
{
    size_t i;
    json_t *ev;

    json_array_foreach(d->stream_events, i, ev)
    {
        json_t *text = json_is_object(ev) ? json_object_get(ev, "raw") : ev;

        if ((long)i == d->error_event) {
            return false;
        }
        if (json_is_object(ev)) {
            mock_buf_add(&b->bytes, json_string_value(text), json_string_length(text));
            mock_body_piece(b, d->stream_interval_ms);
        } else {
            mock_buf_str(&b->bytes, "data: ");
            mock_buf_add(&b->bytes, json_string_value(text), json_string_length(text));
            end_event(b, d);
        }
    }
    return d->error_event < (long)i;
}

static bool add_auto_events(mock_body_t *b, const mock_request_t *q, const mock_do_t *d)
{
    static const char role[] = "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null";

    for (long i = -1; i < d->stream_auto; i++) {
        if (i + 1 == d->error_event) {
            return false;
        }
        if (i < 0) {
            add_chunk(b, q, d, role, sizeof(role) - 1, "null");
        } else {
            add_content_chunk(b, q, d, i);
        }
    }
    if (d->error_event > d->stream_auto) {
        return false;
    }
    add_chunk(b, q, d, "", 0, "\"stop\"");
    if (q->chat.include_usage && !json_is_null(d->usage)) {
        add_usage_chunk(b, q, d);
    }
    return true;
}

void mock_openai_stream(mock_body_t *b, const mock_request_t *q, const mock_do_t *d)
{
    bool whole = d->stream_events ? add_scripted_events(b, d) : add_auto_events(b, q, d);
    const char *end = d->stream_end ? json_string_value(d->stream_end) : whole ? "done" : "none";

    b->content_type = "text/event-stream";
    if (!whole) {
        add_error_event(b, d);
    }
    if (!strcmp(end, "done")) {
        mock_buf_str(&b->bytes, "data: [DONE]");
        end_event(b, d);
    }
    if (b->n) {
        b->pieces[b->n - 1].wait_ms = 0;
    }
}

void mock_openai_models(mock_body_t *b)
{
    mock_buf_str(&b->bytes, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\","
                            "\"created\":1700000000,\"owned_by\":\"mock\"}]}");
}

void mock_openai_error(mock_body_t *b, long status, const char *message)
{
    const char *type = status == 401   ? "authentication_error"
                       : status == 429 ? "rate_limit_error"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";

    mock_buf_printf(&b->bytes,
                    "{\"error\":{\"message\":\"%s (%ld)\",\"type\":\"%s\",\"param\":null,"
                    "\"code\":\"mock_%ld\"}}",
                    message, status, type, status);
}
