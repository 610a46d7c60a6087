/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the two texts a scraper asks for: the Accept header, as Prometheus and RFC 9110 write
 * it. Weights are thousandths. */
#include "aip/metrics_text.h"

#include <apr_lib.h>
#include <string.h>
#include <strings.h>

typedef struct range_t {
    aip_span_t type, version; /**< version: data NULL when there is none */
    int weight;
} range_t;

static aip_span_t trimmed(const char *from, const char *end)
{
    while (from < end && (*from == ' ' || *from == '\t')) {
        from++;
    }
    while (end > from && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    return (aip_span_t){from, (size_t)(end - from)};
}

static bool is(aip_span_t span, const char *word)
{
    return span.len == strlen(word) && strncasecmp(span.data, word, span.len) == 0;
}

/* The end of a part: the next of `stop` that is in no quoted string. */
static const char *part_end(const char *p, const char *stop)
{
    for (bool quoted = false; *p; p++) {
        if (quoted && *p == '\\' && p[1]) {
            p++;
        } else if (*p == '"') {
            quoted = !quoted;
        } else if (!quoted && strchr(stop, *p)) {
            break;
        }
    }
    return p;
}

/* qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ); anything else counts as 0. */
static int weight(aip_span_t value)
{
    int w = 0, unit = 1000;
    for (size_t i = 0; i < value.len && i < 5; i++) {
        if (i == 1 ? value.data[i] != '.' : !apr_isdigit(value.data[i])) {
            return 0;
        }
        if (i != 1) {
            w += (value.data[i] - '0') * unit;
            unit /= 10;
        }
    }
    return value.len && value.len <= 5 && w <= 1000 ? w : 0;
}

static void read_parameter(const char *from, const char *end, range_t *range)
{
    const char *equals = memchr(from, '=', (size_t)(end - from));
    if (!equals) {
        return;
    }
    aip_span_t name = trimmed(from, equals), value = trimmed(equals + 1, end);
    if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"') {
        value = (aip_span_t){value.data + 1, value.len - 2};
    }
    if (is(name, "q")) {
        range->weight = weight(value);
    } else if (is(name, "version")) {
        range->version = value;
    }
}

/* Reads one range. @return behind it */
static const char *read_range(const char *p, range_t *range)
{
    const char *end = part_end(p, ",;");
    *range = (range_t){.type = trimmed(p, end), .weight = 1000};
    while (*end == ';') {
        const char *from = end + 1;
        end = part_end(from, ",;");
        read_parameter(from, end, range);
    }
    return *end ? end + 1 : end;
}

bool aip_accepts_openmetrics(const char *accept)
{
    int openmetrics = 0, text = 0, best = 0; /* best: how exactly a range has named the text */
    range_t range;
    for (const char *p = accept ? accept : ""; *p;) {
        p = read_range(p, &range);
        int exact = is(range.type, "text/plain") ? 3
                    : is(range.type, "text/*")   ? 2
                    : is(range.type, "*/*")      ? 1
                                                 : 0;
        bool old = range.version.data && !is(range.version, "0.0.4");
        if (exact && !(exact == 3 && old) && exact >= best) {
            text = exact > best || range.weight > text ? range.weight : text;
            best = exact;
        }
        bool ours = !range.version.data || is(range.version, "1.0.0");
        if (is(range.type, "application/openmetrics-text") && ours && range.weight > openmetrics) {
            openmetrics = range.weight;
        }
    }
    return openmetrics > 0 && openmetrics >= text;
}
