/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_JSON_TEXT_H
#define AIP_T_UNIT_JSON_TEXT_H
/* What the tests of JSON share. Every text is tested in a heap block of exactly its size, so that a
 * run under AddressSanitizer or valgrind sees any read beyond it. */

#include "aip/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define ABSENT ((aip_span_t){NULL, 0})

static aip_span_t exact_copy(aip_span_t text)
{
    char *copy = malloc(text.len ? text.len : 1);

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, text.data, text.len);
    return (aip_span_t){copy, text.len};
}

static void free_copy(aip_span_t copy)
{
    free((void *)(uintptr_t)copy.data);
}

static bool spans_equal(aip_span_t a, aip_span_t b)
{
    return a.len == b.len && !memcmp(a.data, b.data, a.len);
}

static void assert_span(const char *name, aip_span_t got, aip_span_t expected)
{
    ck_assert_msg(spans_equal(got, expected), "%s: got <%.*s>, expected <%.*s>", name, (int)got.len,
                  got.data, (int)expected.len, expected.data);
}

#endif
