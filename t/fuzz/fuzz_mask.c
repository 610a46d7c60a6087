/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the mask of secrets. The first byte says into which pieces the text is cut, the first line
 * is the secret. What must hold: in pieces comes out what comes out of the whole; nothing but
 * asterisks is put in; as it is, the secret is not there any more, unless it is made of asterisks.
 */

#include "aip/mask.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool holds(const char *text, size_t len, const char *secret)
{
    const size_t n = strlen(secret);

    for (size_t i = 0; i + n <= len; i++) {
        if (memcmp(text + i, secret, n) == 0)
            return true;
    }
    return false;
}

static void check(const char *secret, const char *text, size_t len, size_t step, apr_pool_t *pool)
{
    aip_mask_t *mask = aip_mask_create(&secret, 1, pool);
    char *whole = malloc(len + 1), *pieces = malloc(len + 1);
    size_t n = 0;

    require(whole && pieces && (mask != NULL) == (strlen(secret) >= AIP_MASK_MIN));
    if (mask) {
        memcpy(whole, text, len);
        aip_mask_text(mask, whole, len);
        require(strchr(secret, '*') || !holds(whole, len, secret));
        for (size_t i = 0; i < len; i++)
            require(whole[i] == text[i] || whole[i] == '*');
        for (size_t i = 0; i <= len; i += step) {
            const size_t left = len - i;
            const aip_span_t out = aip_mask_feed(mask, text + i, left < step ? left : step);

            require(n + out.len <= len);
            memcpy(pieces + n, out.data, out.len);
            n += out.len;
        }
        const aip_span_t out = aip_mask_rest(mask);
        require(n + out.len == len);
        memcpy(pieces + n, out.data, out.len);
        require(!memcmp(whole, pieces, len) || !holds(pieces, len, secret));
    }
    free(whole);
    free(pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static apr_pool_t *pool;
    const uint8_t *line;

    if (size < 2 || size > 4 * AIP_MASK_PIECE)
        return 0;
    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    line = memchr(data + 1, '\n', size - 1);
    if (line) {
        const char *secret =
            apr_pstrmemdup(pool, (const char *)data + 1, (apr_size_t)(line - data - 1));
        const char *start = (const char *)line + 1;

        check(secret, start, (size_t)(data + size - line - 1), data[0] ? data[0] : AIP_MASK_PIECE,
              pool);
    }
    apr_pool_clear(pool);
    return 0;
}
