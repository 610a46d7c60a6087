/* SPDX-License-Identifier: Apache-2.0 */
/* Writes metrics whose labels the input chooses, one a line behind an Accept header, and reads the
 * text again as Prometheus does. What must hold: every line is a comment or a sample; labels come
 * back as they went in, where bytes that are no UTF-8 are spelled out; numbers come back; a label
 * that was cleaned needs no escaping and keeps its bound. */

#include "fuzz.h"

#include "aip/metrics_text.h"

#include <apr_strings.h>
#include <apr_tables.h>
#include <jansson.h>

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:0123456789"

/* Length of the character at `p` by jansson, 0: there is none. */
static size_t character(const char *p)
{
    for (size_t n = 1; n <= 4 && p[n - 1]; n++) {
        json_t *text = json_stringn(p, n);

        json_decref(text);
        if (text)
            return n;
    }
    return 0;
}

/* What a reader is to find for a value. */
static const char *told(const char *value)
{
    char *text = apr_palloc(fuzz_pool(), 4 * strlen(value) + 1), *out = text;

    for (size_t n; *value; value += n) {
        n = character(value);
        if (n) {
            memcpy(out, value, n);
            out += n;
        } else {
            n = 1;
            out += snprintf(out, 5, "\\x%02x", (unsigned char)*value);
        }
    }
    *out = '\0';
    return text;
}

/* Reads name="value" at `p`. @return behind it */
static const char *read_label(const char *p, const char **name, const char **value)
{
    size_t len = strspn(p, NAME_CHARS);
    char *text = apr_palloc(fuzz_pool(), strlen(p) + 1), *out = text;

    require(len > 0 && p[len] == '=' && p[len + 1] == '"');
    *name = apr_pstrmemdup(fuzz_pool(), p, len);
    for (p += len + 2; *p != '"'; p++) {
        require(*p && *p != '\n');
        if (*p == '\\') {
            p++;
            require(*p == '\\' || *p == '"' || *p == 'n');
            *out++ = *p == 'n' ? '\n' : *p;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    *value = text;
    return p + 1;
}

/* One sample; its labels but `le` are the expected ones, in order. @return behind its line */
static const char *read_sample(const char *p, const apr_array_header_t *expected)
{
    const char *name, *value;
    int n = 0;

    p += strspn(p, NAME_CHARS);
    if (*p == '{') {
        do {
            p = read_label(p + 1, &name, &value);
            if (strcmp(name, "le") == 0)
                continue;
            require(n < expected->nelts && name[0] == 'a' + n && !name[1]);
            require(strcmp(value, APR_ARRAY_IDX(expected, n, const char *)) == 0);
            n++;
        } while (*p == ',');
        require(*p++ == '}');
    }
    require(n == expected->nelts && *p++ == ' ');
    char *end;
    require(strtod(p, &end) >= 0 && end > p && *end == '\n');
    return end + 1;
}

static void check_text(const aip_text_t *text, bool openmetrics, const apr_array_header_t *expected)
{
    char *copy = fuzz_string(text->data, text->len);
    int samples = 0;

    require(strlen(copy) == text->len);
    for (const char *p = copy; *p;) {
        if (*p == '#') {
            p += strcspn(p, "\n");
            require(*p++ == '\n');
        } else {
            p = read_sample(p, expected);
            samples++;
        }
    }
    require(samples == 3 + aip_scale(AIP_SCALE_SHORT)->n + 1 + 2);
    require(!openmetrics || strcmp(copy + text->len - 6, "# EOF\n") == 0);
    free(copy);
}

static void check_labels(const apr_array_header_t *values, bool openmetrics)
{
    static const aip_family_t families[] = {
        {"a_requests", AIP_METRIC_COUNTER, NULL, "Requests."},
        {"a_build", AIP_METRIC_INFO, NULL, "Build."},
        {"a_cost_dollars", AIP_METRIC_GAUGE, "dollars", "Cost."},
        {"a_duration_seconds", AIP_METRIC_HISTOGRAM, "seconds", "Durations."}};
    apr_array_header_t *expected = apr_array_make(fuzz_pool(), 4, sizeof(char *));
    aip_exposition_t out = {.openmetrics = openmetrics};
    aip_histogram_t histogram = {0};
    aip_snapshot_t snapshot = {0};
    const char *labels = "";

    for (int i = 0; i < values->nelts; i++) {
        const char *value = APR_ARRAY_IDX(values, i, const char *);
        const char name[2] = {(char)('a' + i), '\0'};

        labels = aip_label(labels, name, value, fuzz_pool());
        APR_ARRAY_PUSH(expected, const char *) = told(value);
        aip_histogram_add(&histogram, AIP_SCALE_SHORT, (apr_int64_t)(strlen(value) * 997) - 5);
    }
    aip_histogram_read(&histogram, AIP_SCALE_SHORT, &snapshot);
    require(snapshot.count == (apr_uint64_t)values->nelts);
    for (int i = 0; i < 4; i++) {
        aip_exposition_family(&out, &families[i]);
        if (i < 3)
            aip_exposition_value(&out, labels,
                                 (apr_uint64_t)strlen(labels) << (strlen(labels) % 60),
                                 i == 2 ? 12 : 0);
        else
            aip_exposition_histogram(&out, labels, AIP_SCALE_SHORT, &snapshot);
    }
    aip_exposition_end(&out);
    require(!out.text.failed);
    check_text(&out.text, openmetrics, expected);
    free(out.text.data);
}

static void check_clean(const char *text)
{
    static aip_series_t table[AIP_SERIES];
    char clean[AIP_LABEL_BYTES + 1];

    aip_label_clean(clean, sizeof clean, text);
    require(strlen(clean) <= AIP_LABEL_BYTES && strcmp(told(clean), clean) == 0);
    for (const char *p = clean; *p; p++)
        require((unsigned char)*p >= 0x20 && *p != 0x7f && *p != '"' && *p != '\\');
    const aip_series_t *series = aip_series_find(table, text, clean, text);
    require(series >= table && series < table + AIP_SERIES && aip_series_used(series));
    require(strlen(series->request_model) <= AIP_LABEL_BYTES);
    if (series < table + AIP_SERIES - 1)
        require(strcmp(series->response_model, clean) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *accept = fuzz_line(&data, &size), *lines[6];
    apr_array_header_t *values = apr_array_make(fuzz_pool(), 6, sizeof(char *));
    int n = 0;

    for (; size && n < 6; n++) {
        lines[n] = fuzz_line(&data, &size);
        /* line ends in values, too */
        for (char *p = lines[n]; (p = strchr(p, '\r')) != NULL; p++)
            *p = '\n';
        APR_ARRAY_PUSH(values, char *) = lines[n];
        check_clean(lines[n]);
    }
    check_labels(values, aip_accepts_openmetrics(accept));
    require(!aip_accepts_openmetrics(NULL));
    while (n)
        free(lines[--n]);
    free(accept);
    apr_pool_clear(fuzz_pool());
    return 0;
}
