/* SPDX-License-Identifier: Apache-2.0 */
/* Writes metrics as text. A scrape of a large server is some megabytes, made while requests wait
 * for the same cores: a histogram asks for its room once and is then copied together. */
#include "aip/metrics_text.h"

#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 24 /* 20 digits of 64 bits, "0.", a sign of safety */

bool aip_text_room(aip_text_t *text, size_t more)
{
    if (text->failed || text->size - text->len >= more) {
        return !text->failed;
    }
    size_t size = text->size * 2 > text->len + more ? text->size * 2 : text->len + more + 4096;
    char *data = realloc(text->data, size);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->size = size;
    return true;
}

void aip_text_bytes(aip_text_t *text, const char *bytes, size_t len)
{
    if (aip_text_room(text, len)) {
        memcpy(text->data + text->len, bytes, len);
        text->len += len;
    }
}

void aip_text_add(aip_text_t *text, const char *string)
{
    aip_text_bytes(text, string, strlen(string));
}

/* Writes to `out`, which has NUMBER_MAX + digits bytes. @return behind the last one */
static char *put_number(char *out, apr_uint64_t value, int digits)
{
    char reverse[2 * NUMBER_MAX];
    size_t n = 0, point;
    for (; digits > 0 && value % 10 == 0; digits--) {
        value /= 10;
    }
    point = digits > 0 ? (size_t)digits : 0;
    do {
        reverse[n++] = (char)('0' + value % 10);
        value /= 10;
        if (n == point) {
            reverse[n++] = '.';
        }
    } while ((value || n <= point + (point ? 1 : 0)) && n < sizeof reverse - 1);
    while (n) {
        *out++ = reverse[--n];
    }
    return out;
}

void aip_text_number(aip_text_t *text, apr_uint64_t value, int digits)
{
    if (aip_text_room(text, NUMBER_MAX + (size_t)digits)) {
        text->len = (size_t)(put_number(text->data + text->len, value, digits) - text->data);
    }
}

/* One character of a value. @return how many bytes of the value that were */
static size_t put_escaped(char **out, const char *value)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = aip_utf8_length(value);
    if (n == 0) { /* names that differ in such a byte alone stay apart */
        const char text[] = {'\\', '\\', 'x', hex[(unsigned char)*value >> 4], hex[*value & 15]};
        memcpy(*out, text, sizeof text);
        *out += sizeof text;
        return 1;
    }
    if (*value == '"' || *value == '\\' || *value == '\n') {
        *(*out)++ = '\\';
    }
    memcpy(*out, *value == '\n' ? "n" : value, n);
    *out += n;
    return n;
}

const char *aip_label(const char *labels, const char *name, const char *value, apr_pool_t *pool)
{
    size_t before = strlen(labels), len = strlen(name);
    char *text = apr_palloc(pool, before + len + 5 * strlen(value) + 5), *out = text;
    memcpy(out, labels, before);
    out += before;
    if (before) {
        *out++ = ',';
    }
    memcpy(out, name, len);
    out += len;
    *out++ = '=';
    *out++ = '"';
    while (*value) {
        value += put_escaped(&out, value);
    }
    *out++ = '"';
    *out = '\0';
    return text;
}

static const char *suffix(const aip_family_t *family)
{
    switch (family->type) {
    case AIP_METRIC_COUNTER:
        return "_total";
    case AIP_METRIC_INFO:
        return "_info";
    case AIP_METRIC_GAUGE:
    case AIP_METRIC_HISTOGRAM:
        break;
    }
    return "";
}

/* The text format knows no info, and names a counter as its samples are named. */
static void put_head(aip_exposition_t *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "info"};
    const aip_family_t *f = out->family;
    aip_text_t *text = &out->text;
    const char *type = f->type == AIP_METRIC_INFO && !out->openmetrics ? "gauge" : types[f->type];
    const char *lines[] = {"# HELP ", "# TYPE ", "# UNIT "}, *values[] = {f->help, type, f->unit};
    for (int i = 0; i < 2 + (out->openmetrics && f->unit); i++) {
        aip_text_add(text, lines[i]);
        aip_text_add(text, f->name);
        aip_text_add(text, out->openmetrics ? "" : suffix(f));
        aip_text_add(text, " ");
        aip_text_add(text, values[i]);
        aip_text_add(text, "\n");
    }
    out->headed = true;
}

void aip_exposition_family(aip_exposition_t *out, const aip_family_t *family)
{
    out->family = family;
    out->headed = false;
}

void aip_exposition_value(aip_exposition_t *out, const char *labels, apr_uint64_t value, int digits)
{
    if (!out->headed) {
        put_head(out);
    }
    aip_text_add(&out->text, out->family->name);
    aip_text_add(&out->text, suffix(out->family));
    if (*labels) {
        aip_text_add(&out->text, "{");
        aip_text_add(&out->text, labels);
        aip_text_add(&out->text, "}");
    }
    aip_text_add(&out->text, " ");
    aip_text_number(&out->text, value, digits);
    aip_text_add(&out->text, "\n");
}

static char *put(char *out, const char *bytes, size_t len)
{
    memcpy(out, bytes, len);
    return out + len;
}

static char *put_text(char *out, const char *text)
{
    return put(out, text, strlen(text));
}

/* OpenMetrics wants bounds to look like floating-point numbers. */
static char *put_bound(char *out, const char *bound, bool openmetrics)
{
    out = put_text(out, bound);
    return openmetrics && !strpbrk(bound, ".I") ? put_text(out, ".0") : out;
}

void aip_exposition_histogram(aip_exposition_t *out, const char *labels, aip_scale_e scale,
                              const aip_snapshot_t *snapshot)
{
    const aip_scale_t *s = aip_scale(scale);
    const char *name = out->family->name;
    size_t n_name = strlen(name), n_labels = strlen(labels);
    if (!out->headed) {
        put_head(out);
    }
    if (!aip_text_room(&out->text, (size_t)(s->n + 3) * (n_name + n_labels + 3 * NUMBER_MAX))) {
        return;
    }
    char *p = out->text.data + out->text.len;
    for (int i = 0; i <= s->n; i++) {
        p = put(p, name, n_name);
        p = put_text(p, "_bucket{");
        p = put(p, labels, n_labels);
        p = put_text(p, *labels ? ",le=\"" : "le=\"");
        p = put_bound(p, i < s->n ? s->text[i] : "+Inf", out->openmetrics);
        p = put_text(p, "\"} ");
        p = put_number(p, snapshot->upto[i], 0);
        *p++ = '\n';
    }
    for (int i = 0; i < 2; i++) {
        p = put(p, name, n_name);
        p = put_text(p, i ? "_count" : "_sum");
        p = *labels ? put_text(p, "{") : p;
        p = put(p, labels, n_labels);
        p = put_text(p, *labels ? "} " : " ");
        p = put_number(p, i ? snapshot->count : snapshot->sum, i ? 0 : s->digits);
        *p++ = '\n';
    }
    out->text.len = (size_t)(p - out->text.data);
}

void aip_exposition_end(aip_exposition_t *out)
{
    if (out->openmetrics) {
        aip_text_add(&out->text, "# EOF\n");
    }
}
