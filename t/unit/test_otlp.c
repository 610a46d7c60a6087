/* SPDX-License-Identifier: Apache-2.0 */
/* Spans as OTLP's JSON: what is written is read again with a parser of JSON. */
#include "aip/otlp.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "fixture.h"

Suite *otlp_suite(void);

static const aip_trace_context_t trace = {.trace_id = "0af7651916cd43dd8448eb211c80319c",
                                          .span_id = "b7ad6b7169203331",
                                          .parent_id = "00f067aa0ba902b7",
                                          .sampled = true};

/* The whole export around what was written. */
static json_t *parsed(const aip_otlp_t *otlp)
{
    const char *head, *tail;
    json_error_t error;
    aip_otlp_envelope("a \"service\"", "1.2", "i-1", &head, &tail, pool);
    const char *text =
        apr_pstrcat(pool, head, apr_pstrmemdup(pool, otlp->data, otlp->len), tail, NULL);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(root != NULL, "%s: %s", error.text, text);
    return root;
}

static const json_t *item(const json_t *array, size_t i)
{
    return json_array_get(array, i);
}

static const json_t *scope_spans(const json_t *root)
{
    return item(json_object_get(item(json_object_get(root, "resourceSpans"), 0), "scopeSpans"), 0);
}

static const json_t *span(const json_t *root, size_t i)
{
    return item(json_object_get(scope_spans(root), "spans"), i);
}

static const json_t *attribute(const json_t *owner, const char *key)
{
    const json_t *list = json_object_get(owner, "attributes");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(json_string_value(json_object_get(item(list, i), "key")), key) == 0) {
            return json_object_get(item(list, i), "value");
        }
    }
    return NULL;
}

static const char *string(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

START_TEST(spans)
{
    aip_otlp_t otlp = {.pool = pool};
    aip_otlp_begin(&otlp, &trace, trace.span_id, trace.parent_id, AIP_SPAN_SERVER, "chat m",
                   1700000000000001, 1700000000000003);
    aip_otlp_end(&otlp, false);
    aip_otlp_begin(&otlp, &trace, "00000000000000aa", "", AIP_SPAN_CLIENT, "x", 5, 4);
    aip_otlp_end(&otlp, true);
    ck_assert_int_eq(otlp.spans, 2);
    json_t *root = parsed(&otlp);
    const json_t *a = span(root, 0), *b = span(root, 1);
    ck_assert_str_eq(string(a, "traceId"), trace.trace_id);
    ck_assert_str_eq(string(a, "spanId"), trace.span_id);
    ck_assert_str_eq(string(a, "parentSpanId"), trace.parent_id);
    ck_assert_str_eq(string(a, "name"), "chat m");
    ck_assert_str_eq(string(a, "startTimeUnixNano"), "1700000000000001000");
    ck_assert_str_eq(string(a, "endTimeUnixNano"), "1700000000000003000");
    ck_assert_int_eq(json_integer_value(json_object_get(a, "kind")), 2);
    ck_assert_ptr_null(json_object_get(json_object_get(a, "status"), "code"));
    ck_assert_ptr_null(json_object_get(b, "parentSpanId"));
    ck_assert_str_eq(string(b, "endTimeUnixNano"), "5000"); /* no span ends before it begins */
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(b, "status"), "code")), 2);
    ck_assert_uint_eq(json_array_size(json_object_get(scope_spans(root), "spans")), 2);
    const json_t *resource =
        json_object_get(item(json_object_get(root, "resourceSpans"), 0), "resource");
    ck_assert_str_eq(string(attribute(resource, "service.name"), "stringValue"), "a \"service\"");
    ck_assert_str_eq(string(attribute(resource, "service.instance.id"), "stringValue"), "i-1");
    json_decref(root);
}
END_TEST

START_TEST(attributes)
{
    aip_otlp_t otlp = {.pool = pool}, before = {.pool = pool};
    aip_otlp_text(&before, "first before", "1");
    aip_otlp_text(&before, "second before", "2");
    aip_otlp_begin(&otlp, &trace, trace.span_id, "", AIP_SPAN_INTERNAL, "n", 1, 2);
    aip_otlp_text(&otlp, "none", NULL);
    aip_otlp_text(&otlp, "text", "a\"b\\c\n\x01\xc3\xa9");
    aip_otlp_text_list(&otlp, "list", "stop");
    aip_otlp_text_list(&otlp, "no list", NULL);
    aip_otlp_count(&otlp, "count", APR_INT64_MAX);
    aip_otlp_count(&otlp, "unknown", -1);
    aip_otlp_real(&otlp, "real", 0.5);
    aip_otlp_real(&otlp, "small", 1.25e-7);
    aip_otlp_real(&otlp, "nan", NAN);
    aip_otlp_pico(&otlp, "pico", 1500000);
    aip_otlp_attributes(&otlp, (aip_span_t){before.data, before.len});
    aip_otlp_attributes(&otlp, (aip_span_t){NULL, 0});
    aip_otlp_flag(&otlp, "yes", true);
    aip_otlp_flag(&otlp, "no", false);
    aip_otlp_end(&otlp, false);
    json_t *root = parsed(&otlp);
    const json_t *s = span(root, 0);
    ck_assert_uint_eq(json_array_size(json_object_get(s, "attributes")), 10);
    ck_assert_str_eq(string(attribute(s, "text"), "stringValue"), "a\"b\\c\n\x01\xc3\xa9");
    const json_t *list =
        json_object_get(json_object_get(attribute(s, "list"), "arrayValue"), "values");
    ck_assert_str_eq(string(item(list, 0), "stringValue"), "stop");
    ck_assert_str_eq(string(attribute(s, "count"), "intValue"), "9223372036854775807");
    ck_assert_double_eq(json_real_value(json_object_get(attribute(s, "real"), "doubleValue")), 0.5);
    ck_assert_double_eq(json_real_value(json_object_get(attribute(s, "small"), "doubleValue")),
                        1.25e-7);
    ck_assert(json_is_true(json_object_get(attribute(s, "yes"), "boolValue")));
    ck_assert(json_is_false(json_object_get(attribute(s, "no"), "boolValue")));
    ck_assert_double_eq(json_real_value(json_object_get(attribute(s, "pico"), "doubleValue")),
                        1.5e-6);
    ck_assert_str_eq(string(attribute(s, "first before"), "stringValue"), "1");
    ck_assert_str_eq(string(attribute(s, "second before"), "stringValue"), "2");
    json_decref(root);
}
END_TEST

/* Values of clients and upstreams: bytes that are no UTF-8, and more of them than anybody wants. */
START_TEST(hostile)
{
    char all[256 + 1], name[1001], cut[AIP_OTLP_VALUE_MAX + 8];
    for (int i = 0; i < 255; i++) {
        all[i] = (char)(i + 1);
    }
    all[255] = '\0';
    memset(name, 'n', sizeof name - 1);
    name[1000] = '\0';
    memset(cut, 'c', sizeof cut);
    memcpy(cut + AIP_OTLP_VALUE_MAX - 1, "\xc3\xa9", 3); /* a character over the end */
    aip_otlp_t otlp = {.pool = pool};
    aip_otlp_begin(&otlp, &trace, trace.span_id, "", AIP_SPAN_CLIENT, name, 1, 2);
    aip_otlp_text(&otlp, "all", all);
    aip_otlp_text(&otlp, "cut", cut);
    aip_otlp_text(&otlp, "bad",
                  "a\xff"
                  "b");
    aip_otlp_end(&otlp, false);
    json_t *root = parsed(&otlp);
    const json_t *s = span(root, 0);
    ck_assert_uint_eq(strlen(string(s, "name")), AIP_OTLP_VALUE_MAX);
    ck_assert_uint_eq(strlen(string(attribute(s, "cut"), "stringValue")), AIP_OTLP_VALUE_MAX - 1);
    ck_assert_str_eq(string(attribute(s, "bad"), "stringValue"), "a\xef\xbf\xbd"
                                                                 "b");
    json_decref(root);
}
END_TEST

/* clang-format off */
static const struct {
    const char *name, *answer;
    int rejected;
    const char *message;
} answers[] = {
    {"all taken", "{}", 0, NULL},
    {"empty", "", 0, NULL},
    {"no JSON", "<html>", 0, NULL},
    {"no object", "[1]", 0, NULL},
    {"a string, as protobuf writes it", "{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"no\"}}", 3, "no"},
    {"a number", "{\"partialSuccess\":{\"rejectedSpans\":4}}", 4, NULL},
    {"more than were sent", "{\"partialSuccess\":{\"rejectedSpans\":\"99\"}}", 10, NULL},
    {"less than none", "{\"partialSuccess\":{\"rejectedSpans\":-1}}", 0, NULL},
    {"another type", "{\"partialSuccess\":{\"rejectedSpans\":{},\"errorMessage\":1}}", 0, NULL},
    {"a warning alone", "{\"partialSuccess\":{\"errorMessage\":\"old\\nnames\"}}", 0, "old?names"},
};
/* clang-format on */

START_TEST(partial)
{
    const char *message;
    aip_span_t answer = {answers[_i].answer, strlen(answers[_i].answer)};
    ck_assert_int_eq(aip_otlp_rejected(answer, 10, &message, pool), answers[_i].rejected);
    ck_assert_pstr_eq(message, answers[_i].message);
}
END_TEST

Suite *otlp_suite(void)
{
    Suite *suite = suite_create("otlp");
    TCase *tcase = tcase_create("otlp");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_test(tcase, spans);
    tcase_add_test(tcase, attributes);
    tcase_add_test(tcase, hostile);
    tcase_add_loop_test(tcase, partial, 0, ROWS(answers));
    suite_add_tcase(suite, tcase);
    return suite;
}
