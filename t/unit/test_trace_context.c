/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken over from a client, and ids. The cases follow the W3C recommendation and its own
 * test suite. */
#include "aip/trace_context.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

Suite *trace_context_suite(void);

#define T "12345678901234567890123456789abc"
#define S "1234567890abcdef"
#define Z16 "0000000000000000"

/* clang-format off */
static const struct {
    const char *name, *text;
    bool ok, sampled;
} parents[] = {
    {"sampled", "00-" T "-" S "-01", true, true},
    {"not sampled", "00-" T "-" S "-00", true, false},
    {"other flags", "00-" T "-" S "-fe", true, false},
    {"all flags", "00-" T "-" S "-ff", true, true},
    {"a later version", "cc-" T "-" S "-01", true, true},
    {"a later version that says more", "cc-" T "-" S "-01-what-the-future-brings", true, true},
    {"a later version with a tail of its own", "cc-" T "-" S "-01.what", false, false},
    {"a later version, joined with another header", "cc-" T "-" S "-01-x, 00-" T "-" S "-01", false, false},
    {"version 00 says more", "00-" T "-" S "-01-more", false, false},
    {"version 00 with a dash at its end", "00-" T "-" S "-01-", false, false},
    {"version ff", "ff-" T "-" S "-01", false, false},
    {"version in upper case", "CC-" T "-" S "-01", false, false},
    {"version of one digit", "0-" T "-" S "-01", false, false},
    {"version that is no number", ".0-" T "-" S "-01", false, false},
    {"trace id of zeros", "00-" Z16 Z16 "-" S "-01", false, false},
    {"span id of zeros", "00-" T "-" Z16 "-01", false, false},
    {"trace id in upper case", "00-" "12345678901234567890123456789ABC" "-" S "-01", false, false},
    {"span id in upper case", "00-" T "-" "1234567890ABCDEF" "-01", false, false},
    {"flags in upper case", "00-" T "-" S "-0A", false, false},
    {"trace id too long", "00-" T "0-" S "-01", false, false},
    {"trace id too short", "00-1234567890123456789012345678901-" S "-01", false, false},
    {"span id too long", "00-" T "-" S "0-01", false, false},
    {"a letter beyond f", "00-" "1234567890123456789012345678901g" "-" S "-01", false, false},
    {"flags of one digit", "00-" T "-" S "-1", false, false},
    {"no flags", "00-" T "-" S, false, false},
    {"underscores", "00_" T "_" S "_01", false, false},
    {"white space before", " 00-" T "-" S "-01", false, false},
    {"two headers", "00-" T "-" S "-01, 00-" T "-" S "-01", false, false},
    {"two headers without a blank", "00-" T "-" S "-01,00-" T "-" S "-01", false, false},
    {"empty", "", false, false},
    {"none", NULL, false, false},
};

static const struct {
    const char *name, *text;
    bool ok;
} states[] = {
    {"one", "a=1", true},
    {"two", "foo=1,bar=2", true},
    {"blanks around", "foo=1 \t , \t bar=2", true},
    {"empty members", "foo=1,,bar=2,", true},
    {"tenant", "0tenant@system=value", true},
    {"all characters of a key", "a0_-*/=1", true},
    {"blanks inside a value", "a=x y", true},
    {"a bracket", "a=[1]{2}", true},
    {"nothing", "", false},
    {"blanks alone", " , ", false},
    {"no value", "a=", false},
    {"no key", "=1", false},
    {"no equals", "foo", false},
    {"a key in upper case", "Foo=1", false},
    {"a key that begins with a digit", "0a=1", false},
    {"an empty tenant", "@b=1", false},
    {"an empty system", "a@=1", false},
    {"a system that begins with a digit", "a@0b=1", false},
    {"a system that is too long", "a@b23456789012345=1", false},
    {"equals in a value", "a=1=2", false},
    {"a byte that is no ASCII", "a=\xc3\xa9", false},
    {"a control byte", "a=1\x01", false},
    {"a key twice", "a=1,b=2,a=3", false},
    {"keys that begin alike", "a=1,ab=2,abc=3", true},
    {"no header", NULL, false},
};
/* clang-format on */

START_TEST(parse)
{
    aip_trace_context_t context = {.trace_id = "x", .parent_id = "y"};
    bool ok = aip_traceparent_parse(parents[_i].text, &context);
    ck_assert_msg(ok == parents[_i].ok, "%s", parents[_i].name);
    ck_assert_str_eq(context.trace_id, ok ? T : "x");
    ck_assert_str_eq(context.parent_id, ok ? S : "y");
    ck_assert_int_eq(context.sampled, parents[_i].sampled);
}
END_TEST

START_TEST(state)
{
    ck_assert_msg(aip_tracestate_ok(states[_i].text) == states[_i].ok, "%s", states[_i].name);
}
END_TEST

START_TEST(state_limits)
{
    char text[AIP_TRACESTATE_MAX + 2] = "";
    for (int i = 0; i < 32; i++) {
        apr_snprintf(text + strlen(text), 8, "%sk%02d=1", i ? "," : "", i);
    }
    ck_assert(aip_tracestate_ok(text));
    ck_assert(!aip_tracestate_ok(apr_pstrcat(pool, text, ",z=1", NULL)));
    memset(text, 'v', sizeof text);
    memcpy(text, "a=", 2);
    text[258] = '\0';
    ck_assert(aip_tracestate_ok(text));
    text[258] = 'v';
    text[259] = '\0';
    ck_assert(!aip_tracestate_ok(text));
    text[sizeof text - 1] = '\0';
    ck_assert(!aip_tracestate_ok(text));
}
END_TEST

START_TEST(begin)
{
    aip_trace_context_t a, b;
    aip_trace_begin(&a, NULL, 1);
    aip_trace_begin(&b, "00-" T "-" Z16 "-01", 0);
    ck_assert_uint_eq(strspn(a.trace_id, "0123456789abcdef"), AIP_TRACE_ID_HEX);
    ck_assert_uint_eq(strspn(a.span_id, "0123456789abcdef"), AIP_SPAN_ID_HEX);
    ck_assert_uint_eq(strlen(a.trace_id) + strlen(a.span_id), AIP_TRACE_ID_HEX + AIP_SPAN_ID_HEX);
    ck_assert_str_eq(a.parent_id, "");
    ck_assert_str_ne(a.trace_id, b.trace_id);
    ck_assert_str_ne(a.span_id, b.span_id);
    ck_assert(a.sampled && !b.sampled);
    ck_assert_str_eq(b.parent_id, "");
    aip_trace_begin(&a, "00-" T "-" S "-00", 1);
    ck_assert_str_eq(a.trace_id, T);
    ck_assert_str_eq(a.parent_id, S);
    ck_assert_str_ne(a.span_id, S);
    ck_assert(!a.sampled); /* the client's decision, not the ratio's */
    aip_trace_begin(&a, "00-" T "-" S "-01", 0);
    ck_assert(a.sampled);
}
END_TEST

#define THREADS 4
#define EACH 10000

typedef char both_ids_t[AIP_TRACE_ID_HEX + AIP_SPAN_ID_HEX + 1];

static void *draw(void *ids)
{
    both_ids_t *drawn = ids;
    for (int i = 0; i < EACH; i++) {
        aip_trace_context_t context;
        aip_trace_begin(&context, NULL, 1);
        apr_snprintf(drawn[i], sizeof drawn[i], "%s%s", context.trace_id, context.span_id);
    }
    return NULL;
}

static int by_span(const void *a, const void *b)
{
    return strcmp((const char *)a + AIP_TRACE_ID_HEX, (const char *)b + AIP_TRACE_ID_HEX);
}

static int by_trace(const void *a, const void *b)
{
    return strncmp(a, b, AIP_TRACE_ID_HEX);
}

/* Of all threads, no two spans and no two traces have the same id; nor have the halves of one. */
START_TEST(unique)
{
    pthread_t threads[THREADS];
    both_ids_t *ids = apr_palloc(pool, THREADS * EACH * sizeof *ids);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, draw, ids + i * EACH), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    qsort(ids, THREADS * EACH, sizeof *ids, by_span);
    for (int i = 1; i < THREADS * EACH; i++) {
        ck_assert_int_ne(by_span(ids[i - 1], ids[i]), 0);
        ck_assert_int_ne(strncmp(ids[i], ids[i] + AIP_SPAN_ID_HEX, AIP_SPAN_ID_HEX), 0);
    }
    qsort(ids, THREADS * EACH, sizeof *ids, by_trace);
    for (int i = 1; i < THREADS * EACH; i++) {
        ck_assert_int_ne(by_trace(ids[i - 1], ids[i]), 0);
    }
}
END_TEST

START_TEST(ratio)
{
    int sampled = 0;
    for (int i = 0; i < 10000; i++) {
        aip_trace_context_t context;
        aip_trace_begin(&context, NULL, 0.25);
        sampled += context.sampled;
    }
    ck_assert_int_gt(sampled, 2200); /* 8 times the standard deviation of 43 */
    ck_assert_int_lt(sampled, 2800);
    ck_assert(aip_trace_sampled(Z16 "0000000000000000", 1e-9));
    ck_assert(!aip_trace_sampled(Z16 "0000000000000000", 0));
    ck_assert(!aip_trace_sampled("0000000000000000ffffffffffffffff", 0.999));
    ck_assert(aip_trace_sampled("0000000000000000ffffffffffffffff", 1));
    ck_assert(aip_trace_sampled(Z16 "7fffffffffffffff", 0.5));
    ck_assert(!aip_trace_sampled(Z16 "8000000000000000", 0.5));
}
END_TEST

START_TEST(children)
{
    aip_trace_context_t context;
    char ids[64][AIP_SPAN_ID_HEX + 1], again[AIP_SPAN_ID_HEX + 1];
    aip_trace_begin(&context, NULL, 1);
    for (unsigned i = 0; i < 64; i++) {
        aip_trace_child(&context, i, ids[i]);
        aip_trace_child(&context, i, again);
        ck_assert_str_eq(ids[i], again);
        ck_assert_uint_eq(strspn(ids[i], "0123456789abcdef"), AIP_SPAN_ID_HEX);
        ck_assert_str_ne(ids[i], context.span_id);
        for (unsigned k = 0; k < i; k++) {
            ck_assert_str_ne(ids[i], ids[k]);
        }
    }
}
END_TEST

START_TEST(written)
{
    aip_trace_context_t context, back;
    char text[AIP_TRACEPARENT_LEN + 1];
    aip_trace_begin(&context, "00-" T "-" S "-01", 1);
    aip_traceparent_write(&context, "00000000000000a1", text);
    ck_assert_str_eq(text, "00-" T "-00000000000000a1-01");
    ck_assert(aip_traceparent_parse(text, &back));
    context.sampled = false;
    aip_traceparent_write(&context, S, text);
    ck_assert_str_eq(text, "00-" T "-" S "-00");
}
END_TEST

Suite *trace_context_suite(void)
{
    Suite *suite = suite_create("trace_context");
    TCase *tcase = tcase_create("trace_context");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, parse, 0, ROWS(parents));
    tcase_add_loop_test(tcase, state, 0, ROWS(states));
    tcase_add_test(tcase, state_limits);
    tcase_add_test(tcase, begin);
    tcase_add_test(tcase, unique);
    tcase_add_test(tcase, ratio);
    tcase_add_test(tcase, children);
    tcase_add_test(tcase, written);
    suite_add_tcase(suite, tcase);
    return suite;
}
