/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics as text: numbers, escapes, both formats to the byte, and what an Accept header means. */
#include "aip/metrics_text.h"

#include "fixture.h"

#include <check.h>
#include <stdlib.h>

Suite *metrics_text_suite(void);

static const struct {
    apr_uint64_t value;
    int digits;
    const char *expected;
} numbers[] = {
    {0, 0, "0"},
    {0, 6, "0"},
    {7, 0, "7"},
    {100, 0, "100"},
    {18446744073709551615u, 0, "18446744073709551615"},
    {18446744073709551615u, 12, "18446744.073709551615"},
    {1500000, 6, "1.5"},
    {1000000, 6, "1"},
    {30000000, 6, "30"},
    {5, 6, "0.000005"},
    {123456, 6, "0.123456"},
    {49000000, 12, "0.000049"},
    {1, 12, "0.000000000001"},
    {1000000000001, 12, "1.000000000001"},
    {1500, 3, "1.5"},
};

START_TEST(decimals)
{
    aip_text_t text = {0};
    aip_text_number(&text, numbers[_i].value, numbers[_i].digits);
    aip_text_bytes(&text, "", 1);
    ck_assert_str_eq(text.data, numbers[_i].expected);
    free(text.data);
}
END_TEST

static const struct {
    const char *labels, *value, *expected;
} escapes[] = {
    {"", "plain", "n=\"plain\""},
    {"a=\"b\"", "", "a=\"b\",n=\"\""},
    {"", "a\"b\\c\nd", "n=\"a\\\"b\\\\c\\nd\""},
    {"", "\xc3\xa8\xff\xe2\x82", "n=\"\xc3\xa8\\\\xff\\\\xe2\\\\x82\""},
};

START_TEST(label_values)
{
    ck_assert_str_eq(aip_label(escapes[_i].labels, "n", escapes[_i].value, pool),
                     escapes[_i].expected);
}
END_TEST

static const aip_family_t counter = {"c", AIP_METRIC_COUNTER, NULL, "Counted."};
static const aip_family_t gauge = {"g_seconds", AIP_METRIC_GAUGE, "seconds", "Now."};
static const aip_family_t info = {"b", AIP_METRIC_INFO, NULL, "Made of."};
static const aip_family_t unused = {"u", AIP_METRIC_GAUGE, NULL, "Nothing."};
static const aip_family_t histogram = {"h_seconds", AIP_METRIC_HISTOGRAM, "seconds", "Took."};

static char *written(bool openmetrics)
{
    aip_exposition_t out = {.openmetrics = openmetrics};
    aip_histogram_t h = {0};
    aip_snapshot_t snapshot = {0};
    aip_histogram_add(&h, AIP_SCALE_PER_TOKEN, 1500000);
    aip_histogram_add(&h, AIP_SCALE_PER_TOKEN, 9000001);
    aip_histogram_read(&h, AIP_SCALE_PER_TOKEN, &snapshot);
    aip_exposition_family(&out, &counter);
    aip_exposition_value(&out, "", 3, 0);
    aip_exposition_value(&out, "x=\"1\"", 25, 1);
    aip_exposition_family(&out, &unused);
    aip_exposition_family(&out, &gauge);
    aip_exposition_value(&out, "", 1, 0);
    aip_exposition_family(&out, &info);
    aip_exposition_value(&out, "v=\"2\"", 1, 0);
    aip_exposition_family(&out, &histogram);
    aip_exposition_histogram(&out, "x=\"1\"", AIP_SCALE_PER_TOKEN, &snapshot);
    aip_exposition_end(&out);
    aip_text_bytes(&out.text, "", 1);
    return out.text.data;
}

#define BUCKETS(one)                                                                               \
    "h_seconds_bucket{x=\"1\",le=\"0.01\"} 0\nh_seconds_bucket{x=\"1\",le=\"0.025\"} 0\n"          \
    "h_seconds_bucket{x=\"1\",le=\"0.05\"} 0\nh_seconds_bucket{x=\"1\",le=\"0.075\"} 0\n"          \
    "h_seconds_bucket{x=\"1\",le=\"0.1\"} 0\nh_seconds_bucket{x=\"1\",le=\"0.15\"} 0\n"            \
    "h_seconds_bucket{x=\"1\",le=\"0.2\"} 0\nh_seconds_bucket{x=\"1\",le=\"0.3\"} 0\n"             \
    "h_seconds_bucket{x=\"1\",le=\"0.4\"} 0\nh_seconds_bucket{x=\"1\",le=\"0.5\"} 0\n"             \
    "h_seconds_bucket{x=\"1\",le=\"0.75\"} 0\nh_seconds_bucket{x=\"1\",le=\"" one "\"} 0\n"        \
    "h_seconds_bucket{x=\"1\",le=\"2.5\"} 1\nh_seconds_bucket{x=\"1\",le=\"+Inf\"} 2\n"            \
    "h_seconds_sum{x=\"1\"} 10.500001\nh_seconds_count{x=\"1\"} 2\n"

START_TEST(text_format)
{
    char *got = written(false);
    ck_assert_str_eq(got, "# HELP c_total Counted.\n# TYPE c_total counter\n"
                          "c_total 3\nc_total{x=\"1\"} 2.5\n"
                          "# HELP g_seconds Now.\n# TYPE g_seconds gauge\ng_seconds 1\n"
                          "# HELP b_info Made of.\n# TYPE b_info gauge\nb_info{v=\"2\"} 1\n"
                          "# HELP h_seconds Took.\n# TYPE h_seconds histogram\n" BUCKETS("1"));
    free(got);
}
END_TEST

START_TEST(openmetrics_format)
{
    char *got = written(true);
    ck_assert_str_eq(got,
                     "# HELP c Counted.\n# TYPE c counter\nc_total 3\nc_total{x=\"1\"} 2.5\n"
                     "# HELP g_seconds Now.\n# TYPE g_seconds gauge\n# UNIT g_seconds seconds\n"
                     "g_seconds 1\n# HELP b Made of.\n# TYPE b info\nb_info{v=\"2\"} 1\n"
                     "# HELP h_seconds Took.\n# TYPE h_seconds histogram\n"
                     "# UNIT h_seconds seconds\n" BUCKETS("1.0") "# EOF\n");
    free(got);
}
END_TEST

static const struct {
    const char *accept;
    bool openmetrics;
} accepts[] = {
    {NULL, false},
    {"", false},
    {"*/*", false},
    {"text/plain", false},
    {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
    {"application/openmetrics-text", true},
    {"application/openmetrics-text; version=1.0.0", true},
    {"Application/OpenMetrics-Text;VERSION=\"1.0.0\";charset=utf-8", true},
    {"application/openmetrics-text; version=2.0.0", false},
    {"application/openmetrics-text; version=0.0.1", false},
    {"application/openmetrics-text;q=0", false},
    {"application/openmetrics-text;q=0.000", false},
    {"application/openmetrics-text;q=x", false},
    {"application/openmetrics-textual", false},
    /* Prometheus 2.42 and 3 */
    {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
     "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
     true},
    {"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
     "application/openmetrics-text;version=0.0.1;q=0.5,"
     "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
     "*/*;q=0.2",
     true},
    {"text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.9", false},
    {"text/plain;q=0.5;version=0.0.4, application/openmetrics-text;q=0.501", true},
    {"text/plain;q=0.5, application/openmetrics-text;q=0.5", true},
    {"text/plain;q=0.1, */*;q=0.9, application/openmetrics-text;q=0.5", true},
    {"text/*;q=0.9, application/openmetrics-text;q=0.5", false},
    {"application/json, application/openmetrics-text;q=0.2", true},
    {"x/y;a=\",application/openmetrics-text\"", false},
    {"x/y;a=\"\\\",application/openmetrics-text;\\\"", false},
    {",, ;q=1,application/openmetrics-text ; q=1.000 ,", true},
};

START_TEST(accept_headers)
{
    ck_assert_msg(aip_accepts_openmetrics(accepts[_i].accept) == accepts[_i].openmetrics, "%s",
                  accepts[_i].accept ? accepts[_i].accept : "(none)");
}
END_TEST

Suite *metrics_text_suite(void)
{
    Suite *suite = suite_create("metrics_text");
    TCase *tc = tcase_create("metrics_text");
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, decimals, 0, ROWS(numbers));
    tcase_add_loop_test(tc, label_values, 0, ROWS(escapes));
    tcase_add_test(tc, text_format);
    tcase_add_test(tc, openmetrics_format);
    tcase_add_loop_test(tc, accept_headers, 0, ROWS(accepts));
    suite_add_tcase(suite, tc);
    return suite;
}
