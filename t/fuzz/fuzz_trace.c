/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what clients say of traces, and the spans that tell of them. The first line is a
 * traceparent, the second a tracestate, the rest are texts of spans, one a line. What must hold: a
 * traceparent that is taken has the form of W3C's grammar, and written again it is what was read; a
 * tracestate that is taken stands in a header line, with keys that differ; a strict reader reads
 * the spans, with the texts in them as they were, up to the bound; a collector's answer never says
 * more than was sent. */

#include "fuzz.h"
#include "otlp_other.h"

#include "aip/json.h"
#include "aip/otlp.h"

#include <apr_strings.h>
#include <apr_tables.h>
#include <jansson.h>
#include <regex.h>

/* W3C trace context, sections 3.2 and 3.3, in another language. */
typedef struct form_t {
    const char *pattern;
    bool ready;
    regex_t regex;
} form_t;

static form_t parent = {.pattern = "^([0-9a-e][0-9a-f]|f[0-9a-e])-[0-9a-f]{32}-[0-9a-f]{16}-"
                                   "[0-9a-f]{2}(-[^,]*)?$"};
static form_t no_parent = {.pattern = "^..-(0{32}|.{32}-0{16})|^00.{53}."};
static form_t member_key = {.pattern =
                                "^([a-z][_0-9a-z*/-]*|[a-z0-9][_0-9a-z*/-]*@[a-z][_0-9a-z*/-]*)="};
static form_t member_value = {.pattern = "^[^=]+=[ -+.-<>-~-]*[!-+.-<>-~-]$"};

static bool has(form_t *form, const char *text)
{
    if (!form->ready) {
        require(regcomp(&form->regex, form->pattern, REG_EXTENDED | REG_NOSUB) == 0);
        form->ready = true;
    }
    return regexec(&form->regex, text, 0, NULL, 0) == 0;
}

static bool parent_form(const char *text)
{
    return has(&parent, text) && !has(&no_parent, text);
}

static void check_parent(const char *text)
{
    aip_trace_context_t context = {.sampled = false}, again;
    char written[AIP_TRACEPARENT_LEN + 1];

    require(aip_traceparent_parse(text, &context) == parent_form(text));
    aip_trace_begin(&again, text, 0.5);
    if (parent_form(text)) {
        require(strncmp(context.trace_id, text + 3, 32) == 0 && again.sampled == context.sampled);
        require(strncmp(context.parent_id, text + 36, 16) == 0);
        require(strcmp(again.trace_id, context.trace_id) == 0);
    }
    aip_traceparent_write(&again, again.span_id, written);
    require(aip_traceparent_parse(written, &context) && context.sampled == again.sampled);
    require(strcmp(context.trace_id, again.trace_id) == 0);
}

/* One member of a list, white space around it taken away; keys of all are kept. */
static bool member_form(const char *member, apr_array_header_t *keys)
{
    const char *equals = strchr(member, '=');

    if (!has(&member_key, member) || !has(&member_value, member) || strlen(equals + 1) > 256)
        return false;
    const char *at = memchr(member, '@', (size_t)(equals - member));
    if (at ? at - member > 241 || equals - at > 15 : equals - member > 256)
        return false;
    for (int i = 0; i < keys->nelts; i++) {
        const char *key = APR_ARRAY_IDX(keys, i, const char *);

        if (strlen(key) == (size_t)(equals - member) && !memcmp(key, member, strlen(key)))
            return false;
    }
    APR_ARRAY_PUSH(keys, const char *) =
        apr_pstrmemdup(fuzz_pool(), member, (apr_size_t)(equals - member));
    return true;
}

static bool state_form(const char *text)
{
    apr_array_header_t *keys = apr_array_make(fuzz_pool(), 4, sizeof(char *));

    if (strlen(text) > AIP_TRACESTATE_MAX)
        return false;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        const char *next = p + len;

        for (; len && strchr(" \t", *p); len--)
            p++;
        while (len && strchr(" \t", p[len - 1]))
            len--;
        if (len && !member_form(apr_pstrmemdup(fuzz_pool(), p, len), keys))
            return false;
        p = next;
        if (!*p)
            return keys->nelts >= 1 && keys->nelts <= 32;
    }
}

static void check_state(const char *text)
{
    require(aip_tracestate_ok(text) == state_form(text));
}

/* ---- spans ---- */

/* `value` is the text, or as much of it as is told; bytes that are no UTF-8 are replaced. */
static void check_text(const json_t *value, const char *text)
{
    const char *told = json_string_value(value);

    require(told != NULL);
    if (aip_json_equals(aip_json_quote((aip_span_t){text, strlen(text)}, fuzz_pool()),
                        (aip_span_t){text, strlen(text)})) {
        const size_t len = strlen(told);

        require(len <= AIP_OTLP_VALUE_MAX && strncmp(told, text, len) == 0);
        require(!text[len] || len + 4 > AIP_OTLP_VALUE_MAX);
    }
}

static void write_span(aip_otlp_t *otlp, const aip_trace_context_t *trace, char **texts, int n)
{
    char id[AIP_SPAN_ID_HEX + 1];

    aip_trace_child(trace, (unsigned)n, id);
    aip_otlp_begin(otlp, trace, id, trace->span_id, AIP_SPAN_CLIENT,
                   (aip_span_name_t){"op", texts[0]}, n, 2 * n);
    for (int i = 0; i < n; i++)
        aip_otlp_text(otlp, "key", texts[i]);
    aip_otlp_text_list(otlp, "list", texts[n - 1]);
    aip_otlp_count(otlp, "count", (apr_int64_t)((uint64_t)strlen(texts[0]) << (n % 60)));
    aip_otlp_real(otlp, "real", (double)strlen(texts[0]) / (n - 3));
    aip_otlp_flag(otlp, "flag", n % 2);
    aip_otlp_end(otlp, n % 3 == 0);
}

static void check_spans(const aip_trace_context_t *trace, char **texts, int n)
{
    aip_otlp_t otlp = {.pool = fuzz_pool()};
    aip_otlp_origin_t origin;

    aip_otlp_origin(&origin, texts[0], texts[n - 1], texts[n / 2], fuzz_pool());
    write_span(&otlp, trace, texts, n);
    write_span(&otlp, trace, texts + n - 1, 1);
    const aip_span_t head = aip_otlp_head(&origin, otlp.len, fuzz_pool());
    char *all = apr_palloc(fuzz_pool(), head.len + otlp.len);

    memcpy(all, head.data, head.len);
    memcpy(all + head.len, otlp.data, otlp.len);
    json_t *root = other_spans((aip_span_t){all, head.len + otlp.len}), *resource, *spans;

    require(root != NULL);
    require(json_unpack(root, "{s:[{s:{s:o},s:[{s:o}]}]}", "resourceSpans", "resource",
                        "attributes", &resource, "scopeSpans", "spans", &spans) == 0);
    check_text(
        json_object_get(json_object_get(json_array_get(resource, 0), "value"), "stringValue"),
        texts[0]);
    require(json_array_size(spans) == 2);
    const json_t *span = json_array_get(spans, 0),
                 *attributes = json_object_get(span, "attributes");
    const char *name = json_string_value(json_object_get(span, "name"));

    require(name && strncmp(name, *texts[0] ? "op " : "op", 3) == 0);
    json_t *object = json_string(*texts[0] ? name + 3 : "");

    check_text(object, texts[0]);
    json_decref(object);
    for (int i = 0; i < n; i++) {
        const json_t *attribute = json_array_get(attributes, (size_t)i);

        check_text(json_object_get(json_object_get(attribute, "value"), "stringValue"), texts[i]);
    }
    json_decref(root);
}

static void check_answer(const char *data, size_t size)
{
    const char *message = NULL;
    char *copy = fuzz_copy(data, size);
    const int rejected = aip_otlp_rejected((aip_span_t){copy, size}, 7, &message, fuzz_pool());

    require(rejected >= 0 && rejected <= 7);
    for (const char *p = message ? message : ""; *p; p++)
        require((unsigned char)*p >= 0x20 && *p != 0x7f);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *from = fuzz_line(&data, &size), *state = fuzz_line(&data, &size), *texts[64];
    aip_trace_context_t trace;
    int n = 0;

    check_parent(from);
    check_state(state);
    check_answer((const char *)data, size);
    aip_trace_begin(&trace, from, 1);
    do
        texts[n++] = fuzz_line(&data, &size);
    while (size && n < 64);
    check_spans(&trace, texts, n);
    while (n)
        free(texts[--n]);
    free(from);
    free(state);
    apr_pool_clear(fuzz_pool());
    return 0;
}
