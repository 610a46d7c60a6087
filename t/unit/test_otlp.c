/* SPDX-License-Identifier: Apache-2.0 */
/* Spans in OTLP's binary encoding: what is written is read again with a strict reader. */
#include "aip/otlp.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "../fuzz/otlp_other.h"
#include "fixture.h"

Suite *otlp_suite(void);

static const aip_trace_context_t trace = {.trace_id = "0af7651916cd43dd8448eb211c80319c",
                                          .span_id = "b7ad6b7169203331",
                                          .parent_id = "00f067aa0ba902b7",
                                          .sampled = true};

/* The whole export around what was written. */
static json_t *parsed(const aip_otlp_t *otlp)
{
    aip_otlp_origin_t origin;
    aip_otlp_origin(&origin, "a \"service\"", "1.2", "i-1", pool);
    aip_span_t head = aip_otlp_head(&origin, otlp->len, pool);
    char *all = apr_palloc(pool, head.len + otlp->len);
    memcpy(all, head.data, head.len);
    memcpy(all + head.len, otlp->data, otlp->len);
    json_t *root = other_spans((aip_span_t){all, head.len + otlp->len});
    ck_assert_ptr_nonnull(root);
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

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

START_TEST(spans)
{
    aip_otlp_t otlp = {.pool = pool};
    aip_otlp_begin(&otlp, &trace, trace.span_id, trace.parent_id, AIP_SPAN_SERVER,
                   (aip_span_name_t){"chat", "m"}, 1700000000000001, 1700000000000003);
    aip_otlp_end(&otlp, false);
    aip_otlp_begin(&otlp, &trace, "00000000000000aa", "", AIP_SPAN_CLIENT,
                   (aip_span_name_t){"x", ""}, 5, 4);
    aip_otlp_end(&otlp, true);
    ck_assert_int_eq(otlp.spans, 2);
    json_t *root = parsed(&otlp);
    const json_t *a = span(root, 0), *b = span(root, 1);
    ck_assert_str_eq(string(a, "traceId"), trace.trace_id);
    ck_assert_str_eq(string(a, "spanId"), trace.span_id);
    ck_assert_str_eq(string(a, "parentSpanId"), trace.parent_id);
    ck_assert_str_eq(string(a, "name"), "chat m");
    ck_assert_int_eq(integer(a, "startTimeUnixNano"), 1700000000000001000);
    ck_assert_int_eq(integer(a, "endTimeUnixNano"), 1700000000000003000);
    ck_assert_int_eq(integer(a, "kind"), 2);
    ck_assert_ptr_null(json_object_get(a, "status"));
    ck_assert_ptr_null(json_object_get(b, "parentSpanId"));
    ck_assert_int_eq(integer(b, "endTimeUnixNano"), 5000); /* no span ends before it begins */
    ck_assert_int_eq(integer(json_object_get(b, "status"), "code"), 2);
    ck_assert_uint_eq(json_array_size(json_object_get(scope_spans(root), "spans")), 2);
    const json_t *resource =
        json_object_get(item(json_object_get(root, "resourceSpans"), 0), "resource");
    ck_assert_str_eq(string(attribute(resource, "service.name"), "stringValue"), "a \"service\"");
    ck_assert_str_eq(string(attribute(resource, "service.instance.id"), "stringValue"), "i-1");
    const json_t *scope = json_object_get(scope_spans(root), "scope");
    ck_assert_str_eq(string(scope, "name"), "mod_ai_proxy_adv");
    ck_assert_str_eq(string(scope, "version"), "1.2");
    json_decref(root);
}
END_TEST

START_TEST(attributes)
{
    aip_otlp_t otlp = {.pool = pool}, before = {.pool = pool};
    aip_otlp_text(&before, "first before", "1");
    aip_otlp_text(&before, "second before", "2");
    aip_otlp_begin(&otlp, &trace, trace.span_id, "", AIP_SPAN_INTERNAL,
                   (aip_span_name_t){"n", NULL}, 1, 2);
    aip_otlp_text(&otlp, "none", NULL);
    aip_otlp_text(&otlp, "text", "a\"b\\c\n\x01\xc3\xa9");
    aip_otlp_text_list(&otlp, "list", "stop");
    aip_otlp_text_list(&otlp, "no list", NULL);
    aip_otlp_count(&otlp, "count", APR_INT64_MAX);
    aip_otlp_count(&otlp, "unknown", -1);
    aip_otlp_real(&otlp, "real", 0.5);
    aip_otlp_real(&otlp, "small", 1.25e-7);
    aip_otlp_real(&otlp, "nan", NAN);
    aip_otlp_attributes(&otlp, (aip_span_t){before.data, before.len});
    aip_otlp_attributes(&otlp, (aip_span_t){NULL, 0});
    aip_otlp_flag(&otlp, "yes", true);
    aip_otlp_flag(&otlp, "no", false);
    aip_otlp_end(&otlp, false);
    json_t *root = parsed(&otlp);
    const json_t *s = span(root, 0);
    ck_assert_uint_eq(json_array_size(json_object_get(s, "attributes")), 9);
    ck_assert_str_eq(string(attribute(s, "text"), "stringValue"), "a\"b\\c\n\x01\xc3\xa9");
    const json_t *list =
        json_object_get(json_object_get(attribute(s, "list"), "arrayValue"), "values");
    ck_assert_str_eq(string(item(list, 0), "stringValue"), "stop");
    ck_assert_int_eq(integer(attribute(s, "count"), "intValue"), APR_INT64_MAX);
    ck_assert_double_eq(json_real_value(json_object_get(attribute(s, "real"), "doubleValue")), 0.5);
    ck_assert_double_eq(json_real_value(json_object_get(attribute(s, "small"), "doubleValue")),
                        1.25e-7);
    ck_assert(json_is_true(json_object_get(attribute(s, "yes"), "boolValue")));
    ck_assert(json_is_false(json_object_get(attribute(s, "no"), "boolValue")));
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
    aip_otlp_begin(&otlp, &trace, trace.span_id, "", AIP_SPAN_CLIENT, (aip_span_name_t){"n", name},
                   1, 2);
    aip_otlp_text(&otlp, "all", all);
    aip_otlp_text(&otlp, "cut", cut);
    aip_otlp_text(&otlp, "bad",
                  "a\xff"
                  "b");
    aip_otlp_end(&otlp, false);
    json_t *root = parsed(&otlp);
    const json_t *s = span(root, 0);
    ck_assert_uint_eq(strlen(string(s, "name")), AIP_OTLP_VALUE_MAX + 2);
    ck_assert_uint_eq(strlen(string(attribute(s, "cut"), "stringValue")), AIP_OTLP_VALUE_MAX - 1);
    ck_assert_str_eq(string(attribute(s, "bad"), "stringValue"), "a\xef\xbf\xbd"
                                                                 "b");
    json_decref(root);
}
END_TEST

/* Longer than two bytes of a length can say. */
START_TEST(long_span)
{
    char text[AIP_OTLP_VALUE_MAX + 1];
    memset(text, 't', AIP_OTLP_VALUE_MAX);
    text[AIP_OTLP_VALUE_MAX] = '\0';
    aip_otlp_t otlp = {.pool = pool};
    aip_otlp_begin(&otlp, &trace, trace.span_id, "", AIP_SPAN_CLIENT, (aip_span_name_t){"n", NULL},
                   1, 2);
    for (int i = 0; i < 100; i++) {
        aip_otlp_text(&otlp, "key", text);
    }
    aip_otlp_end(&otlp, true);
    ck_assert_uint_gt(otlp.len, 1 << 14);
    json_t *root = parsed(&otlp);
    ck_assert_uint_eq(json_array_size(json_object_get(span(root, 0), "attributes")), 100);
    ck_assert_int_eq(integer(json_object_get(span(root, 0), "status"), "code"), 2);
    json_decref(root);
}
END_TEST

/* clang-format off */
static const struct {
    const char *name;
    aip_span_t answer;
    int rejected;
    const char *message;
} answers[] = {
    {"all taken", AIP_NAME(""), 0, NULL},
    {"nothing to say", AIP_NAME("\x0a\x00"), 0, NULL},
    {"some refused, and why", AIP_NAME("\x0a\x06\x08\x03\x12\x02no"), 3, "no"},
    {"a long number", AIP_NAME("\x0a\x03\x08\x84\x00"), 4, NULL},
    {"more than were sent", AIP_NAME("\x0a\x02\x08\x63"), 10, NULL},
    {"less than none", AIP_NAME("\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 0, NULL},
    {"a warning alone", AIP_NAME("\x0a\x0b\x12\x09old\nnames"), 0, "old?names"},
    {"no words", AIP_NAME("\x0a\x06\x08\x02\x12\x02\x00x"), 2, NULL},
    {"words of other bytes", AIP_NAME("\x0a\x06\x08\x02\x12\x02\xff("), 2, "?("},
    {"fields of another day around it", AIP_NAME("\x18\x05\x21" "12345678" "\x2d" "1234" "\x0a\x05\x1a\x01x\x08\x02"), 2, NULL},
    {"other types", AIP_NAME("\x0a\x05\x0a\x01x\x10\x07"), 0, NULL},
    {"longer than it is", AIP_NAME("\x0a\x09\x08\x03"), 0, NULL},
    {"a number without an end", AIP_NAME("\x0a\x02\x08\x83"), 0, NULL},
    {"no message at all", AIP_NAME("<html>"), 0, NULL},
    {"JSON", AIP_NAME("{\"partialSuccess\":{\"rejectedSpans\":\"3\"}}"), 0, NULL},
};
/* clang-format on */

START_TEST(partial)
{
    const char *message;
    ck_assert_int_eq(aip_otlp_rejected(answers[_i].answer, 10, &message, pool),
                     answers[_i].rejected);
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
    tcase_add_test(tcase, long_span);
    tcase_add_loop_test(tcase, partial, 0, ROWS(answers));
    suite_add_tcase(suite, tcase);
    return suite;
}
