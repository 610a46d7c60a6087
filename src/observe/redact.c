/* SPDX-License-Identifier: Apache-2.0 */
/* AILogRedact: what patterns match in payloads is replaced before it is logged. A client may spell
 * a letter as \u0061, and tools escape what is not ASCII: so strings that hold escapes are looked
 * at once more as what they mean. */
#include "redact.h"

#include "aip/json.h"
#include "aip/json_out.h"
#include "aip/observe.h"

#include <ap_regex.h>
#include <apr_strings.h>
#include <http_config.h>

#define DEFAULT_REPLACEMENT "[REDACTED]"
#define ESCAPE_MAX 12 /* bytes of the longest escape: a surrogate pair */

typedef struct rule_t {
    ap_regex_t *regex;
    aip_span_t replacement;
} rule_t;

/* A part of a text, and what stands there instead. */
typedef struct edit_t {
    size_t begin, end;
    aip_span_t with;
    size_t cut; /* where the cut falls within `with`, should it fall between begin and end */
} edit_t;

const char *aip_redact_compile(cmd_parms *cmd, const apr_array_header_t *patterns,
                               const char *replacement)
{
    const char *text = APR_ARRAY_IDX(patterns, patterns->nelts - 1, const char *);
    rule_t *rule = apr_palloc(cmd->pool, sizeof *rule);
    const char **key = apr_pmemdup(cmd->pool, &text, sizeof text);
    replacement = replacement ? apr_pstrdup(cmd->pool, replacement) : DEFAULT_REPLACEMENT;
    rule->replacement = (aip_span_t){replacement, strlen(replacement)};
    rule->regex = ap_pregcomp(cmd->pool, text, 0);
    if (!rule->regex) {
        return apr_psprintf(cmd->pool, "AILogRedact: '%s' is no regular expression", text);
    }
    apr_hash_set(aip_registry->redactions, key, sizeof *key, rule);
    return NULL;
}

/* @param cut  see aip_redact() */
static aip_span_t apply(const apr_array_header_t *edits, aip_span_t text, size_t *cut,
                        apr_pool_t *pool)
{
    size_t len = text.len, from = 0, to = 0, new_cut = *cut;
    for (int i = 0; i < edits->nelts; i++) {
        const edit_t *edit = &APR_ARRAY_IDX(edits, i, edit_t);
        len = len + edit->with.len - (edit->end - edit->begin);
    }
    char *out = apr_palloc(pool, len + 1);
    for (int i = 0; i < edits->nelts; i++) {
        const edit_t *edit = &APR_ARRAY_IDX(edits, i, edit_t);
        memcpy(out + to, text.data + from, edit->begin - from);
        to += edit->begin - from;
        if (edit->begin < *cut && *cut < edit->end) {
            new_cut = to + edit->cut;
        }
        memcpy(out + to, edit->with.data, edit->with.len);
        to += edit->with.len;
        from = edit->end;
        if (edit->end <= *cut) {
            new_cut = to + (*cut - edit->end);
        }
    }
    memcpy(out + to, text.data + from, text.len - from);
    out[len] = '\0';
    *cut = new_cut;
    return (aip_span_t){out, len};
}

static bool apply_rule(const rule_t *rule, aip_span_t *text, size_t *cut, apr_pool_t *pool)
{
    apr_array_header_t *edits = apr_array_make(pool, 4, sizeof(edit_t));
    ap_regmatch_t match;
    size_t at = 0;
    while (at <= text->len) {
        int rc = ap_regexec_len(rule->regex, text->data + at, text->len - at, 1, &match,
                                at ? AP_REG_NOTBOL : 0);
        if (rc) {
            if (rc != AP_REG_NOMATCH) {
                return false;
            }
            break;
        }
        if (match.rm_eo > match.rm_so) {
            APR_ARRAY_PUSH(edits, edit_t) =
                (edit_t){at + (size_t)match.rm_so, at + (size_t)match.rm_eo, rule->replacement,
                         rule->replacement.len};
        }
        at += (size_t)match.rm_eo + (match.rm_eo > match.rm_so ? 0 : 1);
    }
    if (edits->nelts) {
        *text = apply(edits, *text, cut, pool);
    }
    return true;
}

/* All patterns, one after the other. */
static bool apply_all(const apr_array_header_t *patterns, aip_span_t *text, size_t *cut,
                      apr_pool_t *pool)
{
    for (int i = 0; i < patterns->nelts; i++) {
        const char *key = APR_ARRAY_IDX(patterns, i, const char *);
        const rule_t *rule = apr_hash_get(aip_registry->redactions, &key, sizeof key);
        if (rule && !apply_rule(rule, text, cut, pool)) {
            return false;
        }
    }
    return true;
}

/* What the inside of a JSON string means; an escape that is broken off at its end is left out.
 * @return data NULL: it is none */
static aip_span_t decode(aip_span_t inside, apr_pool_t *pool)
{
    char *quoted = apr_palloc(pool, inside.len + 2), *out = apr_palloc(pool, inside.len + 2);
    quoted[0] = '"';
    memcpy(quoted + 1, inside.data, inside.len);
    for (size_t less = 0; less <= inside.len && less < ESCAPE_MAX; less++) {
        aip_span_t value = {quoted, inside.len - less + 2};
        quoted[value.len - 1] = '"';
        if (aip_json_validate(value, NULL) == AIP_JSON_OK) {
            return (aip_span_t){out, aip_json_decode(value, out)};
        }
    }
    return (aip_span_t){NULL, 0};
}

/* The inside of the next string of a JSON text from `at` on. @return false: there is none */
static bool next_string(aip_span_t text, size_t at, edit_t *string, bool *escapes)
{
    const char *quote = memchr(text.data + at, '"', text.len - at);
    if (!quote) {
        return false;
    }
    size_t i = string->begin = (size_t)(quote - text.data) + 1;
    *escapes = false;
    while (i < text.len && text.data[i] != '"') {
        bool escape = text.data[i] == '\\';
        *escapes = *escapes || escape;
        i += escape && i + 1 < text.len ? 2 : 1;
    }
    string->end = i;
    return true;
}

static bool in_strings(const apr_array_header_t *patterns, aip_span_t *text, size_t *cut,
                       apr_pool_t *pool)
{
    apr_array_header_t *edits = apr_array_make(pool, 4, sizeof(edit_t));
    edit_t edit = {0};
    bool escapes;
    for (size_t at = 0; at < text->len && next_string(*text, at, &edit, &escapes);
         at = edit.end + 1) {
        aip_span_t raw = {text->data + edit.begin, edit.end - edit.begin};
        aip_span_t meaning = escapes ? decode(raw, pool) : (aip_span_t){NULL, 0};
        const char *before = meaning.data;
        if (!before) {
            continue;
        }
        bool split = edit.begin < *cut && *cut < edit.end;
        size_t inner = split ? decode((aip_span_t){raw.data, *cut - edit.begin}, pool).len : 0;
        if (!apply_all(patterns, &meaning, &inner, pool)) {
            return false;
        }
        if (meaning.data != before) {
            aip_span_t quoted = aip_json_quote(meaning, pool);
            edit.with = (aip_span_t){quoted.data + 1, quoted.len - 2};
            inner = aip_text_cut(meaning, inner);
            edit.cut = aip_json_quote((aip_span_t){meaning.data, inner}, pool).len - 2;
            APR_ARRAY_PUSH(edits, edit_t) = edit;
        }
    }
    if (edits->nelts) {
        *text = apply(edits, *text, cut, pool);
    }
    return true;
}

bool aip_redact(const apr_array_header_t *patterns, aip_span_t *text, size_t *cut, apr_pool_t *pool)
{
    return apply_all(patterns, text, cut, pool) && in_strings(patterns, text, cut, pool);
}
