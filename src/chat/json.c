/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON scanner: one pass over the bytes that checks grammar (RFC 8259), UTF-8 and depth, and
 * notes where wanted members of an object lie. It builds no tree and allocates nothing; recursion
 * is bounded by AIP_JSON_DEPTH_MAX. Called on the request path for every body, for provider answers
 * and for embeddings; thread-safe, as all state is on the stack. */

#include "aip/json.h"
#include "json_private.h"

typedef struct wanted_t {
    aip_json_wanted_t of;
    size_t items_of; /* the member whose items are counted in `items`; >= of.n: none */
    aip_json_items_t *items;
} wanted_t;

typedef struct scan_t {
    const char *end;
    const char *fault;
    aip_json_status_e status;
    size_t member;
    bool escaped; /* the last string has an escape; whoever asks has set it to false before */
} scan_t;

static const char *scan_value(scan_t *s, const char *p, int depth);

/* Every scan_ function returns where it ended, or NULL after it called this. */
static const char *fault(scan_t *s, aip_json_status_e status, const char *p)
{
    s->status = status;
    s->fault = p;
    return NULL;
}

static bool is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* p at the backslash */
static const char *scan_escape(scan_t *s, const char *p)
{
    int i;

    if (++p == s->end)
        return fault(s, AIP_JSON_SYNTAX, p);
    switch (*p) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 1;
    case 'u':
        p++;
        for (i = 0; i < 4; i++, p++) {
            if (p == s->end || !is_hex(*p))
                return fault(s, AIP_JSON_SYNTAX, p);
        }
        return p;
    default:
        return fault(s, AIP_JSON_SYNTAX, p);
    }
}

/* p at a byte above 0x7f; takes all such bytes that follow */
static const char *scan_utf8(scan_t *s, const char *p)
{
    size_t len;

    do {
        if (!aip_utf8_next(p, s->end, &len))
            return fault(s, AIP_JSON_UTF8, p);
        p += len;
    } while (p < s->end && (unsigned char)*p >= 0x80);
    return p;
}

/* p at the opening quote */
static const char *scan_string(scan_t *s, const char *p)
{
    p++;
    while (p) {
        p = aip_json_plain_end(p, s->end);
        if (p == s->end)
            return fault(s, AIP_JSON_SYNTAX, p);
        if (*p == '"')
            return p + 1;
        if (*p == '\\') {
            s->escaped = true;
            p = scan_escape(s, p);
        } else if ((unsigned char)*p >= 0x80)
            p = scan_utf8(s, p);
        else
            return fault(s, AIP_JSON_SYNTAX, p);
    }
    return NULL;
}

static const char *scan_digits(scan_t *s, const char *p)
{
    if (!is_digit(p, s->end))
        return fault(s, AIP_JSON_SYNTAX, p);
    while (is_digit(p, s->end))
        p++;
    return p;
}

static const char *scan_number(scan_t *s, const char *p)
{
    if (*p == '-')
        p++;
    if (p < s->end && *p == '0')
        p++;
    else
        p = scan_digits(s, p);
    if (p && p < s->end && *p == '.')
        p = scan_digits(s, p + 1);
    if (p && p < s->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < s->end && (*p == '+' || *p == '-'))
            p++;
        p = scan_digits(s, p);
    }
    return p;
}

static const char *scan_word(scan_t *s, const char *p, const char *word)
{
    for (; *word; word++, p++) {
        if (p == s->end || *p != *word)
            return fault(s, AIP_JSON_SYNTAX, p);
    }
    return p;
}

/* After an item: the start of the next one, or the closing byte, which is left for the caller to
 * see. */
static const char *scan_separator(scan_t *s, const char *p, char close)
{
    p = aip_json_skip_space(p, s->end);
    if (p == s->end)
        return fault(s, AIP_JSON_SYNTAX, p);
    if (*p == close)
        return p;
    if (*p != ',')
        return fault(s, AIP_JSON_SYNTAX, p);
    p = aip_json_skip_space(p + 1, s->end);
    if (p == s->end || *p == close) /* a trailing comma: must not look like the end */
        return fault(s, AIP_JSON_SYNTAX, p);
    return p;
}

static const char *scan_array(scan_t *s, const char *p, int depth, aip_json_items_t *items)
{
    if (depth > AIP_JSON_DEPTH_MAX)
        return fault(s, AIP_JSON_DEPTH, p);
    p = aip_json_skip_space(p + 1, s->end);
    if (p < s->end && *p == ']')
        return p + 1;
    for (;;) {
        if (items) {
            items->count++;
            if (!items->other && p < s->end && *p != '{')
                items->other = p;
        }
        p = scan_value(s, p, depth);
        if (!p || !(p = scan_separator(s, p, ']')))
            return NULL;
        if (*p == ']')
            return p + 1;
    }
}

/* The value of the member names[i], whose key stands at `key`. */
static const char *scan_wanted(scan_t *s, const char *value, int depth, const wanted_t *w, size_t i,
                               const char *key)
{
    const char *p;

    if (i == w->items_of && value < s->end && *value == '[')
        p = scan_array(s, value, depth + 1, w->items);
    else
        p = scan_value(s, value, depth);
    if (p) {
        w->of.members[i].key = key;
        w->of.members[i].value = (aip_span_t){value, (size_t)(p - value)};
    }
    return p;
}

static const char *scan_member(scan_t *s, const char *p, int depth, const wanted_t *w)
{
    const char *key = p;
    size_t i = 0;

    if (p == s->end || *p != '"')
        return fault(s, AIP_JSON_SYNTAX, p);
    s->escaped = false;
    p = scan_string(s, p);
    if (!p)
        return NULL;
    if (w) {
        i = aip_json_wanted_find(&w->of, (aip_span_t){key, (size_t)(p - key)}, s->escaped);
        if (i < w->of.n && w->of.members[i].key) {
            s->member = i;
            return fault(s, AIP_JSON_DUPLICATE, key);
        }
    }
    p = aip_json_skip_space(p, s->end);
    if (p == s->end || *p != ':')
        return fault(s, AIP_JSON_SYNTAX, p);
    p = aip_json_skip_space(p + 1, s->end);
    return w && i < w->of.n ? scan_wanted(s, p, depth, w, i, key) : scan_value(s, p, depth);
}

static const char *scan_object(scan_t *s, const char *p, int depth, const wanted_t *w)
{
    if (depth > AIP_JSON_DEPTH_MAX)
        return fault(s, AIP_JSON_DEPTH, p);
    p = aip_json_skip_space(p + 1, s->end);
    if (p < s->end && *p == '}')
        return p + 1;
    for (;;) {
        p = scan_member(s, p, depth, w);
        if (!p || !(p = scan_separator(s, p, '}')))
            return NULL;
        if (*p == '}')
            return p + 1;
    }
}

/* depth: how many containers are open around the value */
static const char *scan_value(scan_t *s, const char *p, int depth)
{
    if (p == s->end)
        return fault(s, AIP_JSON_SYNTAX, p);
    switch (*p) {
    case '"':
        return scan_string(s, p);
    case '{':
        return scan_object(s, p, depth + 1, NULL);
    case '[':
        return scan_array(s, p, depth + 1, NULL);
    case 't':
        return scan_word(s, p, "true");
    case 'f':
        return scan_word(s, p, "false");
    case 'n':
        return scan_word(s, p, "null");
    default:
        return scan_number(s, p);
    }
}

static wanted_t wanted_make(const aip_span_t *names, size_t n, aip_json_member_t *members)
{
    return (wanted_t){.of = aip_json_wanted(names, n, members), .items_of = n};
}

static aip_json_status_e report(const scan_t *s, const char *start, aip_json_error_t *err)
{
    if (err)
        *err = (aip_json_error_t){.status = s->status,
                                  .offset = s->status ? (size_t)(s->fault - start) : 0,
                                  .member = s->member};
    return s->status;
}

/* An absent span is an empty text; arithmetic on NULL would be undefined. */
static aip_span_t some(aip_span_t text)
{
    return text.data ? text : AIP_SPAN("");
}

/* The whole text as one value; an object when w is given. */
static void scan_text(scan_t *s, aip_span_t text, const wanted_t *w)
{
    const char *start = aip_json_skip_space(text.data, s->end);
    const char *p;

    if (w && start < s->end && *start == '{')
        p = scan_object(s, start, 1, w);
    else
        p = scan_value(s, start, 0);
    if (!p)
        return;
    if (w && *start != '{') {
        fault(s, AIP_JSON_NOT_OBJECT, start);
        return;
    }
    p = aip_json_skip_space(p, s->end);
    if (p != s->end)
        fault(s, AIP_JSON_SYNTAX, p);
}

static aip_json_status_e find_members(scan_t *s, aip_span_t text, const wanted_t *w,
                                      aip_json_error_t *err)
{
    text = some(text);
    s->end = text.data + text.len;
    scan_text(s, text, w);
    if (s->status && w->of.n)
        memset(w->of.members, 0, w->of.n * sizeof(*w->of.members));
    return report(s, text.data, err);
}

aip_json_status_e aip_json_object_items(aip_span_t text, const aip_span_t *names, size_t n,
                                        aip_json_member_t *members, size_t items_of,
                                        aip_json_items_t *items, aip_json_error_t *err)
{
    wanted_t w = wanted_make(names, n, members);
    scan_t s = {0};

    if (items) {
        *items = (aip_json_items_t){0};
        w.items = items;
        w.items_of = items_of;
    }
    return find_members(&s, text, &w, err);
}

aip_json_status_e aip_json_object(aip_span_t text, const aip_span_t *names, size_t n,
                                  aip_json_member_t *members, aip_json_error_t *err)
{
    return aip_json_object_items(text, names, n, members, n, NULL, err);
}

aip_json_status_e aip_json_validate(aip_span_t text, aip_json_error_t *err)
{
    scan_t s = {0};

    text = some(text);
    s.end = text.data + text.len;
    scan_text(&s, text, NULL);
    return report(&s, text.data, err);
}

const char *aip_json_value_end(const char *p, const char *end)
{
    scan_t s = {.end = end};

    return scan_value(&s, p, 0);
}

/* The next item's first byte, or NULL at the end. */
static const char *array_item(aip_span_t array, const char *cursor)
{
    const char *end, *p;

    if (aip_json_type(array) != '[')
        return NULL;
    end = array.data + array.len;
    p = aip_json_skip_space(cursor ? cursor : array.data + 1, end);
    if (cursor && p < end && *p == ',')
        p = aip_json_skip_space(p + 1, end);
    return p < end && *p != ']' ? p : NULL;
}

bool aip_json_array_next(aip_span_t array, const char **cursor, aip_span_t *item)
{
    const char *p = array_item(array, *cursor);

    if (!p)
        return false;
    *cursor = aip_json_value_end(p, array.data + array.len);
    if (!*cursor)
        return false;
    *item = (aip_span_t){p, (size_t)(*cursor - p)};
    return true;
}

bool aip_json_array_next_members(aip_span_t array, const char **cursor, const aip_span_t *names,
                                 size_t n, aip_json_member_t *members, aip_json_error_t *err)
{
    wanted_t w = wanted_make(names, n, members);
    scan_t s = {0};
    const char *p = array_item(array, *cursor);

    if (p) {
        s.end = array.data + array.len;
        *cursor = *p == '{' ? scan_object(&s, p, 1, &w) : scan_value(&s, p, 1);
    }
    report(&s, array.data, err);
    return p && !s.status;
}

const char *aip_json_strerror(aip_json_status_e status)
{
    switch (status) {
    case AIP_JSON_OK:
        return "no error";
    case AIP_JSON_SYNTAX:
        return "syntax error";
    case AIP_JSON_UTF8:
        return "invalid UTF-8";
    case AIP_JSON_DEPTH:
        return "nested too deeply";
    case AIP_JSON_NOT_OBJECT:
        return "not an object";
    case AIP_JSON_DUPLICATE:
        return "duplicate member";
    }
    return "unknown error";
}
