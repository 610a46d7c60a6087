/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP1_OTHER_H
#define HTTP1_OTHER_H
/* A response as llhttp reads it, for comparison with our own reader, and where the two may differ:
 * all of it is listed here, in note() and its callers. */

#include "fuzz.h"

#include "aip/http1.h"

#include <ctype.h>
#include <llhttp.h>

/* What both readers come to. */
typedef struct response_t {
    int status, minor;
    char *fields; /* "name: value\n" of the final head */
    size_t n_fields;
    char *body;
    size_t n_body;
    size_t end; /* bytes up to the end of the response */
    bool complete;
} response_t;

typedef struct other_t {
    const char *data;
    response_t response;
    bool stricter; /* something is there that we refuse on purpose */
    bool foreign;  /* something is there that llhttp reads otherwise on purpose */
    int interim;
    size_t n_head;            /* of the current head or trailer */
    size_t fields;            /* likewise */
    size_t line_at, value_at; /* in `fields` of the response */
    int name_at;              /* 0: between fields, 1: in a name, 2: in a value */
    int encodings, lengths;
    size_t room;
} other_t;

static inline void response_free(response_t *r)
{
    free(r->fields);
    free(r->body);
}

static inline void keep(char **text, size_t *n, const char *more, size_t len)
{
    *text = realloc(*text, *n + len + 1);
    require(*text != NULL);
    memcpy(*text + *n, more, len);
    *n += len;
    (*text)[*n] = '\0';
}

static inline void keep_field(response_t *r, const char *name, const char *value)
{
    keep(&r->fields, &r->n_fields, name, strlen(name));
    keep(&r->fields, &r->n_fields, ": ", 2);
    keep(&r->fields, &r->n_fields, value, strlen(value));
    keep(&r->fields, &r->n_fields, "\n", 1);
}

/* Control bytes: we take none in values, reasons and chunk extensions. */
static inline void note_text(other_t *o, const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        o->stricter |= ((unsigned char)at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7f;
    o->n_head += len;
}

static inline int on_begin(llhttp_t *p)
{
    other_t *o = p->data;

    o->response.n_fields = o->fields = o->n_head = 0;
    o->encodings = o->lengths = 0;
    return 0;
}

/* Whether exactly one is before `at`. */
static inline bool one_empty_line(const char *start, const char *at)
{
    for (int i = 0; i < 2; i++) {
        if (at == start || *--at != '\n')
            return false;
        at -= at > start && at[-1] == '\r';
    }
    return at > start && at[-1] != '\n';
}

static inline int on_protocol(llhttp_t *p, const char *at, size_t len)
{
    other_t *o = p->data;

    /* llhttp knows RTSP and ICY, and skips empty lines before a head. */
    o->stricter |= len != 4 || memcmp(at, "HTTP", 4) != 0;
    o->stricter |= o->interim == 0 ? at > o->data : !one_empty_line(o->data, at);
    return 0;
}

static inline int on_text(llhttp_t *p, const char *at, size_t len)
{
    note_text(p->data, at, len);
    return 0;
}

static inline int on_field(llhttp_t *p, const char *at, size_t len)
{
    other_t *o = p->data;

    if (o->name_at == 0) {
        o->line_at = o->response.n_fields;
        o->name_at = 1;
        o->fields++;
    }
    keep(&o->response.fields, &o->response.n_fields, at, len);
    o->n_head += len;
    return 0;
}

static inline int on_value(llhttp_t *p, const char *at, size_t len)
{
    other_t *o = p->data;

    note_text(o, at, len);
    if (o->name_at == 1) {
        o->name_at = 2;
        keep(&o->response.fields, &o->response.n_fields, ": ", 2);
        o->value_at = o->response.n_fields;
    }
    keep(&o->response.fields, &o->response.n_fields, at, len);
    return 0;
}

static inline bool is_field(const char *line, const char *name)
{
    return strncasecmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':';
}

static inline int on_field_end(llhttp_t *p)
{
    other_t *o = p->data;
    response_t *r = &o->response;

    if (o->name_at == 1) {
        keep(&r->fields, &r->n_fields, ": ", 2);
        o->value_at = r->n_fields;
    }
    bool tab = false;
    for (; r->n_fields > o->value_at && strchr(" \t", r->fields[r->n_fields - 1]); r->n_fields--)
        tab |= r->fields[r->n_fields - 1] == '\t';
    keep(&r->fields, &r->n_fields, "\n", 1);
    o->name_at = 0;
    const char *line = r->fields + o->line_at;
    if (is_field(line, "transfer-encoding")) {
        /* A tab is white space around a value, which to llhttp it is not. */
        o->foreign |= tab;
        /* We know exactly one coding. */
        o->encodings++;
        o->stricter |= o->encodings > 1 || strcasecmp(strchr(line, ':'), ": chunked\n") != 0;
    } else if (is_field(line, "content-length")) {
        o->lengths++;
    }
    o->stricter |= o->encodings && o->lengths;
    o->stricter |= o->fields > AIP_HTTP1_FIELDS_MAX;
    return 0;
}

static inline int on_head_end(llhttp_t *p)
{
    other_t *o = p->data;
    const int status = llhttp_get_status_code(p);

    o->stricter |= p->http_major != 1 || p->http_minor > 1 || status < 100 || status == 101;
    /* llhttp knows 100, 102 and 103; of the other interim ones it expects a body. Behind one that
     * announces the end of the connection it reads nothing. */
    o->foreign |= status >= 104 && status < 200;
    o->foreign |= status < 200 && !llhttp_should_keep_alive(p);
    if (status < 200)
        o->stricter |= ++o->interim > 8;
    o->response.status = status;
    o->response.minor = p->http_minor;
    o->n_head = o->fields = 0; /* trailers are counted apart */
    o->room = o->response.n_fields;
    return 0;
}

static inline int on_content(llhttp_t *p, const char *at, size_t len)
{
    other_t *o = p->data;

    keep(&o->response.body, &o->response.n_body, at, len);
    return 0;
}

static inline int on_end(llhttp_t *p)
{
    other_t *o = p->data;

    if (o->response.status < 200)
        return 0;
    o->response.n_fields = o->room; /* trailers are dropped */
    o->response.complete = true;
    return HPE_PAUSED;
}

static inline void other_read(other_t *o, const char *data, size_t len)
{
    llhttp_settings_t calls;
    llhttp_t parser;

    *o = (other_t){.data = data};
    llhttp_settings_init(&calls);
    calls.on_message_begin = on_begin;
    calls.on_protocol = on_protocol;
    calls.on_status = on_text;
    calls.on_chunk_extension_name = on_text;
    calls.on_chunk_extension_value = on_text;
    calls.on_header_field = on_field;
    calls.on_header_value = on_value;
    calls.on_header_value_complete = on_field_end;
    calls.on_headers_complete = on_head_end;
    calls.on_body = on_content;
    calls.on_message_complete = on_end;
    llhttp_init(&parser, HTTP_RESPONSE, &calls);
    parser.data = o;
    /* Both of RFC 9112, sections 2.2 and 7.1: a bare LF ends a line, white space may follow a chunk
     * size. */
    llhttp_set_lenient_optional_cr_before_lf(&parser, 1);
    llhttp_set_lenient_spaces_after_chunk_size(&parser, 1);
    llhttp_errno_t rc = llhttp_execute(&parser, data, len);
    /* RFC 9110, section 8.6 lets us take lengths that are equal; llhttp takes one. */
    o->foreign |= rc == HPE_UNEXPECTED_CONTENT_LENGTH && o->lengths && !o->encodings;
    /* A tab is white space behind a length, and a bare LF ends the line of a chunk size without an
     * extension; llhttp takes neither. */
    const char *at = rc == HPE_OK ? NULL : llhttp_get_error_pos(&parser);
    o->foreign |= rc == HPE_INVALID_CONTENT_LENGTH && at && *at == '\t';
    o->foreign |= rc == HPE_STRICT && at && at > data && at[-1] == '\n';
    /* What a chunk extension says is of no interest to us, so its form is not either. */
    o->foreign |= at && strstr(llhttp_get_error_reason(&parser), "chunk ext") != NULL;
    /* llhttp takes two CRs behind a status for an end of line. */
    o->stricter |= memmem(data, len, "\r\r", 2) != NULL;
    o->response.end = len;
    if (o->response.complete)
        o->response.end = (size_t)(llhttp_get_error_pos(&parser) - data);
    else if (rc == HPE_OK)
        (void)llhttp_finish(&parser);
}

#endif
