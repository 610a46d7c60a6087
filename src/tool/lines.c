/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts from a file or standard input: one a line, label<TAB>prompt, or JSON lines. Whatever is
 * wrong with a line is said with its number. */
#include "tool.h"

#include <apr_strings.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than any request body that httpd takes by default. */
#define LONGEST_LINE (1 << 20)

static int fault(const aip_lines_t *lines, int number, const char *what)
{
    return aip_tool_fail("%s, line %d: %s", lines->name, number, what);
}

static aip_span_t copy(aip_span_t text, apr_pool_t *pool)
{
    return (aip_span_t){apr_pstrmemdup(pool, text.data, text.len), text.len};
}

static void push(aip_lines_t *lines, int number, aip_span_t label, aip_span_t text,
                 apr_pool_t *pool)
{
    if (text.len || lines->keep_empty) {
        APR_ARRAY_PUSH(lines->list, aip_line_t) =
            (aip_line_t){number, copy(label, pool), copy(text, pool)};
    }
}

static bool is_utf8(aip_span_t text)
{
    json_t *value = json_stringn(text.data, text.len);
    json_decref(value);
    return value != NULL;
}

static int take_plain(aip_lines_t *lines, int number, aip_span_t line, apr_pool_t *pool)
{
    if (memchr(line.data, '\0', line.len)) {
        return fault(lines, number, "it holds a NUL byte");
    }
    if (!is_utf8(line)) {
        return fault(lines, number, "it is not UTF-8");
    }
    if (!lines->labelled) {
        push(lines, number, AIP_SPAN(""), line, pool);
        return AIP_EXIT_OK;
    }
    const char *tab = line.len ? memchr(line.data, '\t', line.len) : NULL;
    if (!tab && line.len) {
        return fault(lines, number, "there is no tab between label and prompt");
    }
    size_t len = tab ? (size_t)(tab - line.data) : 0;
    if (tab && !len) {
        return fault(lines, number, "the label is empty; - stands for the catch-all");
    }
    aip_span_t text = tab ? (aip_span_t){tab + 1, line.len - len - 1} : AIP_SPAN("");
    if (tab && !text.len) {
        return fault(lines, number, "the prompt is empty");
    }
    push(lines, number, (aip_span_t){line.data, len}, text, pool);
    return AIP_EXIT_OK;
}

static aip_span_t text_of(const json_t *value)
{
    return json_is_string(value) ? (aip_span_t){json_string_value(value), json_string_length(value)}
                                 : (aip_span_t){NULL, 0};
}

static int take_value(aip_lines_t *lines, int number, const json_t *value, apr_pool_t *pool)
{
    aip_span_t label = text_of(json_object_get(value, "label"));
    aip_span_t text = text_of(json_is_string(value) ? value : json_object_get(value, "prompt"));
    if (!label.data) {
        label = text_of(json_object_get(value, "target"));
    }
    if (!text.data || (lines->labelled && !label.len)) {
        return fault(lines, number,
                     lines->labelled
                         ? "it must be an object with the text members label (or target) and prompt"
                         : "it must be a text, or an object with a text member prompt");
    }
    if (lines->labelled && !text.len) {
        return fault(lines, number, "the prompt is empty");
    }
    push(lines, number, label.data ? label : AIP_SPAN(""), text, pool);
    return AIP_EXIT_OK;
}

static int take_json(aip_lines_t *lines, int number, aip_span_t line, apr_pool_t *pool)
{
    json_error_t error;
    if (line.len == 0) {
        push(lines, number, AIP_SPAN(""), line, pool);
        return AIP_EXIT_OK;
    }
    json_t *value =
        json_loadb(line.data, line.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    int status = value ? take_value(lines, number, value, pool)
                       : fault(lines, number, apr_psprintf(pool, "it is no JSON: %s", error.text));
    json_decref(value);
    return status;
}

/* Without the end of the line, and without the mark that some editors put before the first. */
static aip_span_t trim(char *data, size_t len, int number)
{
    len -= len && data[len - 1] == '\n';
    len -= len && data[len - 1] == '\r';
    bool marked = number == 1 && len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0;
    return marked ? (aip_span_t){data + 3, len - 3} : (aip_span_t){data, len};
}

static int take(aip_lines_t *lines, int number, aip_span_t line, apr_pool_t *pool)
{
    if (line.len > LONGEST_LINE) {
        return fault(lines, number, "it is longer than 1 MiB");
    }
    /* a label does not begin like an object, so the first line tells */
    if (lines->input == AIP_INPUT_AUTO && line.len) {
        lines->input = lines->labelled && *line.data == '{' ? AIP_INPUT_JSONL : AIP_INPUT_LINES;
    }
    return lines->input == AIP_INPUT_JSONL ? take_json(lines, number, line, pool)
                                           : take_plain(lines, number, line, pool);
}

int aip_lines_read(aip_lines_t *lines, const char *path, apr_pool_t *pool)
{
    bool standard = !path || strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    ssize_t got;
    int status = AIP_EXIT_OK;
    lines->name = standard ? "standard input" : path;
    lines->list = apr_array_make(pool, 256, sizeof(aip_line_t));
    if (!file) {
        return aip_tool_fail("cannot read %s: %s", path, strerror(errno));
    }
    for (int n = 1; status == AIP_EXIT_OK && (got = getline(&line, &size, file)) >= 0; n++) {
        status = take(lines, n, trim(line, (size_t)got, n), pool);
    }
    if (status == AIP_EXIT_OK && ferror(file)) {
        status = aip_tool_fail("cannot read %s: %s", lines->name, strerror(errno));
    }
    free(line);
    if (!standard) {
        fclose(file);
    }
    return status;
}
