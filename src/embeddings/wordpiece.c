/* SPDX-License-Identifier: Apache-2.0 */
/* BERT's tokenizer as one pass over the bytes: decode UTF-8, map each code point through the
 * generated tables (clean, NFD, drop accents, lower-case, classify), collect a word, cut it into
 * the longest known pieces.
 *
 * What bounds the time: a word keeps at most word_chars characters (a longer one is unknown, its
 * rest is only counted), and a match never looks further than the word. So the work per input byte
 * is constant, whatever the text. Runs in any thread; called by the local embedder only. */

#include "wordpiece.h"

#include "unicode_tables.h"

#include <stdlib.h>
#include <string.h>

enum {
    HANGUL_BASE = 0xAC00,
    JAMO_L = 0x1100,
    JAMO_V = 0x1161,
    JAMO_T = 0x11A7,
    JAMO_VT_COUNT = 588,
    JAMO_T_COUNT = 28
};

/** A kept combining mark that waits for its place: canonical order is known when the run of marks
 * ends. */
typedef struct mark_t {
    uint32_t code;
    unsigned rank;
} mark_t;

typedef struct scan_t {
    const aip_wordpiece_t *wp;
    aip_wordpiece_emit_t emit;
    void *ctx;
    size_t tokens_left;
    size_t chars;   /* of the current word, also those that are not stored */
    size_t len;     /* bytes in word[] */
    unsigned marks; /* entries in mark[], part of the word, after word[] */
    mark_t mark[AIP_WORDPIECE_WORD_MAX];
    unsigned char word[AIP_WORDPIECE_WORD_MAX * 4];
} scan_t;

/* ---- the vocabulary ---- */

typedef struct range_t {
    uint32_t low, high, depth; /* tokens that share the node's path, and the path's length */
} range_t;

static int compare_tokens(const void *a, const void *b)
{
    return strcmp(((const aip_wordpiece_token_t *)a)->text,
                  ((const aip_wordpiece_token_t *)b)->text);
}

static size_t count_nodes(const aip_wordpiece_token_t *tokens, size_t count)
{
    size_t nodes = 1, i, same;

    for (i = 0; i < count; i++) {
        for (same = 0;
             i > 0 && tokens[i].text[same] && tokens[i].text[same] == tokens[i - 1].text[same];) {
            same++;
        }
        nodes += strlen(tokens[i].text + same);
    }
    return nodes;
}

static uint32_t child_of(const aip_wordpiece_t *wp, uint32_t node, unsigned char byte)
{
    uint32_t low = wp->nodes[node].first, high = wp->nodes[node + 1].first;

    while (high - low > 8) {
        uint32_t middle = low + (high - low) / 2;

        if (wp->labels[middle] <= byte) {
            low = middle;
        } else {
            high = middle;
        }
    }
    for (; low < high; low++) {
        if (wp->labels[low] == byte) {
            return low;
        }
    }
    return 0;
}

static uint32_t find_node(const aip_wordpiece_t *wp, const char *text)
{
    uint32_t node = 0;

    for (; *text; text++) {
        node = child_of(wp, node, (unsigned char)*text);
        if (node == 0) {
            return UINT32_MAX;
        }
    }
    return node;
}

static void fill_first_steps(aip_wordpiece_t *wp)
{
    uint32_t after = find_node(wp, "##");
    unsigned byte;

    for (byte = 0; byte < 256; byte++) {
        wp->start[byte] = child_of(wp, 0, (unsigned char)byte);
        wp->continuation[byte] = after != UINT32_MAX ? child_of(wp, after, (unsigned char)byte) : 0;
    }
}

void aip_wordpiece_build(aip_wordpiece_t *wp, aip_wordpiece_token_t *tokens, size_t count,
                         apr_pool_t *pool, apr_pool_t *scratch)
{
    size_t total, node, used = 1;
    aip_wordpiece_node_t *nodes;
    unsigned char *labels;
    range_t *ranges;

    qsort(tokens, count, sizeof(*tokens), compare_tokens);
    total = count_nodes(tokens, count);
    nodes = apr_palloc(pool, (total + 1) * sizeof(*nodes));
    labels = apr_pcalloc(pool, total);
    ranges = apr_palloc(scratch, total * sizeof(*ranges));
    ranges[0] = (range_t){.low = 0, .high = (uint32_t)count, .depth = 0};
    /* breadth first: the children of a node get neighbouring numbers, in the order of their bytes
     */
    for (node = 0; node < total; node++) {
        range_t r = ranges[node];

        nodes[node] = (aip_wordpiece_node_t){.first = (uint32_t)used, .id = -1};
        if (r.low < r.high && tokens[r.low].text[r.depth] == '\0') {
            nodes[node].id = tokens[r.low++].id;
        }
        while (r.low < r.high) {
            char byte = tokens[r.low].text[r.depth];
            uint32_t from = r.low;

            while (r.low < r.high && tokens[r.low].text[r.depth] == byte) {
                r.low++;
            }
            labels[used] = (unsigned char)byte;
            ranges[used++] = (range_t){.low = from, .high = r.low, .depth = r.depth + 1};
        }
    }
    nodes[total] = (aip_wordpiece_node_t){.first = (uint32_t)used, .id = -1};
    wp->nodes = nodes;
    wp->labels = labels;
    fill_first_steps(wp);
}

int aip_wordpiece_find(const aip_wordpiece_t *wp, const char *text)
{
    uint32_t node = find_node(wp, text);

    return node != UINT32_MAX ? wp->nodes[node].id : -1;
}

/* ---- one word ---- */

static size_t put_utf8(unsigned char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (unsigned char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (unsigned char)(0xC0 | code >> 6);
        out[1] = (unsigned char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (unsigned char)(0xE0 | code >> 12);
        out[1] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (unsigned char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (unsigned char)(0xF0 | code >> 18);
    out[1] = (unsigned char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (unsigned char)(0x80 | (code & 0x3F));
    return 4;
}

/** The run of marks has ended: they are in canonical order now and join the word. */
static void settle_marks(scan_t *s)
{
    unsigned i;

    for (i = 0; i < s->marks; i++) {
        s->len += put_utf8(s->word + s->len, s->mark[i].code);
    }
    s->marks = 0;
}

static void add_starter(scan_t *s, uint32_t code)
{
    settle_marks(s);
    if (s->chars++ < s->wp->word_chars) {
        s->len += put_utf8(s->word + s->len, code);
    }
}

/** Stable insertion by rank. Marks beyond the limit are only counted: the word is unknown in any
 * order. */
static void add_mark(scan_t *s, uint32_t code, unsigned rank)
{
    unsigned at;

    if (s->chars++ >= s->wp->word_chars) {
        return;
    }
    for (at = s->marks++; at > 0 && s->mark[at - 1].rank > rank; at--) {
        s->mark[at] = s->mark[at - 1];
    }
    s->mark[at] = (mark_t){.code = code, .rank = rank};
}

static void emit(scan_t *s, int id)
{
    if (s->tokens_left > 0) {
        s->tokens_left--;
        if (id != s->wp->unk) {
            s->emit(s->ctx, id);
        }
    }
}

/** The longest token that text[0..len) starts with; -1 if none does. */
static int longest(const aip_wordpiece_t *wp, const uint32_t *first, const unsigned char *text,
                   size_t len, size_t *used)
{
    uint32_t node = first[text[0]];
    size_t at = 1;
    int id = -1;

    while (node != 0) {
        if (wp->nodes[node].id >= 0) {
            id = wp->nodes[node].id;
            *used = at;
        }
        if (at == len) {
            break;
        }
        node = child_of(wp, node, text[at++]);
    }
    return id;
}

static void emit_pieces(scan_t *s)
{
    const aip_wordpiece_t *wp = s->wp;
    int ids[AIP_WORDPIECE_WORD_MAX];
    size_t at = 0, used = 0, count = 0, i;

    while (at < s->len) {
        int id = longest(wp, at ? wp->continuation : wp->start, s->word + at, s->len - at, &used);

        if (id < 0) {
            emit(s, wp->unk);
            return;
        }
        ids[count++] = id;
        at += used;
    }
    for (i = 0; i < count; i++) {
        emit(s, ids[i]);
    }
}

static void end_word(scan_t *s)
{
    if (s->chars == 0) {
        return;
    }
    settle_marks(s);
    if (s->chars > s->wp->word_chars) {
        emit(s, s->wp->unk);
    } else {
        emit_pieces(s);
    }
    s->chars = 0;
    s->len = 0;
}

/* ---- the text ---- */

static void take_element(scan_t *s, unsigned class, uint32_t code)
{
    switch (class) {
    case AIP_UNI_DROP:
        break;
    case AIP_UNI_SPACE:
        end_word(s);
        break;
    case AIP_UNI_KEEP:
        add_starter(s, code);
        break;
    case AIP_UNI_LONE:
        end_word(s);
        add_starter(s, code);
        end_word(s);
        break;
    case AIP_UNI_BOUNDARY:
        settle_marks(s);
        break;
    default:
        add_mark(s, code, class - AIP_UNI_MARK);
    }
}

static void take_hangul(scan_t *s, uint32_t code)
{
    uint32_t index = code - HANGUL_BASE, tail = index % JAMO_T_COUNT;

    add_starter(s, JAMO_L + index / JAMO_VT_COUNT);
    add_starter(s, JAMO_V + index % JAMO_VT_COUNT / JAMO_T_COUNT);
    if (tail) {
        add_starter(s, JAMO_T + tail);
    }
}

static void take_code(scan_t *s, uint32_t code)
{
    unsigned value = aip_uni_value(code);

    if (value == AIP_UNI_HANGUL) {
        take_hangul(s, code);
    } else if (value < AIP_UNI_SEQ) {
        take_element(s, value, code);
    } else {
        const uint32_t *element = aip_uni_seq + (value - AIP_UNI_SEQ);

        take_element(s, AIP_UNI_ELEMENT_CLASS(*element), AIP_UNI_ELEMENT_CODE(*element));
        while (!AIP_UNI_ELEMENT_LAST(*element)) {
            element++;
            take_element(s, AIP_UNI_ELEMENT_CLASS(*element), AIP_UNI_ELEMENT_CODE(*element));
        }
    }
}

uint32_t aip_wordpiece_decode(const unsigned char **at, const unsigned char *end)
{
    unsigned char lead = *(*at)++, low = 0x80, high = 0xBF;
    uint32_t code;
    int more;

    if (lead < 0x80) {
        return lead;
    }
    if (lead < 0xC2 || lead > 0xF4) {
        return 0xFFFD;
    }
    more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    code = lead & (0x3Fu >> more);
    /* the second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF */
    switch (lead) {
    case 0xE0:
        low = 0xA0;
        break;
    case 0xED:
        high = 0x9F;
        break;
    case 0xF0:
        low = 0x90;
        break;
    case 0xF4:
        high = 0x8F;
        break;
    default:
        break;
    }
    for (; more > 0; more--, low = 0x80, high = 0xBF) {
        if (*at == end || **at < low || **at > high) {
            return 0xFFFD;
        }
        code = code << 6 | (*(*at)++ & 0x3Fu);
    }
    return code;
}

static const unsigned char *cut(const unsigned char *at, const unsigned char *end, size_t max_chars)
{
    if (max_chars == 0 || (size_t)(end - at) <= max_chars) {
        return end;
    }
    while (at < end && max_chars-- > 0) {
        aip_wordpiece_decode(&at, end);
    }
    return at;
}

/** The longest added token that stands here, or NULL. */
static const aip_wordpiece_token_t *added_at(const aip_wordpiece_t *wp, const unsigned char *at,
                                             const unsigned char *end, size_t *len)
{
    const aip_wordpiece_token_t *best = NULL;
    unsigned i;

    *len = 0;
    for (i = 0; i < wp->added_count; i++) {
        size_t n = strlen(wp->added[i].text);

        if (n > *len && n <= (size_t)(end - at) && memcmp(at, wp->added[i].text, n) == 0) {
            best = &wp->added[i];
            *len = n;
        }
    }
    return best;
}

static bool take_added(scan_t *s, const unsigned char **at, const unsigned char *end)
{
    size_t len;
    const aip_wordpiece_token_t *token = added_at(s->wp, *at, end, &len);

    if (!token) {
        return false;
    }
    end_word(s);
    emit(s, token->id);
    *at += len;
    return true;
}

void aip_wordpiece_run(const aip_wordpiece_t *wp, aip_span_t text, aip_wordpiece_emit_t emit_token,
                       void *ctx)
{
    const unsigned char *at = (const unsigned char *)text.data, *end;
    scan_t s; /* not zeroed: word[] and mark[] are read only where they were written */

    s.wp = wp;
    s.emit = emit_token;
    s.ctx = ctx;
    s.tokens_left = wp->max_tokens ? wp->max_tokens : SIZE_MAX;
    s.chars = s.len = 0;
    s.marks = 0;
    end = text.len ? cut(at, at + text.len, wp->max_chars) : at;
    while (at < end && s.tokens_left > 0) {
        if (wp->added_count && take_added(&s, &at, end)) {
            continue;
        }
        if (*at >= 'a' && *at <= 'z') {
            add_starter(&s, *at++);
        } else {
            take_code(&s, aip_wordpiece_decode(&at, end));
        }
    }
    end_word(&s);
}
