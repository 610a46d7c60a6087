/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUZZ_H
#define FUZZ_H
/* What the fuzz targets share: a check that stops the run, texts whose allocation ends where they
 * do, and where a text is cut into the pieces that a reader gets. */

#include "aip/aip.h"

#include <apr_general.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(what) ((what) ? (void)0 : fuzz_failed(#what, __FILE__, __LINE__))

_Noreturn static inline void fuzz_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

/* A pool that lives as long as the process; the caller clears it. */
static inline apr_pool_t *fuzz_pool(void)
{
    static apr_pool_t *pool;

    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    return pool;
}

/* free() it; a read beyond its end is seen. */
static inline char *fuzz_copy(const void *data, size_t len)
{
    char *copy = malloc(len ? len : 1);

    require(copy != NULL);
    if (len)
        memcpy(copy, data, len);
    return copy;
}

/* The rest of the input as a C string. */
static inline char *fuzz_string(const void *data, size_t len)
{
    char *text = malloc(len + 1);

    require(text != NULL);
    if (len)
        memcpy(text, data, len);
    text[len] = '\0';
    return text;
}

/* Takes the next line off the input, as a C string to free(): "" at the end. */
static inline char *fuzz_line(const uint8_t **data, size_t *size)
{
    const uint8_t *end = *size ? memchr(*data, '\n', *size) : NULL;
    const size_t len = end ? (size_t)(end - *data) : *size;
    char *line = fuzz_string(*data, len);

    *data += end ? len + 1 : len;
    *size -= end ? len + 1 : len;
    return line;
}

/* Sizes of pieces, over and over; the sizes are bytes of the input. n == 0: all in one piece. */
typedef struct cuts_t {
    const uint8_t *sizes;
    size_t n, at;
} cuts_t;

/* Takes cuts off the input: a byte says how many, they follow. */
static inline cuts_t fuzz_cuts(const uint8_t **data, size_t *size)
{
    cuts_t cuts = {0};

    if (*size) {
        cuts.n = **data % 16;
        cuts.n = cuts.n < *size - 1 ? cuts.n : *size - 1;
        cuts.sizes = *data + 1;
        *data += cuts.n + 1;
        *size -= cuts.n + 1;
    }
    return cuts;
}

/* The size of the next piece of `left` bytes, at least 1. */
static inline size_t fuzz_cut(cuts_t *cuts, size_t left)
{
    const size_t n = cuts->n ? cuts->sizes[cuts->at++ % cuts->n] : left;

    return n == 0 ? 1 : n < left ? n : left;
}

static const uint8_t one_byte[] = {1};
static const cuts_t BYTE_BY_BYTE = {.sizes = one_byte, .n = 1};
static const cuts_t IN_ONE_PIECE = {.n = 0};

#endif
