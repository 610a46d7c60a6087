/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets in text: looked for in the spellings in which a peer may send them back. */
#include "aip/mask.h"

#include "aip/json.h"
#include "aip/provider.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

#define SPELLINGS 3

struct aip_mask_t {
    apr_pool_t *pool;
    aip_span_t *needles;
    int n;
    size_t longest;
    char *buf; /* made when it is needed: kept back, then a piece */
    size_t used;
};

static void add(aip_mask_t *mask, aip_span_t needle)
{
    for (int i = 0; i < mask->n; i++) {
        if (mask->needles[i].len == needle.len &&
            memcmp(mask->needles[i].data, needle.data, needle.len) == 0) {
            return;
        }
    }
    mask->longest = needle.len > mask->longest ? needle.len : mask->longest;
    mask->needles[mask->n++] = needle;
}

/* Whether JSON and URLs spell it as it is, as most keys. */
static bool is_plain(const char *secret)
{
    while (apr_isalnum(*secret) || *secret == '-' || *secret == '_' || *secret == '.') {
        secret++;
    }
    return !*secret;
}

aip_mask_t *aip_mask_create(const char *const *secrets, int n, apr_pool_t *pool)
{
    aip_mask_t *mask = apr_pcalloc(pool, sizeof *mask);
    mask->pool = pool;
    mask->needles = apr_palloc(pool, (apr_size_t)n * SPELLINGS * sizeof *mask->needles);
    for (int i = 0; i < n; i++) {
        aip_span_t text = {secrets[i], secrets[i] ? strlen(secrets[i]) : 0};
        if (text.len < AIP_MASK_MIN) {
            continue;
        }
        add(mask, text);
        if (is_plain(text.data)) {
            continue;
        }
        aip_span_t quoted = aip_json_quote(text, pool);
        const char *encoded = aip_url_encode(text.data, pool);
        add(mask, (aip_span_t){quoted.data + 1, quoted.len - 2});
        add(mask, (aip_span_t){encoded, strlen(encoded)});
    }
    return mask->n ? mask : NULL;
}

const char *aip_mask_of_header(const char *value)
{
    const char *space = strchr(value, ' ');
    if (!space) {
        return value;
    }
    space += strspn(space, " ");
    return strlen(space) < AIP_MASK_MIN ? value : space;
}

static bool mask_one(aip_span_t needle, char *text, size_t len)
{
    bool found = false;
    char *p = text, *end = text + len;
    while ((size_t)(end - p) >= needle.len &&
           (p = memchr(p, needle.data[0], (size_t)(end - p) - needle.len + 1)) != NULL) {
        if (memcmp(p, needle.data, needle.len) == 0) {
            memset(p, '*', needle.len);
            p += needle.len;
            found = true;
        } else {
            p++;
        }
    }
    return found;
}

bool aip_mask_text(const aip_mask_t *mask, char *text, size_t len)
{
    bool found = false;
    for (int i = 0; i < mask->n; i++) {
        found |= mask_one(mask->needles[i], text, len);
    }
    return found;
}

aip_span_t aip_mask_feed(aip_mask_t *mask, const char *data, size_t len)
{
    size_t back = mask->longest - 1;
    if (!mask->buf) {
        mask->buf = apr_palloc(mask->pool, 2 * back + AIP_MASK_PIECE);
    }
    /* What was passed on by the last call still lies before what was kept back. */
    size_t keep = mask->used < back ? mask->used : back;
    memmove(mask->buf, mask->buf + mask->used - keep, keep);
    memcpy(mask->buf + keep, data, len);
    mask->used = keep + len;
    aip_mask_text(mask, mask->buf, mask->used);
    return (aip_span_t){mask->buf, mask->used < back ? 0 : mask->used - back};
}

aip_span_t aip_mask_rest(aip_mask_t *mask)
{
    size_t back = mask->longest - 1;
    size_t keep = mask->used < back ? mask->used : back;
    if (!keep) {
        return (aip_span_t){"", 0};
    }
    aip_span_t rest = {mask->buf + mask->used - keep, keep};
    mask->used = 0;
    return rest;
}
