/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict HTTP/1.1 request parser of the mock, fed with bytes, no I/O. It is strict on purpose:
 * whatever a gateway sends that RFC 9112 forbids becomes a "malformed" record with its reason, not
 * a request that happens to work. Called by serve.c for each request, by answer.c and record.c for
 * the header lines.
 */
#include "mock.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#define HEAD_MAX (1024 * 1024)
#define BODY_MAX ((size_t)256 * 1024 * 1024)
#define CHUNK_LINE_MAX 4096

static bool is_token(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)p[i]) && (!p[i] || !strchr("!#$%&'*+-.^_`|~", p[i]))) {
            return false;
        }
    }
    return len > 0;
}

static bool slice_is(mock_slice_t s, const char *word)
{
    return s.len == strlen(word) && !strncasecmp(s.p, word, s.len);
}

static const char *parse_request_line(const char *data, size_t len, mock_head_t *h)
{
    const char *sp = memchr(data, ' ', len);
    const char *sp2;
    const char *version;

    if (!sp || !is_token(data, (size_t)(sp - data))) {
        return "bad method";
    }
    h->method_len = (size_t)(sp - data);
    h->target_off = h->method_len + 1;
    sp2 = memchr(sp + 1, ' ', len - h->target_off);
    if (!sp2 || sp2 == sp + 1) {
        return "no request target";
    }
    h->target_len = (size_t)(sp2 - sp - 1);
    for (const char *p = sp + 1; p < sp2; p++) {
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f) {
            return "byte in the request target that must be percent-encoded";
        }
    }
    version = sp2 + 1;
    if ((size_t)(data + len - version) != 8 || strncmp(version, "HTTP/1.", 7)) {
        return "bad HTTP version";
    }
    h->keep_alive = version[7] == '1';
    return version[7] == '1' || version[7] == '0' ? NULL : "bad HTTP version";
}

bool mock_http_header_next(const char *head, size_t head_len, size_t *pos, mock_slice_t *name,
                           mock_slice_t *value)
{
    const char *end = head + head_len;
    const char *p;
    const char *eol;
    const char *colon;

    if (*pos == 0) {
        eol = memchr(head, '\n', head_len);
        *pos = eol ? (size_t)(eol + 1 - head) : head_len;
    }
    p = head + *pos;
    eol = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
    if (!eol || eol == p || eol[-1] != '\r' || eol - 1 == p) {
        return false;
    }
    *pos = (size_t)(eol + 1 - head);
    eol--;
    colon = memchr(p, ':', (size_t)(eol - p));
    *name = (mock_slice_t){p, (size_t)((colon ? colon : eol) - p)};
    p = colon ? colon + 1 : eol;
    while (p < eol && (*p == ' ' || *p == '\t')) {
        p++;
    }
    while (eol > p && (eol[-1] == ' ' || eol[-1] == '\t')) {
        eol--;
    }
    *value = (mock_slice_t){p, (size_t)(eol - p)};
    return true;
}

static const char *take_length(mock_head_t *h, mock_slice_t v)
{
    size_t n = 0;

    if (h->has_length) {
        return "more than one Content-Length";
    }
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < '0' || v.p[i] > '9' || n > BODY_MAX) {
            return "bad Content-Length";
        }
        n = n * 10 + (size_t)(v.p[i] - '0');
    }
    if (!v.len || n > BODY_MAX) {
        return "bad Content-Length";
    }
    h->length = n;
    h->has_length = true;
    return NULL;
}

static const char *take_header(mock_head_t *h, mock_slice_t name, mock_slice_t value, int *hosts)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.p[i] < 0x20 && value.p[i] != '\t') {
            return "control character in a header value";
        }
    }
    if (!is_token(name.p, name.len)) {
        return "bad header name";
    }
    if (slice_is(name, "host")) {
        ++*hosts;
    } else if (slice_is(name, "content-length")) {
        return take_length(h, value);
    } else if (slice_is(name, "transfer-encoding")) {
        if (h->chunked || !slice_is(value, "chunked")) {
            return "bad Transfer-Encoding";
        }
        h->chunked = true;
    } else if (slice_is(name, "connection") && slice_is(value, "close")) {
        h->keep_alive = false;
    } else if (slice_is(name, "expect") && slice_is(value, "100-continue")) {
        h->expect = true;
    }
    return NULL;
}

static const char *parse_head(const char *data, size_t line_len, mock_head_t *h)
{
    size_t pos = 0;
    int hosts = 0;
    mock_slice_t name;
    mock_slice_t value;
    const char *why = parse_request_line(data, line_len, h);

    while (!why && mock_http_header_next(data, h->head_len, &pos, &name, &value)) {
        why = take_header(h, name, value, &hosts);
    }
    if (!why && pos + 2 != h->head_len) {
        why = "line without CR before LF";
    }
    if (!why && hosts != 1) {
        why = hosts ? "more than one Host" : "no Host";
    }
    if (!why && h->chunked && h->has_length) {
        why = "Content-Length together with Transfer-Encoding";
    }
    return why;
}

mock_http_rc_t mock_http_head(const char *data, size_t len, size_t *scanned, mock_head_t *h,
                              const char **why)
{
    size_t from = *scanned > 3 ? *scanned - 3 : 0;
    const char *end = len > from ? memmem(data + from, len - from, "\r\n\r\n", 4) : NULL;
    const char *eol;

    *scanned = len;
    if (!end) {
        *why = "head too long";
        return len > HEAD_MAX ? MOCK_HTTP_BAD : MOCK_HTTP_MORE;
    }
    *h = (mock_head_t){.head_len = (size_t)(end + 4 - data)};
    eol = memmem(data, h->head_len, "\r\n", 2);
    *why = parse_head(data, (size_t)(eol - data), h);
    return *why ? MOCK_HTTP_BAD : MOCK_HTTP_DONE;
}

/* One line of the chunk framing; returns its length with CRLF, 0 = not complete, SIZE_MAX = bad. */
static size_t chunk_line(const char *p, size_t len)
{
    const char *lf = memchr(p, '\n', len);

    if (!lf) {
        return len > CHUNK_LINE_MAX ? SIZE_MAX : 0;
    }
    return lf > p && lf[-1] == '\r' ? (size_t)(lf + 1 - p) : SIZE_MAX;
}

static bool chunk_size(const char *p, size_t line, size_t *out)
{
    size_t n = 0;
    size_t i = 0;

    for (; i < line && isxdigit((unsigned char)p[i]); i++) {
        int c = tolower((unsigned char)p[i]);

        n = n * 16 + (size_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        if (n > BODY_MAX) {
            return false;
        }
    }
    *out = n;
    return i > 0 && (p[i] == '\r' || p[i] == ';');
}

/* Handles the line at p for the states that end with one; false = bad. */
static bool chunk_step(mock_chunks_t *c, const char *p, size_t line, bool *done)
{
    switch (c->state) {
    case CHUNK_SIZE:
        if (!chunk_size(p, line, &c->left)) {
            return false;
        }
        c->state = c->left ? CHUNK_DATA : CHUNK_TRAILER;
        return true;
    case CHUNK_DATA:
    case CHUNK_DATA_END:
        c->state = CHUNK_SIZE;
        return line == 2;
    case CHUNK_TRAILER:
        *done = line == 2;
        return true;
    }
    return false;
}

mock_http_rc_t mock_http_chunks(mock_chunks_t *c, const char *data, size_t len, size_t *used,
                                mock_buf_t *out, const char **why)
{
    bool done = false;

    *used = 0;
    while (!done) {
        const char *p = data + *used;
        size_t left = len - *used;
        size_t n;

        if (c->state == CHUNK_DATA) {
            n = left < c->left ? left : c->left;
            mock_buf_add(out, p, n);
            c->left -= n;
            *used += n;
            if (c->left) {
                return MOCK_HTTP_MORE;
            }
            c->state = CHUNK_DATA_END;
            continue;
        }
        n = left ? chunk_line(p, left) : 0;
        if (!n) {
            return MOCK_HTTP_MORE;
        }
        if (n == SIZE_MAX || !chunk_step(c, p, n, &done) || out->len > BODY_MAX) {
            *why = "bad chunk";
            return MOCK_HTTP_BAD;
        }
        *used += n;
    }
    return MOCK_HTTP_DONE;
}

mock_slice_t mock_target_path(mock_slice_t target)
{
    const char *q = memchr(target.p, '?', target.len);

    return (mock_slice_t){target.p, q ? (size_t)(q - target.p) : target.len};
}

mock_slice_t mock_query_value(mock_slice_t target, const char *name)
{
    size_t nlen = strlen(name);
    const char *end = target.p + target.len;
    const char *p = memchr(target.p, '?', target.len);

    while (p && ++p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;

        if ((size_t)(stop - p) > nlen && !memcmp(p, name, nlen) && p[nlen] == '=') {
            return (mock_slice_t){p + nlen + 1, (size_t)(stop - p) - nlen - 1};
        }
        p = amp;
    }
    return (mock_slice_t){"", 0};
}

long mock_query_long(mock_slice_t target, const char *name, long fallback)
{
    mock_slice_t v = mock_query_value(target, name);
    char text[24];
    long n;

    if (!v.len || v.len >= sizeof(text)) {
        return fallback;
    }
    memcpy(text, v.p, v.len);
    text[v.len] = '\0';
    return mock_parse_long(text, LONG_MIN, LONG_MAX, &n) ? n : fallback;
}
