/* SPDX-License-Identifier: Apache-2.0 */
/* Changes members of a JSON object in its text: values are replaced, members removed or appended,
 * every other byte is copied as it was. Called once per attempt with the places that the scanner of
 * json.c found. */

#include "aip/json.h"
#include "aip/large.h"
#include "json_private.h"

/* The new text grows to the right; the old one is read from `p`. */
typedef struct splice_t {
    const char *p;
    char *out;
} splice_t;

static void put(splice_t *s, const char *data, size_t len)
{
    memcpy(s->out, data, len);
    s->out += len;
}

static void copy_until(splice_t *s, const char *stop)
{
    put(s, s->p, (size_t)(stop - s->p));
    s->p = stop;
}

/* Takes trailing white space back from the output. It ends with at least the '{' of the object. */
static void trim(splice_t *s)
{
    while (s->out[-1] == ' ' || s->out[-1] == '\n' || s->out[-1] == '\r' || s->out[-1] == '\t')
        s->out--;
}

static void remove_member(splice_t *s, const aip_json_member_t *found, const char *end)
{
    copy_until(s, found->key);
    s->p = found->value.data + found->value.len;
    if (*aip_json_skip_space(s->p, end) == ',') {
        /* the next member takes this one's place, white space before it included */
        s->p = aip_json_skip_space(aip_json_skip_space(s->p, end) + 1, end);
        return;
    }
    trim(s);
    if (s->out[-1] == ',')
        s->out--;
}

static void append_member(splice_t *s, const aip_json_edit_t *edit)
{
    if (s->out[-1] != '{')
        put(s, ",", 1);
    put(s, "\"", 1);
    put(s, edit->name.data, edit->name.len);
    put(s, "\":", 2);
    put(s, edit->value.data, edit->value.len);
}

static bool is_found(const aip_json_edit_t *edit)
{
    return edit->found && edit->found->key;
}

/* The edits of members that are there, by their place in the text; returns how many. */
static size_t in_text_order(const aip_json_edit_t *edits, size_t n, const aip_json_edit_t **order)
{
    size_t i, j, count = 0;

    for (i = 0; i < n; i++) {
        if (!is_found(&edits[i]))
            continue;
        for (j = count++; j > 0 && order[j - 1]->found->key > edits[i].found->key; j--)
            order[j] = order[j - 1];
        order[j] = &edits[i];
    }
    return count;
}

aip_span_t aip_json_splice(aip_span_t text, const aip_json_edit_t *edits, size_t n,
                           apr_pool_t *pool)
{
    const aip_json_edit_t **order = apr_palloc(pool, (n + 1) * sizeof(*order));
    const size_t count = in_text_order(edits, n, order);
    const char *end = text.data + text.len;
    const char *tail = end;
    size_t size = text.len, i;
    splice_t s = {.p = text.data};
    char *out;

    for (i = 0; i < n; i++)
        size += edits[i].name.len + edits[i].value.len + sizeof(",\"\":") - 1;
    s.out = out = aip_large_alloc(pool, size);
    for (i = 0; i < count; i++) {
        const aip_json_member_t *found = order[i]->found;

        if (!order[i]->value.data) {
            remove_member(&s, found, end);
            continue;
        }
        copy_until(&s, found->value.data);
        put(&s, order[i]->value.data, order[i]->value.len);
        s.p = found->value.data + found->value.len;
    }
    /* new members go behind the last one, before the white space that leads to the brace */
    while (*--tail != '}')
        ;
    while (tail > s.p &&
           (tail[-1] == ' ' || tail[-1] == '\n' || tail[-1] == '\r' || tail[-1] == '\t'))
        tail--;
    copy_until(&s, tail);
    for (i = 0; i < n; i++) {
        if (!is_found(&edits[i]) && edits[i].value.data)
            append_member(&s, &edits[i]);
    }
    copy_until(&s, end);
    return (aip_span_t){out, (size_t)(s.out - out)};
}
