/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of an HTTP/1.x response: status line, field lines, chunk-size lines, and the decision
 * where the body ends. Pure functions of one line each, called by the driver in http1.c. A response
 * comes from a third party and its bytes are passed on to clients, so whatever two readers could
 * understand differently is refused rather than repaired. */

#include "http1_int.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <string.h>

#define OFF_MAX ((apr_off_t)APR_INT64_MAX)

void aip_http1_head_reset(aip_http1_head_t *head, apr_pool_t *pool)
{
    apr_table_t *headers = head->response.headers;

    if (headers) {
        apr_table_clear(headers);
    } else {
        headers = apr_table_make(pool, 24);
    }
    *head = (aip_http1_head_t){
        .response = {.headers = headers, .length = -1},
        .content_length = -1,
    };
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* tchar of RFC 9110, section 5.6.2. */
static bool is_token(char c)
{
    char lower = (char)(c | 0x20);

    if ((lower >= 'a' && lower <= 'z') || is_digit(c)) {
        return true;
    }
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/* Text of a field value or a reason phrase: no control byte but the tab; bytes above 0x7f are left
 * to the receiver. */
static bool is_text(aip_span_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static aip_span_t trim(aip_span_t s)
{
    while (s.len > 0 && is_blank(s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.data[s.len - 1])) {
        s.len--;
    }
    return s;
}

static bool is_word(aip_span_t s, aip_span_t word)
{
    return s.len == word.len && apr_cstr_casecmpn(s.data, word.data, s.len) == 0;
}

bool aip_http1_status_begins(const char *p, size_t n)
{
    static const char prefix[] = "HTTP/1.";

    return memcmp(p, prefix, n < sizeof(prefix) - 1 ? n : sizeof(prefix) - 1) == 0;
}

bool aip_http1_head_status(aip_http1_head_t *head, aip_span_t line)
{
    const char *p = line.data;

    /* "HTTP/1.1 200" is the least; a server that leaves out the reason may leave out the space
     * before it, too. */
    if (line.len < 12 || !aip_http1_status_begins(p, line.len) || (p[7] != '0' && p[7] != '1')) {
        return false;
    }
    if (p[8] != ' ' || p[9] == '0' || !is_digit(p[9]) || !is_digit(p[10]) || !is_digit(p[11])) {
        return false;
    }
    if (line.len > 12 && (p[12] != ' ' || !is_text((aip_span_t){p + 12, line.len - 12}))) {
        return false;
    }
    head->response.minor = p[7] - '0';
    head->response.status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    return true;
}

bool aip_http1_field_split(aip_span_t line, aip_span_t *name, aip_span_t *value)
{
    size_t n = 0;

    /* White space before the colon and a folded line (white space first) are no token, so they end
     * here. */
    while (n < line.len && is_token(line.data[n])) {
        n++;
    }
    if (n == 0 || n == line.len || line.data[n] != ':') {
        return false;
    }
    *name = (aip_span_t){line.data, n};
    *value = trim((aip_span_t){line.data + n + 1, line.len - n - 1});
    return is_text(*value);
}

static bool parse_length(aip_span_t value, apr_off_t *length)
{
    apr_off_t n = 0;

    for (size_t i = 0; i < value.len; i++) {
        apr_off_t digit = value.data[i] - '0';

        if (!is_digit(value.data[i]) || n > (OFF_MAX - digit) / 10) {
            return false;
        }
        n = n * 10 + digit;
    }
    *length = n;
    return value.len > 0;
}

static void read_connection(aip_http1_head_t *head, aip_span_t value)
{
    while (value.len > 0) {
        const char *comma = memchr(value.data, ',', value.len);
        size_t n = comma ? (size_t)(comma - value.data) : value.len;
        aip_span_t token = trim((aip_span_t){value.data, n});

        if (is_word(token, AIP_SPAN("close"))) {
            head->close = true;
        } else if (is_word(token, AIP_SPAN("keep-alive"))) {
            head->keep_alive = true;
        }
        n += comma ? 1 : 0;
        value.data += n;
        value.len -= n;
    }
}

bool aip_http1_head_field(aip_http1_head_t *head, aip_span_t line, apr_pool_t *pool)
{
    aip_span_t name, value;

    if (!aip_http1_field_split(line, &name, &value)) {
        return false;
    }
    if (is_word(name, AIP_SPAN("Content-Length"))) {
        apr_off_t length;

        if (!parse_length(value, &length) ||
            (head->content_length >= 0 && head->content_length != length)) {
            return false;
        }
        head->content_length = length;
    } else if (is_word(name, AIP_SPAN("Transfer-Encoding"))) {
        head->encodings++;
        head->chunked = is_word(value, AIP_SPAN("chunked"));
    } else if (is_word(name, AIP_SPAN("Connection"))) {
        read_connection(head, value);
    }
    apr_table_addn(head->response.headers, apr_pstrmemdup(pool, name.data, name.len),
                   apr_pstrmemdup(pool, value.data, value.len));
    return true;
}

bool aip_http1_head_frame(aip_http1_head_t *head, aip_http1_body_e *body)
{
    aip_http1_response_t *response = &head->response;

    if (head->encodings > 1 || (head->encodings == 1 && !head->chunked) ||
        (head->encodings > 0 && head->content_length >= 0)) {
        return false;
    }
    head->persistent = !head->close && (response->minor == 1 || head->keep_alive);
    if (response->status == 204 || response->status == 304) {
        /* A body that is announced but must not be there would be taken for the next response. A
         * 304 may tell the length of what it does not send. */
        if (head->chunked || (response->status == 204 && head->content_length > 0)) {
            head->persistent = false;
        }
        response->length = 0;
        *body = AIP_HTTP1_BODY_NONE;
    } else if (head->chunked) {
        /* HTTP/1.0 does not know the encoding: readable, but another hop may have framed it
         * otherwise. */
        if (response->minor == 0) {
            head->persistent = false;
        }
        *body = AIP_HTTP1_BODY_CHUNKED;
    } else if (head->content_length >= 0) {
        response->length = head->content_length;
        *body = response->length > 0 ? AIP_HTTP1_BODY_LENGTH : AIP_HTTP1_BODY_NONE;
    } else {
        head->persistent = false;
        *body = AIP_HTTP1_BODY_CLOSE;
    }
    return true;
}

/* Length of the head at the start of `p` with its empty line, 0 when that has not come yet. */
static size_t head_length(const char *p, size_t n)
{
    const char *end = p + n;

    for (const char *s = p; (s = memchr(s, '\n', (size_t)(end - s))) != NULL;) {
        s++;
        if (s < end && *s == '\r') {
            s++;
        }
        if (s < end && *s == '\n') {
            return (size_t)(s + 1 - p);
        }
    }
    return 0;
}

bool aip_http1_final_begins(const char *p, size_t n)
{
    for (;;) {
        size_t skip;

        if (!aip_http1_status_begins(p, n)) {
            return true;
        }
        if (n < 10) {
            return false;
        }
        if (p[9] != '1') {
            return true;
        }
        skip = head_length(p, n);
        if (skip == 0) {
            return false;
        }
        p += skip;
        n -= skip;
    }
}

static int hex_digit(char c)
{
    char lower = (char)(c | 0x20);

    if (is_digit(c)) {
        return c - '0';
    }
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool aip_http1_chunk_begins(const char *p, size_t n)
{
    return n == 0 || hex_digit(p[0]) >= 0;
}

bool aip_http1_chunk_size(aip_span_t line, apr_off_t *size)
{
    apr_off_t total = 0;
    size_t i = 0;

    for (; i < line.len && hex_digit(line.data[i]) >= 0; i++) {
        if (total > OFF_MAX >> 4) {
            return false;
        }
        total = total * 16 + hex_digit(line.data[i]);
    }
    if (i == 0) {
        return false;
    }
    *size = total;
    while (i < line.len && is_blank(line.data[i])) {
        i++;
    }
    if (i == line.len) {
        return true;
    }
    return line.data[i] == ';' && is_text((aip_span_t){line.data + i, line.len - i});
}
