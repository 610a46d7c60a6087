/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable byte buffer, base64, hashing and number parsing for the mock. Used by every other file
 * of t/mock. Allocation failure ends the process.
 */
#include "mock.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *mock_realloc(void *p, size_t size)
{
    void *q = realloc(p, size ? size : 1);

    if (!q) {
        fputs("mock: out of memory\n", stderr);
        abort();
    }
    return q;
}

void *mock_alloc(size_t size)
{
    return memset(mock_realloc(NULL, size), 0, size);
}

void mock_buf_reserve(mock_buf_t *b, size_t extra)
{
    size_t want = b->len + extra;
    size_t cap = b->cap ? b->cap : 256;

    if (want <= b->cap) {
        return;
    }
    while (cap < want) {
        cap *= 2;
    }
    b->data = mock_realloc(b->data, cap);
    b->cap = cap;
}

void mock_buf_add(mock_buf_t *b, const void *data, size_t len)
{
    if (!len) {
        return;
    }
    mock_buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void mock_buf_str(mock_buf_t *b, const char *s)
{
    mock_buf_add(b, s, strlen(s));
}

void mock_buf_printf(mock_buf_t *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    mock_buf_reserve(b, 128);
    va_start(ap, fmt);
    n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n >= b->cap - b->len) {
        mock_buf_reserve(b, (size_t)n + 1);
        va_start(ap, fmt);
        n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
        va_end(ap);
    }
    if (n > 0) {
        b->len += (size_t)n;
    }
}

void mock_buf_consume(mock_buf_t *b, size_t n)
{
    b->len -= n;
    if (b->len) {
        memmove(b->data, b->data + n, b->len);
    }
}

void mock_buf_free(mock_buf_t *b)
{
    free(b->data);
    *b = (mock_buf_t){.data = NULL};
}

void mock_buf_base64(mock_buf_t *b, const void *data, size_t len)
{
    mock_buf_reserve(b, (len + 2) / 3 * 4 + 1);
    b->len += (size_t)EVP_EncodeBlock((unsigned char *)b->data + b->len, data, (int)len);
}

bool mock_base64_decode(mock_buf_t *b, const char *text, size_t len)
{
    int n;
    size_t pad = 0;

    if (len % 4) {
        return false;
    }
    while (pad < 2 && pad < len && text[len - 1 - pad] == '=') {
        pad++;
    }
    mock_buf_reserve(b, len + 1);
    n = EVP_DecodeBlock((unsigned char *)b->data + b->len, (const unsigned char *)text, (int)len);
    if (n < 0) {
        return false;
    }
    b->len += (size_t)n - pad;
    return true;
}

uint64_t mock_fnv1a64(const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++) {
        h = (h ^ p[i]) * 0x100000001b3u;
    }
    return h;
}

bool mock_parse_long(const char *s, long min, long max, long *out)
{
    char *end;
    long v;

    errno = 0;
    v = strtol(s, &end, 10);
    if (end == s || *end || errno || v < min || v > max) {
        return false;
    }
    *out = v;
    return true;
}
