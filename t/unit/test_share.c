/* SPDX-License-Identifier: Apache-2.0 */
/* Machines that exchange figures through a real Redis: sums of the others, nothing counted twice,
 * machines that disappear, a Redis that goes away or refuses, and text that is not as it should
 * be. */
#include "aip/share.h"

#include "redis_fixture.h"
#include "suites.h"

#include <apr_strings.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SEC apr_time_from_sec(1)
#define T0 apr_time_from_sec(1795000000)
#define WINDOW (60 * SEC)
#define KEY "ai_proxy_adv:balance:"
#define KEY_1 KEY "0000000000000000000000000000000000000000000000000000000000000001"
#define KEY_2 KEY "0000000000000000000000000000000000000000000000000000000000000002"
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static aip_share_t *machine(const char *name, aip_target_state_t *states, int n)
{
    aip_shared_target_t *targets = apr_pcalloc(redis_test_pool, (apr_size_t)n * sizeof *targets);
    for (int i = 0; i < n; i++) {
        targets[i] = (aip_shared_target_t){.id = apr_psprintf(redis_test_pool, "%064x", i + 1),
                                           .state = &states[i],
                                           .window = WINDOW};
    }
    return aip_share_create(&redis_conf, name, targets, n, redis_test_pool);
}

/* An answer: `tokens` of the prompt, as many of the completion, 0.25 of cost. */
static void use(aip_target_state_t *state, int tokens, apr_time_t now)
{
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    usage.prompt_tokens = usage.completion_tokens = tokens;
    usage.total_tokens = 2 * tokens;
    aip_state_add_usage(state, &usage, 0.25, WINDOW, now);
}

static apr_status_t try_exchange(aip_share_t *share, apr_time_t now)
{
    redis_err = (aip_error_t){0};
    return aip_share_exchange(share, now, redis_test_pool, &redis_err);
}

static void exchange(aip_share_t *share, apr_time_t now)
{
    ASSERT_OK(try_exchange(share, now));
}

static double others(const aip_target_state_t *state, int kind, apr_time_t now)
{
    return aip_decay_read(&state->other_usage[kind], now, WINDOW);
}

#define ASSERT_NEAR(is, expected)                                                                  \
    ck_assert_double_eq_tol((is), (expected), 1e-6 + 1e-5 * (double)(expected))

/* What redis_admin_do() cannot say: bytes with spaces and NUL. */
static void put(const char *key, aip_span_t field, aip_span_t value)
{
    const char *argv[] = {"HSET", key, field.data, value.data};
    const size_t lens[] = {4, strlen(key), field.len, value.len};
    redisReply *reply = redisCommandArgv(redis_admin, 4, argv, lens);
    ck_assert(reply && reply->type == REDIS_REPLY_INTEGER);
    freeReplyObject(reply);
}

static void put_text(const char *key, const char *field, const char *value)
{
    put(key, (aip_span_t){field, strlen(field)}, (aip_span_t){value, strlen(value)});
}

START_TEST(sums)
{
    aip_target_state_t a[2] = {0}, b[2] = {0}, c[2] = {0};
    aip_share_t *first = machine("a", a, 2), *second = machine("b", b, 2),
                *third = machine("c", c, 2);
    use(&a[0], 100, T0);
    use(&b[0], 10, T0);
    use(&b[1], 7, T0);
    exchange(first, T0);
    exchange(second, T0);
    exchange(third, T0);
    exchange(first, T0);
    ASSERT_NEAR(others(&a[0], AIP_USAGE_TOTAL, T0), 20);
    ASSERT_NEAR(others(&a[1], AIP_USAGE_PROMPT, T0), 7);
    ASSERT_NEAR(others(&b[0], AIP_USAGE_TOTAL, T0), 200);
    ASSERT_NEAR(others(&b[1], AIP_USAGE_TOTAL, T0), 0);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_TOTAL, T0), 220);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_COMPLETION, T0), 110);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_COST, T0), 0.5);
    exchange(third, T0); /* once more changes nothing */
    ASSERT_NEAR(others(&c[0], AIP_USAGE_TOTAL, T0), 220);
    /* its own figures stay its own */
    ASSERT_NEAR(aip_decay_read(&a[0].usage[AIP_USAGE_TOTAL], T0, WINDOW), 200);
    ck_assert(atomic_load(&c[0].usage[AIP_USAGE_TOTAL]) == 0);
}
END_TEST

/* Figures of different ages add up to what the machines have at this moment: whether one has told
 * them anew or not is all the same. */
START_TEST(fading)
{
    const double e = 2.718281828;
    aip_target_state_t a[1] = {0}, b[1] = {0}, c[1] = {0};
    aip_share_t *first = machine("a", a, 1), *second = machine("b", b, 1),
                *third = machine("c", c, 1);
    use(&a[0], 100, T0);
    exchange(first, T0);
    use(&b[0], 10, T0 + WINDOW);
    exchange(second, T0 + WINDOW);
    exchange(third, T0 + WINDOW);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_TOTAL, T0 + WINDOW), 200 / e + 20);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_TOTAL, T0 + 2 * WINDOW), (200 / e + 20) / e);
    exchange(third, T0 + 2 * WINDOW);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_TOTAL, T0 + 2 * WINDOW), (200 / e + 20) / e);
    exchange(first, T0 + 2 * WINDOW);
    exchange(third, T0 + 2 * WINDOW);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_TOTAL, T0 + 2 * WINDOW), (200 / e + 20) / e);
    /* a clock that is a little behind the others takes their figures as they are */
    exchange(third, T0 + 2 * WINDOW - 2 * SEC);
    ASSERT_NEAR(others(&c[0], AIP_USAGE_TOTAL, T0 + 2 * WINDOW - 2 * SEC),
                200 / e / e + 20 * exp(-58.0 / 60));
}
END_TEST

START_TEST(latencies)
{
    aip_target_state_t a[1] = {0}, b[1] = {0}, c[1] = {0};
    aip_share_t *first = machine("a", a, 1), *second = machine("b", b, 1),
                *third = machine("c", c, 1);
    const aip_decay_t *e2e = &c[0].other_latency[AIP_LATENCY_E2E],
                      *tpot = &c[0].other_latency[AIP_LATENCY_TPOT];
    aip_state_add_latency(&a[0], 2 * SEC, 100, T0);
    aip_state_add_latency(&b[0], 4 * SEC, -1, T0);
    exchange(first, T0);
    exchange(second, T0);
    exchange(third, T0 + 3 * SEC);
    ASSERT_NEAR(aip_decay_last(e2e), 3e6);
    ASSERT_NEAR(aip_decay_last(tpot), 2e4); /* the other one has not measured it */
    ck_assert(aip_decay_age(e2e, T0 + 3 * SEC) == 3 * SEC);
    ck_assert(atomic_load(&c[0].latency[AIP_LATENCY_E2E]) == 0);
    ASSERT_NEAR(aip_decay_last(&a[0].other_usage[AIP_USAGE_TOTAL]), 0);
    ASSERT_NEAR(aip_decay_last(&b[0].other_latency[AIP_LATENCY_TPOT]), 2e4);

    /* 10 s later the older one weighs 1/e of the younger one */
    aip_state_add_latency(&b[0], 8 * SEC, -1, T0 + 10 * SEC);
    exchange(second, T0 + 10 * SEC);
    exchange(third, T0 + 11 * SEC);
    ASSERT_NEAR(aip_decay_last(e2e), 1e6 * (2 + 8 * 2.718281828) / (1 + 2.718281828));
    ck_assert(aip_decay_age(e2e, T0 + 11 * SEC) == SEC);

    /* nobody measured for long: what was known last goes on ageing */
    exchange(third, T0 + 400 * SEC);
    ck_assert(aip_decay_age(e2e, T0 + 400 * SEC) == 390 * SEC);
}
END_TEST

START_TEST(disappears)
{
    aip_target_state_t a[1] = {0}, b[1] = {0};
    aip_share_t *first = machine("gone", a, 1), *second = machine("b", b, 1);
    long long left;
    use(&a[0], 100, T0);
    exchange(first, T0);
    left = redis_admin_do("PTTL " KEY_1);
    ck_assert(left > 600 * 1000 && left <= 660 * 1000); /* ten windows and a minute */
    exchange(second, T0 + 659 * SEC);
    ck_assert_int_eq(redis_admin_do("HEXISTS " KEY_1 " gone"), 1);
    exchange(second, T0 + 661 * SEC);
    ck_assert_int_eq(redis_admin_do("HEXISTS " KEY_1 " gone"), 0);
    ck_assert_double_lt(others(&b[0], AIP_USAGE_TOTAL, T0 + 661 * SEC), 0.01);
}
END_TEST

/* Without figures, and when they have faded, nothing is written and no life is prolonged. */
START_TEST(nothing_to_tell)
{
    aip_target_state_t a[2] = {0};
    aip_share_t *share = machine("a", a, 2);
    exchange(share, T0);
    ck_assert_int_eq(redis_admin_do("DBSIZE"), 0);
    use(&a[0], 1, T0);
    exchange(share, T0);
    ck_assert_int_eq(redis_admin_do("EXISTS " KEY_1), 1);
    ck_assert_int_eq(redis_admin_do("EXISTS " KEY_2), 0);
    aip_state_add_latency(&a[1], SEC, 1, T0);
    exchange(share, T0 + 60 * SEC);
    ck_assert_int_eq(redis_admin_do("EXISTS " KEY_2), 1);
    redis_admin_do("FLUSHALL");
    exchange(share, T0 + 20 * WINDOW);
    ck_assert_int_eq(redis_admin_do("DBSIZE"), 0);
}
END_TEST

#define TAIL " 200 100 100 0.5 3 20000 10 1000000 10"
#define GOOD "1 1795000000000" TAIL

static const struct {
    const char *name, *text;
    bool good, kept;
} rows[] = {
    {"good", GOOD, true, true},
    {"not measured", "1 1795000000000 200 100 100 0.5 3 - - - -", true, true},
    {"%.9g", "1 1795000000000 2e+02 1e-07 1.25e+14 0.5 3 20000 10 1000000 10", true, true},
    {"a minute ahead", "1 1795000060000" TAIL, true, true},
    {"more", "1 1795000060001" TAIL, false, true},
    {"a day ahead", "1 1795086400000" TAIL, false, true},
    {"more than a day", "1 1795086400001" TAIL, false, false},
    {"far ahead", "1 999999999999999" TAIL, false, false},
    {"too far", "1 1e+16" TAIL, false, false},
    {"10 windows old", "1 1794999340000" TAIL, true, true},
    {"more than that", "1 1794999339999" TAIL, true, false},
    {"from the beginning", "1 0" TAIL, true, false},
    {"before it", "1 -5" TAIL, false, false},
    {"next version", "2 1795000000000 {\"usage\":[1,2]}", false, true},
    {"next version, old", "2 1794990000000 {}", false, false},
    {"next version, no time", "2 {}", false, false},
    {"nearly this version", "1.05 1795000000000" TAIL, false, true},
    {"hexadecimal", "0x1 1795000000000" TAIL, false, false},
    {"trailing space", GOOD " ", false, true},
    {"trailing number", GOOD " 1", false, true},
    {"trailing newline", GOOD "\n", false, true},
    {"one missing", "1 1795000000000 200 100 100 0.5 3 20000 10 1000000", false, true},
    {"only the time", "1 1795000000000", false, false},
    {"two spaces", "1  1795000000000" TAIL, false, false},
    {"leading space", " " GOOD, false, false},
    {"negative usage", "1 1795000000000 -200 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"negative zero", "1 1795000000000 -0 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"negative cost", "1 1795000000000 200 100 100 -0.5 3 20000 10 1000000 10", false, true},
    {"negative answers", "1 1795000000000 200 100 100 0.5 -3 20000 10 1000000 10", false, true},
    {"negative latency", "1 1795000000000 200 100 100 0.5 3 -1 0 1000000 10", false, true},
    {"negative age", "1 1795000000000 200 100 100 0.5 3 20000 -10 1000000 10", false, true},
    {"latency without age", "1 1795000000000 200 100 100 0.5 3 20000 - 1000000 10", false, true},
    {"age without latency", "1 1795000000000 200 100 100 0.5 3 - 10 1000000 10", false, true},
    {"latency of a year", "1 1795000000000 200 100 100 0.5 3 20000 10 3e13 10", false, true},
    {"nan", "1 1795000000000 nan 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"NAN", "1 1795000000000 200 100 100 0.5 3 NAN 10 1000000 10", false, true},
    {"inf", "1 1795000000000 inf 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"infinity", "1 1795000000000 200 100 100 0.5 3 20000 infinity 1000000 10", false, true},
    {"overflow", "1 1795000000000 1e999 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"out of bounds", "1 1795000000000 1e300 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"plus", "1 1795000000000 +200 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"comma", "1 1795000000000 200 100 100 0,5 3 20000 10 1000000 10", false, true},
    {"no fraction", "1 1795000000000 200. 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"no exponent", "1 1795000000000 2e 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"leading zero", "1 1795000000000 0200 100 100 0.5 3 20000 10 1000000 10", false, true},
    {"words", "these are no figures", false, false},
    {"one word", "x", false, false},
    {"empty", "", false, false},
};

START_TEST(texts)
{
    aip_figures_t f;
    aip_span_t span = {rows[_i].text, strlen(rows[_i].text)};
    ck_assert_msg(aip_figures_read(span, T0, &f) == rows[_i].good, "%s", rows[_i].name);
}
END_TEST

/* The same in Redis: what is good counts, what is left over goes, what is neither is left alone. */
START_TEST(hostile_fields)
{
    aip_target_state_t b[1] = {0};
    aip_share_t *share = machine("b", b, 1);
    const bool old = strstr(rows[_i].name, "old") || strstr(rows[_i].name, "more than that") ||
                     strstr(rows[_i].name, "beginning");
    put_text(KEY_1, "a", GOOD);
    put_text(KEY_1, "hostile", rows[_i].text);
    exchange(share, T0);
    if (rows[_i].good && !old) {
        ck_assert_double_gt(others(&b[0], AIP_USAGE_TOTAL, T0), 399);
    } else {
        ck_assert_double_eq_tol(others(&b[0], AIP_USAGE_TOTAL, T0), 200, 0.01);
    }
    ck_assert_msg(redis_admin_do("HEXISTS " KEY_1 " hostile") == rows[_i].kept, "%s",
                  rows[_i].name);
    ck_assert_int_eq(redis_admin_do("HEXISTS " KEY_1 " a"), 1);
}
END_TEST

START_TEST(text_is_what_is_read)
{
    static const char *const written[] = {
        GOOD, "1 1795000000000 200 100 100 0.5 3 - - - -",
        "1 1795000000000 0.123456789 0 1.25e+14 1e-07 1e-06 0 0 8.64e+10 2147483647"};
    for (size_t i = 0; i < COUNT(written); i++) {
        aip_figures_t f;
        ck_assert(aip_figures_read((aip_span_t){written[i], strlen(written[i])}, T0, &f));
        ck_assert_str_eq(aip_figures_text(&f, redis_test_pool), written[i]);
    }
}
END_TEST

/* A span is not ended by NUL, and one inside it is no end. */
START_TEST(bytes)
{
    static const char nul[] = "1 1795000000000 200 100 100 0.5 3 20000 10 1000000 10\0 1";
    static const char digit[] = GOOD "9";
    char *longest = apr_palloc(redis_test_pool, 100000);
    aip_figures_t f;
    ck_assert(!aip_figures_read((aip_span_t){nul, sizeof nul - 1}, T0, &f));
    ck_assert(aip_figures_read((aip_span_t){digit, sizeof digit - 2}, T0, &f));
    ck_assert(f.latency_age[AIP_LATENCY_E2E] == apr_time_from_msec(10));
    ck_assert(!aip_figures_read((aip_span_t){NULL, 0}, T0, &f));
    memset(longest, '1', 100000);
    ck_assert(!aip_figures_read((aip_span_t){longest, 100000}, T0, &f));
    memset(longest, '0', 400); /* a fraction without end is no figure, either */
    longest[400] = '\0';
    longest = apr_pstrcat(redis_test_pool, GOOD, ".", longest, NULL);
    ck_assert(aip_figures_read((aip_span_t){longest, sizeof GOOD + 100}, T0, &f));
    ck_assert(!aip_figures_read((aip_span_t){longest, strlen(longest)}, T0, &f));
    for (size_t n = 0; n < sizeof GOOD - 1; n++) { /* each shorter one, in memory of its size */
        char *cut = malloc(n + 1);
        memcpy(cut, GOOD, n + 1);
        bool good = aip_figures_read((aip_span_t){cut, n}, T0, &f);
        ck_assert_msg(good == (n == sizeof GOOD - 2), "%d bytes", (int)n);
        free(cut);
    }
}
END_TEST

/* Names are compared and removed as a whole, whatever bytes they hold. */
START_TEST(hostile_names)
{
    aip_target_state_t b[1] = {0};
    aip_share_t *share = machine("b", b, 1);
    put_text(KEY_1, "a", GOOD);
    put_text(KEY_1, "", GOOD);
    put(KEY_1, AIP_SPAN("b\0x"), AIP_SPAN(GOOD));
    put(KEY_1, AIP_SPAN("a\0x"), AIP_SPAN("garbage"));
    use(&b[0], 1000, T0);
    exchange(share, T0);
    ASSERT_NEAR(others(&b[0], AIP_USAGE_TOTAL, T0), 600);
    ck_assert_int_eq(redis_admin_do("HEXISTS " KEY_1 " a"), 1);
    ck_assert_int_eq(redis_admin_do("HLEN " KEY_1), 4);
}
END_TEST

START_TEST(much_garbage)
{
    enum { N = 300 };
    static aip_target_state_t b[N];
    aip_share_t *share = machine("b", b, N);
    memset(b, 0, sizeof b);
    for (int i = 0; i < N; i++) {
        const char *key = apr_psprintf(redis_test_pool, KEY "%064x", i + 1);
        put_text(key, "a", GOOD);
        for (int k = 0; k < 70; k++) {
            put_text(key, apr_psprintf(redis_test_pool, "g%d", k), "garbage");
        }
    }
    exchange(share, T0);
    exchange(share, T0);
    for (int i = 0; i < N; i++) {
        ASSERT_NEAR(others(&b[i], AIP_USAGE_TOTAL, T0), 200);
        ck_assert_int_eq(redis_admin_do(apr_psprintf(redis_test_pool, "HLEN " KEY "%064x", i + 1)),
                         1);
    }
}
END_TEST

/* One key that is no hash does not keep the others from being exchanged. */
START_TEST(one_key_of_another_type)
{
    enum { N = 300 };
    static aip_target_state_t a[N], b[N];
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    aip_share_t *first = machine("a", a, N), *second = machine("b", b, N);
    for (int i = 0; i < N; i++) {
        use(&a[i], 1, T0);
        use(&b[i], 2, T0);
    }
    exchange(second, T0);
    exchange(first, T0);
    redis_admin_do("SET " KEY_1 " text");
    const aip_target_state_t before = a[0];
    use(&b[N - 1], 5, T0);
    ASSERT_CODE(try_exchange(second, T0), "vectordb_error");
    ck_assert_ptr_nonnull(strstr(redis_err.message, "HSET: WRONGTYPE"));
    ASSERT_CODE(try_exchange(first, T0), "vectordb_error");
    ck_assert_mem_eq(&before, &a[0], sizeof before);
    ASSERT_NEAR(others(&a[1], AIP_USAGE_TOTAL, T0), 4);
    ASSERT_NEAR(others(&a[N - 1], AIP_USAGE_TOTAL, T0), 14);
    redis_admin_do("DEL " KEY_1);
    exchange(second, T0);
    exchange(first, T0);
}
END_TEST

/* More targets than fit into one round trip, on three machines. */
START_TEST(many)
{
    enum { N = 300 };
    static aip_target_state_t a[N], b[N], c[N];
    aip_share_t *shares[] = {machine("a", a, N), machine("b", b, N), machine("c", c, N)};
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    memset(c, 0, sizeof c);
    for (int i = 0; i < N; i++) {
        use(&a[i], i + 1, T0);
        if (i % 3) { /* some have nothing to tell: replies still find their target */
            use(&b[i], 1000, T0);
        }
    }
    for (int i = 0; i < 6; i++) {
        exchange(shares[i % 3], T0);
    }
    for (int i = 0; i < N; i++) {
        int second = i % 3 ? 1000 : 0;
        ASSERT_NEAR(others(&a[i], AIP_USAGE_PROMPT, T0), second);
        ASSERT_NEAR(others(&b[i], AIP_USAGE_PROMPT, T0), i + 1);
        ASSERT_NEAR(others(&c[i], AIP_USAGE_PROMPT, T0), i + 1 + second);
    }
    exchange(aip_share_create(&redis_conf, "none", NULL, 0, redis_test_pool), T0);
}
END_TEST

/* Redis away: an error, states as they were. Back: the same share goes on. */
START_TEST(away_and_back)
{
    aip_target_state_t a[1] = {0}, b[1] = {0};
    const aip_redis_conf_t there = redis_conf;
    redis_conf.read_timeout = 200;
    aip_share_t *share = machine("a", a, 1), *other = machine("b", b, 1);
    use(&a[0], 1, T0);
    use(&b[0], 5, T0);
    exchange(other, T0);
    exchange(share, T0);
    const aip_target_state_t before = a[0];

    redis_conf.port = 1;
    ASSERT_CODE(try_exchange(machine("a", a, 1), T0), "vectordb_unreachable");
    ck_assert_mem_eq(&before, &a[0], sizeof before);
    redis_conf = there;

    use(&b[0], 5, T0);
    exchange(other, T0);
    redis_admin_do("CLIENT PAUSE 1000");
    ASSERT_CODE(try_exchange(share, T0), "vectordb_timeout");
    ck_assert_mem_eq(&before, &a[0], sizeof before);
    redis_admin_do("DBSIZE"); /* is answered when the pause is over */
    exchange(share, T0);
    ASSERT_NEAR(others(&a[0], AIP_USAGE_TOTAL, T0), 20);

    use(&b[0], 5, T0);
    exchange(other, T0);
    redis_admin_do("CLIENT KILL TYPE normal SKIPME yes");
    exchange(share, T0); /* on a connection of its own */
    ASSERT_NEAR(others(&a[0], AIP_USAGE_TOTAL, T0), 30);

    redis_admin_do("FLUSHALL"); /* it was restarted: all is written anew */
    exchange(share, T0);
    exchange(other, T0);
    ASSERT_NEAR(others(&b[0], AIP_USAGE_TOTAL, T0), 2);
    ASSERT_NEAR(others(&a[0], AIP_USAGE_TOTAL, T0), 0);
}
END_TEST

/* The rights that the header names suffice, and without any one of them something is refused; who
 * may only read still reads, and the right to sweep is needed for sweeping alone. */
START_TEST(least_rights)
{
    static const char *const rights[] = {"~ai_proxy_adv:balance:*", "+hgetall", "+hset", "+pexpire",
                                         "+hdel"};
    enum { N = COUNT(rights), HGETALL = 1, HDEL = N - 1 };
    redis_conf.username = "gw";
    redis_conf.password = PASSWORD;
    for (int without = -1; without < N; without++) {
        aip_target_state_t a[1] = {0};
        const char *user = "ACL SETUSER gw reset on >" PASSWORD;
        for (int i = 0; i < N; i++) {
            user = i == without ? user : apr_pstrcat(redis_test_pool, user, " ", rights[i], NULL);
        }
        redis_admin_do("FLUSHALL");
        redis_admin_do(user);
        put_text(KEY_1, "b", GOOD);
        put_text(KEY_1, "x", "garbage");
        use(&a[0], 1, T0);
        if (without < 0 || without == HDEL) {
            exchange(machine("a", a, 1), T0);
        } else {
            ASSERT_CODE(try_exchange(machine("a", a, 1), T0), "vectordb_auth");
        }
        ASSERT_NEAR(others(&a[0], AIP_USAGE_TOTAL, T0),
                    without == 0 || without == HGETALL ? 0 : 200);
        ck_assert_int_eq(redis_admin_do("HEXISTS " KEY_1 " x"),
                         without == 0 || without == HGETALL || without == HDEL);
    }
    redis_open_access();
}
END_TEST

Suite *share_suite(void)
{
    Suite *suite = suite_create("share");
    TCase *tc = redis_tcase_add(suite, "exchange");
    tcase_add_test(tc, sums);
    tcase_add_test(tc, fading);
    tcase_add_test(tc, latencies);
    tcase_add_test(tc, disappears);
    tcase_add_test(tc, nothing_to_tell);
    tcase_add_test(tc, many);

    tc = redis_tcase_add(suite, "hostile");
    tcase_add_loop_test(tc, texts, 0, COUNT(rows));
    tcase_add_loop_test(tc, hostile_fields, 0, COUNT(rows));
    tcase_add_test(tc, text_is_what_is_read);
    tcase_add_test(tc, bytes);
    tcase_add_test(tc, hostile_names);
    tcase_add_test(tc, much_garbage);
    tcase_add_test(tc, one_key_of_another_type);

    tc = redis_tcase_add(suite, "trouble");
    tcase_add_test(tc, away_and_back);
    tcase_add_test(tc, least_rights);
    return suite;
}
