/* SPDX-License-Identifier: Apache-2.0 */
/* The event stream reader: what each event says, at every place where the bytes can be split, and
 * that no byte is lost, added or moved, whatever the input and however it is cut. */

#include "aip/sse.h"

#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Everything that was reported. Events without data and name (comments, empty lines) count only in
 * `raw`. */
typedef struct log_t {
    char raw[65536];
    size_t raw_len;
    char text[4096]; /* "name|data;" per event, "-" for what is not there */
    size_t text_len;
    int pieces, calls, stop_after;
} log_t;

static void put(log_t *log, const char *data, size_t len)
{
    ck_assert_uint_lt(log->text_len + len, sizeof(log->text));
    memcpy(log->text + log->text_len, data, len);
    log->text_len += len;
    log->text[log->text_len] = '\0';
}

static void put_span(log_t *log, aip_span_t span)
{
    put(log, span.data ? span.data : "-", span.data ? span.len : 1);
}

static bool on_event(void *ctx, const aip_sse_event_t *event)
{
    log_t *log = ctx;

    ck_assert_uint_gt(event->raw.len, 0);
    ck_assert_uint_le(log->raw_len + event->raw.len, sizeof(log->raw));
    memcpy(log->raw + log->raw_len, event->raw.data, event->raw.len);
    log->raw_len += event->raw.len;
    if (event->partial) {
        ck_assert(!event->data.data && !event->name.data);
        log->pieces++;
    } else if (event->data.data || event->name.data) {
        put_span(log, event->name);
        put(log, "|", 1);
        put_span(log, event->data);
        put(log, ";", 1);
    }
    return ++log->calls != log->stop_after;
}

/* what events say */

typedef struct row_t {
    const char *name;
    aip_span_t input, expected;
    bool rest; /* an unfinished event is left at the end */
} row_t;

/* clang-format off */
#define S(s) {(s), sizeof(s) - 1}

static const row_t rows[] = {
    {"one", S("data: {\"a\":1}\n\n"), S("-|{\"a\":1};"), false},
    {"several in one read", S("data: a\n\ndata: b\n\ndata: [DONE]\n\n"), S("-|a;-|b;-|[DONE];"),
     false},
    {"no space", S("data:a\n\n"), S("-|a;"), false},
    {"one space goes, others stay", S("data:  a \n\n"), S("-| a ;"), false},
    {"a tab stays", S("data:\ta\n\n"), S("-|\ta;"), false},
    {"colons in the value", S("data: a:b: c\n\n"), S("-|a:b: c;"), false},
    {"several lines", S("data: a\ndata: b\ndata:c\n\ndata: d\n\n"), S("-|a\nb\nc;-|d;"), false},
    {"several lines, empty ones", S("data:\ndata\ndata: x\ndata:\n\n"), S("-|\n\nx\n;"), false},
    {"empty data", S("data:\n\n"), S("-|;"), false},
    {"no colon", S("data\n\n"), S("-|;"), false},
    {"one space only", S("data: \n\n"), S("-|;"), false},
    {"named", S("event: response.created\ndata: {}\n\n"), S("response.created|{};"), false},
    {"named, no data", S("event: ping\n\n"), S("ping|-;"), false},
    {"name after data, last wins", S("data: x\nevent: a\nevent:b\n\n"), S("b|x;"), false},
    {"name does not stay", S("event: a\ndata: 1\n\ndata: 2\n\n"), S("a|1;-|2;"), false},
    {"id and retry", S("id: 7\nretry: 10\ndata: x\n\n"), S("-|x;"), false},
    {"other fields", S("Data: a\ndatas: b\ndat: c\n data: d\ndata : e\nevents: f\n:data: g\n\n"),
     S(""), false},
    {"comment", S(": OPENROUTER PROCESSING\n\ndata: a\n\n"), S("-|a;"), false},
    {"comment inside", S("data: a\n: x\n:\ndata: b\n\n"), S("-|a\nb;"), false},
    {"empty lines", S("\n\n\ndata: a\n\n\n\ndata: b\n\n\n"), S("-|a;-|b;"), false},
    {"CRLF", S("event: e\r\ndata: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"), S("e|a\nb;-|c;"), false},
    {"CR", S("event: e\rdata: a\rdata: b\r\rdata: c\r\r"), S("e|a\nb;-|c;"), false},
    {"all ends of line",
     S("data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\n\ndata: e\n\rdata: f\r\r\n"),
     S("-|a\nb\nc;-|d;-|e;-|f;"), false},
    {"byte order mark", S("\xef\xbb\xbf" "data: a\n\n"), S("-|a;"), false},
    {"byte order mark, CRLF", S("\xef\xbb\xbf" "data: a\r\n\r\ndata: b\r\n\r\n"), S("-|a;-|b;"),
     false},
    {"byte order mark later is none", S("data: a\n\n\xef\xbb\xbf" "data: b\n\n"), S("-|a;"), false},
    {"two byte order marks", S("\xef\xbb\xbf\xef\xbb\xbf" "data: a\n\n"), S(""), false},
    {"half a byte order mark", S("\xef\xbb" "data: a\n\n"), S(""), false},
    {"NUL", S("data: a\0b\n\n"), S("-|a\0b;"), false},
    {"no [DONE], cut in a line", S("data: a\n\ndata: {\"b"), S("-|a;"), true},
    {"cut after a line", S("data: a\n\ndata: b\n"), S("-|a;"), true},
    {"cut after a CR", S("data: a\r\n\r\ndata: b\r\n\r"), S("-|a;-|b;"), false},
    {"bytes after [DONE]", S("data: [DONE]\n\n: bye\n\ndata: late\n\nx"), S("-|[DONE];-|late;"),
     true},
    {"nothing", S(""), S(""), false},
};
/* clang-format on */

static void check_log(const row_t *row, const log_t *log, const char *how, size_t at)
{
    ck_assert_msg(log->raw_len == row->input.len &&
                      !memcmp(log->raw, row->input.data, log->raw_len),
                  "%s, %s %lu: raw bytes differ", row->name, how, (unsigned long)at);
    ck_assert_msg(log->text_len == row->expected.len &&
                      !memcmp(log->text, row->expected.data, log->text_len),
                  "%s, %s %lu: %s", row->name, how, (unsigned long)at, log->text);
    ck_assert_msg(log->pieces == (row->rest ? 1 : 0), "%s, %s %lu: %d pieces", row->name, how,
                  (unsigned long)at, log->pieces);
}

static bool feed(aip_sse_t *sse, const char *data, size_t len, log_t *log)
{
    /* A copy of exactly this size: a read beyond it is seen, and nothing may point into an earlier
     * feed. */
    char *copy = malloc(len ? len : 1);
    bool ok;

    memcpy(copy, data, len);
    ok = aip_sse_feed(sse, copy, len, on_event, log);
    memset(copy, '#', len);
    free(copy);
    return ok;
}

START_TEST(test_events)
{
    const row_t *row = &rows[_i];
    size_t n = row->input.len;
    aip_sse_t *sse;

    for (size_t i = 0; i <= n; i++) {
        for (size_t j = i; j <= n; j++) {
            log_t log = {.raw_len = 0};

            sse = aip_sse_create(pool, 4096);
            ck_assert(feed(sse, row->input.data, i, &log));
            ck_assert(feed(sse, row->input.data + i, j - i, &log));
            ck_assert(feed(sse, row->input.data + j, n - j, &log));
            ck_assert(aip_sse_finish(sse, on_event, &log));
            check_log(row, &log, "split at", i * 1000 + j);
        }
        apr_pool_clear(pool);
    }
    {
        log_t log = {.raw_len = 0};

        sse = aip_sse_create(pool, 4096);
        for (size_t i = 0; i < n; i++) {
            ck_assert(feed(sse, row->input.data + i, 1, &log));
        }
        ck_assert(aip_sse_finish(sse, on_event, &log));
        check_log(row, &log, "single bytes", 0);
    }
}
END_TEST

/* An event is out as soon as its last byte is in, also when that is a CR. */
START_TEST(test_no_delay)
{
    static const char *const ends[] = {"\n\n", "\r\n\r\n", "\r\r", "\n\r"};

    for (size_t i = 0; i < COUNT(ends); i++) {
        aip_sse_t *sse = aip_sse_create(pool, 100);
        log_t log = {.raw_len = 0};

        feed(sse, "data: a", 7, &log);
        feed(sse, ends[i], strlen(ends[i]), &log);
        ck_assert_str_eq(log.text, "-|a;");
        ck_assert_int_eq(log.calls, 1);
    }
}
END_TEST

/* limit, stop, random input */

typedef struct limit_row_t {
    const char *name;
    size_t max;
    const char *input, *expected;
    bool pieces;
} limit_row_t;

/* clang-format off */
static const limit_row_t limits[] = {
    {"exactly the limit", 9, "data: a\n\ndata: b\n\n", "-|a;-|b;", false},
    {"one over", 8, "data: a\n\n", "", true},
    {"CRLF: the last LF is free", 10, "data: a\r\n\r\n", "-|a;", false},
    {"CRLF, one over", 9, "data: a\r\n\r\n", "", true},
    {"reader recovers", 9, "data: 1\n\ndata: 234567890123456789\ndata: x\n\ndata: 4\n\n",
     "-|1;-|4;", true},
    {"no byte order mark after pieces", 12,
     "data: 34567890\n\n\xef\xbb\xbf" "data: b\n\n", "", true},
    {"limit 0", 0, "data: a\n\n: b\n\n", "", true},
};
/* clang-format on */

START_TEST(test_limit)
{
    const limit_row_t *row = &limits[_i];
    size_t n = strlen(row->input);

    for (size_t step = 1; step <= n; step++) {
        aip_sse_t *sse = aip_sse_create(pool, row->max);
        log_t log = {.raw_len = 0};

        for (size_t at = 0; at < n; at += step) {
            ck_assert(feed(sse, row->input + at, step < n - at ? step : n - at, &log));
        }
        ck_assert(aip_sse_finish(sse, on_event, &log));
        ck_assert_msg(log.raw_len == n && !memcmp(log.raw, row->input, n),
                      "%s, steps of %lu: raw bytes differ", row->name, (unsigned long)step);
        ck_assert_msg(strcmp(log.text, row->expected) == 0, "%s, steps of %lu: %s", row->name,
                      (unsigned long)step, log.text);
        ck_assert_msg((log.pieces > 0) == row->pieces, "%s, steps of %lu: %d pieces", row->name,
                      (unsigned long)step, log.pieces);
    }
}
END_TEST

/* Of an endless event no more than the limit is kept: the rest goes out as it comes. */
START_TEST(test_endless)
{
    aip_sse_t *sse = aip_sse_create(pool, 8);
    log_t log = {.raw_len = 0};

    ck_assert(feed(sse, "data: ab", 8, &log));
    ck_assert_uint_eq(log.raw_len, 0);
    for (size_t i = 9; i < 40; i++) {
        ck_assert(feed(sse, "c", 1, &log));
        ck_assert_uint_eq(log.raw_len, i);
    }
}
END_TEST

/* What on_huge saw. */
typedef struct huge_t {
    char *want;
    size_t len;
    int events;
} huge_t;

static bool on_huge(void *ctx, const aip_sse_event_t *event)
{
    huge_t *huge = ctx;

    ck_assert(!event->partial);
    ck_assert(event->data.len == huge->len && memcmp(event->data.data, huge->want, huge->len) == 0);
    huge->events++;
    return true;
}

/* Events of more than 64 KiB in small reads are reported whole, their lines joined. */
START_TEST(test_huge)
{
    enum { LINE = 90000, READ = 1000 };
    aip_sse_t *sse = aip_sse_create(pool, 3 * LINE);
    char *line = apr_palloc(pool, LINE + 1), *text;
    huge_t huge = {0};

    memset(line, 'x', LINE);
    line[LINE] = '\0';
    text = apr_pstrcat(pool, "data: ", line, "\nevent: e\ndata: ", line, "\n\n", NULL);
    huge.want = apr_pstrcat(pool, line, "\n", line, NULL);
    huge.len = 2 * LINE + 1;
    for (int round = 1; round <= 3; round++) {
        for (size_t at = 0, n = strlen(text); at < n; at += READ) {
            ck_assert_int_eq(huge.events, round - 1);
            ck_assert(aip_sse_feed(sse, text + at, READ < n - at ? READ : n - at, on_huge, &huge));
        }
        ck_assert_int_eq(huge.events, round);
    }
}
END_TEST

START_TEST(test_stop)
{
    aip_sse_t *sse = aip_sse_create(pool, 100);
    log_t log = {.stop_after = 2};

    ck_assert(!feed(sse, "data: a\n\ndata: b\n\ndata: c\n\nrest", 31, &log));
    ck_assert_str_eq(log.text, "-|a;-|b;");
    ck_assert(!feed(sse, "data: d\n\n", 9, &log));
    ck_assert(!aip_sse_finish(sse, on_event, &log));
    ck_assert_int_eq(log.calls, 2);
}
END_TEST

/* Random bytes from an alphabet that makes events likely: raw parts add up, and splitting changes
 * no event. */
START_TEST(test_random)
{
    static const char *const words[] = {
        "data", "event", ":", ": ",           "\n",          "\r",
        "\r\n", "\n\n",  "x", "\xef\xbb\xbf", "data: y\n\n", "long long long value"};
    unsigned seed = 1;
    char text[600];

    for (int round = 0; round < 3000; round++) {
        size_t max = (size_t)rand_r(&seed) % 80, n = 0;
        log_t whole = {.raw_len = 0}, cut = {.raw_len = 0};
        aip_sse_t *a = aip_sse_create(pool, max), *b = aip_sse_create(pool, max);

        for (int k = rand_r(&seed) % 25; k > 0; k--) {
            const char *word = words[(size_t)rand_r(&seed) % COUNT(words)];

            memcpy(text + n, word, strlen(word));
            n += strlen(word);
        }
        ck_assert(feed(a, text, n, &whole) && aip_sse_finish(a, on_event, &whole));
        for (size_t at = 0, step; at < n; at += step) {
            step = 1 + (size_t)rand_r(&seed) % 9;
            step = step < n - at ? step : n - at;
            ck_assert(feed(b, text + at, step, &cut));
        }
        ck_assert(aip_sse_finish(b, on_event, &cut));
        ck_assert(whole.raw_len == n && memcmp(whole.raw, text, n) == 0);
        ck_assert(cut.raw_len == n && memcmp(cut.raw, text, n) == 0);
        ck_assert_str_eq(whole.text, cut.text);
        apr_pool_clear(pool);
    }
}
END_TEST

Suite *sse_suite(void);

Suite *sse_suite(void)
{
    Suite *suite = suite_create("sse");
    TCase *tc = tcase_create("reader");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_events, 0, ROWS(rows));
    tcase_add_test(tc, test_no_delay);
    tcase_add_loop_test(tc, test_limit, 0, ROWS(limits));
    tcase_add_test(tc, test_endless);
    tcase_add_test(tc, test_huge);
    tcase_add_test(tc, test_stop);
    tcase_add_test(tc, test_random);
    suite_add_tcase(suite, tc);
    return suite;
}
