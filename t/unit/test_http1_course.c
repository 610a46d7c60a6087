/* SPDX-License-Identifier: Apache-2.0 */
/* The course of an HTTP/1.1 exchange: order of calls, short and failing writes, early answers,
 * every limit of time, the client that leaves, draining, and a sink that stops. Responses as such:
 * test_http1.c. */

#include "http1_peer.h"

typedef struct course_row_t {
    const char *name;
    step_t in[STEPS], out[STEPS];
    apr_interval_time_t deadline; /* after the start, 0: none */
    aip_outcome_e outcome;
    int status;
    bool reusable;
    long elapsed_ms;
    size_t written;
    const char *body;
    const char *trace; /* NULL: does not matter */
    bool tls_failed;
} course_row_t;

#define HEAD5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
#define GOOD5 BYTES(HEAD5 "hello")
#define EARLY BYTES("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")

/* clang-format off */
static const course_row_t courses[] = {
    {"wait comes before the first read", {GOOD5}, {END(NONE)}, 0, OK, 200, true, 0, REQUEST_LEN,
     "hello", "wpr", false},
    {"read comes before a later wait", {BYTES("HTTP/1.1 200"), PAUSE(9),
     BYTES(" OK\r\nContent-Length: 1\r\n\r\na")}, {END(NONE)}, 0, OK, 200, true, 9, REQUEST_LEN,
     "a", "wprrpr", false},
    {"held data goes out before a wait", {BYTES(HEAD5 "he"), PAUSE(9), BYTES("llo")}, {END(NONE)},
     0, OK, 200, true, 9, REQUEST_LEN, "hello", "wprrfpr", false},
    {"nothing goes out when more is there", {BYTES(HEAD5 "he"), BYTES("llo")}, {END(NONE)}, 0, OK,
     200, true, 0, REQUEST_LEN, "hello", "wprr", false},
    {"held data goes out once", {BYTES(HEAD5), NOISE(5), NOISE(5), BYTES("hello")}, {END(NONE)}, 0,
     OK, 200, true, 10, REQUEST_LEN, "hello", "wprrfprpr", false},
    {"short writes", {GOOD5}, {TAKE(1), TAKE(sizeof(REQUEST_HEAD)), TAKE(1)}, 0, OK, 200, true, 0,
     REQUEST_LEN, "hello", "wwwwpr", false},
    {"blocked write goes on", {PAUSE(500), GOOD5}, {TAKE(7), PAUSE(200), TAKE(9), PAUSE(200)}, 0,
     OK, 200, true, 500, REQUEST_LEN, "hello", NULL, false},

    {"write blocks for ever", {END(NONE)}, {PAUSE(9999)}, 0, AIP_OUTCOME_WRITE_TIMEOUT, 0, false,
     300, 0, "", "wrp", false},
    {"write stops in the middle", {END(NONE)}, {TAKE(5), PAUSE(200), TAKE(5), PAUSE(9999)}, 0,
     AIP_OUTCOME_WRITE_TIMEOUT, 0, false, 500, 10, "", NULL, false},
    {"write fails at once", {GOOD5}, {END(RESET)}, 0, DROP, 0, false, 0, 0, "", "w", false},
    {"handshake fails", {END(EOF)}, {END(RESET)}, 0, AIP_OUTCOME_TLS, 0, false, 0, 0, "", "w",
     true},
    {"handshake fails while waiting", {PAUSE(20), END(RESET)}, {PAUSE(9999)}, 0, AIP_OUTCOME_TLS, 0,
     false, 20, 0, "", NULL, true},
    {"a byte was sent: no promise of TLS", {END(RESET)}, {TAKE(1), END(RESET)}, 0, DROP, 0, false,
     0, 1, "", NULL, true},
    {"write fails in the middle", {END(RESET)}, {TAKE(5), END(RESET)}, 0, DROP, 0, false, 0, 5, "",
     "wwr", false},
    {"write fails, silence", {END(NONE)}, {TAKE(5), END(RESET)}, 0, DROP, 0, false, 0, 5, "", "wwr",
     false},
    {"write fails, answer is there", {EARLY}, {TAKE(5), END(RESET)}, 0, OK, 413, false, 0, 5, "big",
     NULL, false},
    {"closed while writing", {END(EOF)}, {TAKE(5), PAUSE(9999)}, 0, DROP, 0, false, 0, 5, "", NULL,
     false},
    {"answer while writing", {PAUSE(50), EARLY}, {TAKE(50), PAUSE(9999)}, 0, OK, 413, false, 50, 50,
     "big", NULL, false},
    {"answer while writing, in pieces", {BYTES("HTTP/1.1 4"), PAUSE(20),
     BYTES("13 X\r\nContent-Length: 1\r\n\r\n"), PAUSE(9), BYTES("a")}, {TAKE(9), PAUSE(9999)}, 0,
     OK, 413, false, 29, 9, "a", NULL, false},
    {"interim answer while writing", {BYTES("HTTP/1.1 100 Continue\r\n\r\n"), PAUSE(400), GOOD5},
     {TAKE(9), PAUSE(200)}, 0, OK, 200, true, 400, REQUEST_LEN, "hello", NULL, false},
    {"interim answer while writing, in pieces",
     {BYTES("HTTP/1.1 "), PAUSE(20), BYTES("100 C\r\n"), PAUSE(20), BYTES("\r\n"), PAUSE(20),
     GOOD5}, {TAKE(9), PAUSE(50)}, 0, OK, 200, true, 60, REQUEST_LEN, "hello", NULL, false},
    {"an early head has its full time", {PAUSE(250), BYTES("HTTP/1.1 413 X\r\n"), PAUSE(600),
     BYTES("Content-Length: 0\r\n\r\n")}, {TAKE(9), PAUSE(9999)}, 0, OK, 413, false, 850, 9, "",
     NULL, false},
    {"interim and final answer while writing",
     {BYTES("HTTP/1.1 100 C\r\nX: y\r\n\r\nHTTP/1.1 413 X\r\n"), PAUSE(9),
     BYTES("Content-Length: 0\r\n\r\n")}, {TAKE(9), PAUSE(200)}, 0, OK, 413, false, 9, 9, "", NULL,
     false},
    {"garbage while writing", {BYTES("what?")}, {TAKE(9), PAUSE(200)}, 0, BAD, 0, false, 0, 9, "",
     NULL, false},
    {"answer to nothing", {BYTES("HTTP/1.1 408 X\r\nContent-Length: 0\r\n\r\n")}, {PAUSE(9999)}, 0,
     DROP, 0, false, 0, 0, "", NULL, false},

    {"silence", {END(NONE)}, {END(NONE)}, 0, AIP_OUTCOME_FIRST_BYTE_TIMEOUT, 0, false, 700,
     REQUEST_LEN, "", "wp", false},
    {"head trickles", {BYTES("HTTP"), PAUSE(300), BYTES("/1.1 200"), PAUSE(300), BYTES(" OK\r\n"),
     PAUSE(300), BYTES("\r\n")}, {END(NONE)}, 0, AIP_OUTCOME_FIRST_BYTE_TIMEOUT, 0, false, 700,
     REQUEST_LEN, "", NULL, false},
    {"interim answers do not extend it", {BYTES("HTTP/1.1 102 P\r\n\r\n"), PAUSE(600),
     BYTES("HTTP/1.1 102 P\r\n\r\n"), PAUSE(600), GOOD5}, {END(NONE)}, 0,
     AIP_OUTCOME_FIRST_BYTE_TIMEOUT, 0, false, 700, REQUEST_LEN, "", NULL, false},
    {"time of the head starts after the write", {PAUSE(850), GOOD5}, {TAKE(9), PAUSE(250)}, 0, OK,
     200, true, 850, REQUEST_LEN, "hello", NULL, false},
    {"body pauses within the limit", {BYTES(HEAD5), PAUSE(600), BYTES("he"), PAUSE(600),
     BYTES("llo")}, {END(NONE)}, 0, OK, 200, true, 1200, REQUEST_LEN, "hello", NULL, false},
    {"body stalls", {BYTES(HEAD5 "he")}, {END(NONE)}, 0, AIP_OUTCOME_IDLE_TIMEOUT, 200, false, 700,
     REQUEST_LEN, "he", NULL, false},
    {"noise does not extend it", {BYTES(HEAD5 "he"), NOISE(500), NOISE(500), BYTES("llo")},
     {END(NONE)}, 0, AIP_OUTCOME_IDLE_TIMEOUT, 200, false, 700, REQUEST_LEN, "he", NULL, false},

    {"deadline before the start", {GOOD5}, {END(NONE)}, -1, AIP_OUTCOME_TOTAL_TIMEOUT, 0, false, 0,
     0, "", "", false},
    {"deadline while writing", {END(NONE)}, {TAKE(4), PAUSE(9999)}, MS(250),
     AIP_OUTCOME_TOTAL_TIMEOUT, 0, false, 250, 4, "", NULL, false},
    {"deadline in the head", {END(NONE)}, {END(NONE)}, MS(400), AIP_OUTCOME_TOTAL_TIMEOUT, 0, false,
     400, REQUEST_LEN, "", NULL, false},
    {"deadline in the body", {BYTES(HEAD5), PAUSE(600), BYTES("he"), PAUSE(600), BYTES("llo")},
     {END(NONE)}, MS(1000), AIP_OUTCOME_TOTAL_TIMEOUT, 200, false, 1000, REQUEST_LEN, "he", NULL,
     false},
    {"deadline while data never pauses", {BYTES(HEAD5), BUSY(600), BYTES("he"), BUSY(600),
     BYTES("l"), BUSY(600), BYTES("lo")}, {END(NONE)}, MS(1000), AIP_OUTCOME_TOTAL_TIMEOUT, 200,
     false, 1200, REQUEST_LEN, "hel", NULL, false},
    {"deadline later than the rest", {END(NONE)}, {END(NONE)}, MS(5000),
     AIP_OUTCOME_FIRST_BYTE_TIMEOUT, 0, false, 700, REQUEST_LEN, "", NULL, false},

    {"client leaves while writing", {END(GONE)}, {TAKE(4), PAUSE(9)}, 0, AIP_OUTCOME_CLIENT_GONE, 0,
     false, 0, 4, "", NULL, false},
    {"client leaves before the head", {PAUSE(99), END(GONE)}, {END(NONE)}, 0,
     AIP_OUTCOME_CLIENT_GONE, 0, false, 99, REQUEST_LEN, "", NULL, false},
    {"client leaves in the body", {BYTES(HEAD5 "h"), END(GONE)}, {END(NONE)}, 0,
     AIP_OUTCOME_CLIENT_GONE, 200, false, 0, REQUEST_LEN, "h", NULL, false},
    {"wait fails before the head", {END(BROKEN)}, {END(NONE)}, 0, DROP, 0, false, 0, REQUEST_LEN,
     "", NULL, false},
    {"wait fails in the body", {BYTES(HEAD5 "h"), END(BROKEN)}, {END(NONE)}, 0, CUT, 200, false, 0,
     REQUEST_LEN, "h", NULL, false},
    {"wait fails in a body until close", {BYTES("HTTP/1.1 200 OK\r\n\r\nab"), END(BROKEN)},
     {END(NONE)}, 0, CUT, 200, false, 0, REQUEST_LEN, "ab", NULL, false},
};
/* clang-format on */

START_TEST(test_course)
{
    const course_row_t *row = &courses[_i];
    aip_http1_limits_t limits = usual;
    peer_t p = {.tls_failed = row->tls_failed};
    seen_t s = {0};
    aip_http1_result_t r;

    memcpy(p.in, row->in, sizeof(p.in));
    memcpy(p.out, row->out, sizeof(p.out));
    limits.deadline = row->deadline ? START + row->deadline : 0;
    r = run(&p, &s, &limits);
    ck_assert_msg(r.outcome == row->outcome, "%s: outcome %s, expected %s", row->name,
                  aip_outcome_name(r.outcome), aip_outcome_name(row->outcome));
    ck_assert_msg(s.status == row->status, "%s: status %d", row->name, s.status);
    ck_assert_msg(r.reusable == row->reusable, "%s: reusable %d", row->name, r.reusable);
    ck_assert_msg(p.now - START == MS(row->elapsed_ms), "%s: %ld ms", row->name,
                  (long)apr_time_as_msec(p.now - START));
    ck_assert_msg(r.written == row->written, "%s: %lu bytes written", row->name,
                  (unsigned long)r.written);
    ck_assert_msg(s.body_len == strlen(row->body) &&
                      (!s.body || !memcmp(s.body, row->body, s.body_len)),
                  "%s: body '%.*s'", row->name, (int)s.body_len, s.body ? s.body : "");
    ck_assert_msg(!row->trace || strcmp(p.trace, row->trace) == 0, "%s: trace %s", row->name,
                  p.trace);
}
END_TEST

/* Interim answers that fill the buffer while the request is blocked end the writing: there is no
 * room to look further. */
START_TEST(test_interim_flood)
{
    static const char start[] = "HTTP/1.1 100 C\r\nX: ", end[] = "\r\n\r\n" HEAD5 "hello";
    size_t n = AIP_HTTP1_LINE_MAX - 10;
    char *text = apr_palloc(pool, n + sizeof(end));
    peer_t p = {.out = {TAKE(9), PAUSE(250)}};
    seen_t s = {.on_wait = AIP_SINK_CONTINUE};
    aip_http1_result_t r;

    memset(text, 'x', n);
    memcpy(text, start, sizeof(start) - 1);
    memcpy(text + n, end, sizeof(end));
    p.in[0] = (step_t){OP_BYTES, text, n + sizeof(end) - 1, 0};
    r = run(&p, &s, &usual);
    ck_assert_int_eq(r.outcome, OK);
    ck_assert_uint_eq(r.written, 9);
    ck_assert_uint_eq(s.body_len, 5);
    ck_assert(!r.reusable);
}
END_TEST

/* A client that is slow to take what is held does not use up the time of the peer. */
START_TEST(test_slow_flush)
{
    peer_t p = {.in = {BYTES(HEAD5 "he"), PAUSE(600), BYTES("llo")}};
    seen_t s = {.slow = MS(5000)};

    ck_assert_int_eq(run(&p, &s, &usual).outcome, OK);
    ck_assert_int_eq(s.waits, 1);
}
END_TEST

/* what the sink answers */

typedef struct drain_row_t {
    const char *name;
    step_t in[STEPS];
    size_t body; /* this many bytes of body follow the first step */
    apr_interval_time_t deadline;
    bool reusable;
    long elapsed_ms;
    size_t reported;
} drain_row_t;

#define HEAD500(n) BYTES("HTTP/1.1 500 X\r\nContent-Length: " n "\r\n\r\n")

/* clang-format off */
static const drain_row_t drains[] = {
    {"short body", {HEAD500("4")}, 4, 0, true, 0, 4},
    {"no body", {BYTES("HTTP/1.1 204 X\r\n\r\n")}, 0, 0, true, 0, 0},
    {"closes", {BYTES("HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: 4\r\n\r\n")}, 4, 0,
     false, 0, 4},
    {"until close", {BYTES("HTTP/1.1 500 X\r\n\r\nab"), END(EOF)}, 0, 0, false, 0, 2},
    {"most bytes", {HEAD500("65536")}, 65536, 0, true, 0, 65536},
    {"more bytes", {HEAD500("65537")}, 65537, 0, false, 0, 65536},
    {"many bytes", {HEAD500("300000")}, 300000, 0, false, 0, 65536},
    {"silence", {HEAD500("4")}, 0, 0, false, 50, 0},
    {"second piece in time", {HEAD500("4"), PAUSE(49), BYTES("abcd")}, 0, 0, true, 49, 4},
    {"trickle does not extend it", {HEAD500("9"), PAUSE(20), BYTES("a"), PAUSE(20), BYTES("b"),
     PAUSE(20), BYTES("c"), PAUSE(20), BYTES("d")}, 0, 0, false, 50, 2},
    {"late head has its own 50 ms", {PAUSE(500), HEAD500("2"), PAUSE(40), BYTES("ab")}, 0, 0, true,
     540, 2},
    {"data never pauses", {HEAD500("4"), BUSY(40), BYTES("a"), BUSY(40), BYTES("b"), BUSY(40),
     BYTES("cd")}, 0, 0, false, 80, 2},
    {"reset", {HEAD500("4"), BYTES("ab"), END(RESET)}, 0, 0, false, 0, 2},
    {"bad chunk", {BYTES("HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")}, 0, 0,
     false, 0, 0},
    {"deadline first", {HEAD500("4")}, 0, MS(30), false, 30, 0},
};
/* clang-format on */

START_TEST(test_drain)
{
    const drain_row_t *row = &drains[_i];
    char *body = apr_pcalloc(pool, row->body + 1);
    aip_http1_limits_t limits = usual;
    peer_t p = {.seed = 0};
    seen_t s = {.on_head = AIP_SINK_DRAIN};
    aip_http1_result_t r;

    memcpy(p.in, row->in, sizeof(p.in));
    if (row->body > 0) {
        p.in[1] = (step_t){OP_BYTES, body, row->body, 0};
    }
    limits.deadline = row->deadline ? START + row->deadline : 0;
    r = run(&p, &s, &limits);
    ck_assert_msg(r.outcome == AIP_OUTCOME_WITHHELD, "%s: outcome %s", row->name,
                  aip_outcome_name(r.outcome));
    ck_assert_msg(r.reusable == row->reusable, "%s: reusable %d", row->name, r.reusable);
    ck_assert_msg(p.now - START == MS(row->elapsed_ms), "%s: %ld ms", row->name,
                  (long)apr_time_as_msec(p.now - START));
    ck_assert_msg(s.body_len == row->reported, "%s: %lu bytes", row->name,
                  (unsigned long)s.body_len);
    ck_assert_int_eq(s.waits, 0); /* nothing is held: no reason to ask */
}
END_TEST

typedef struct stop_row_t {
    const char *name;
    step_t in[STEPS];
    aip_sink_e head, body, wait;
    size_t reported;
} stop_row_t;

#define GO AIP_SINK_CONTINUE
#define STOP AIP_SINK_STOP

/* clang-format off */
static const stop_row_t stops[] = {
    {"at the head", {GOOD5}, STOP, GO, GO, 0},
    {"at the body", {GOOD5}, GO, STOP, GO, 5},
    {"at the wait", {BYTES(HEAD5 "he"), PAUSE(9), BYTES("llo")}, GO, GO, STOP, 2},
    {"at a chunk", {BYTES(CHUNKED "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")}, GO, STOP, GO, 2},
    {"in a body until close", {BYTES("HTTP/1.1 200 OK\r\n\r\nab"), END(EOF)}, GO, STOP, GO, 2},
    {"while draining", {HEAD500("4"), BYTES("abcd")}, AIP_SINK_DRAIN, STOP, GO, 4},
};
/* clang-format on */

START_TEST(test_stop)
{
    const stop_row_t *row = &stops[_i];
    peer_t p = {.seed = 0};
    seen_t s = {.on_head = row->head, .on_body = row->body, .on_wait = row->wait};
    aip_http1_result_t r;

    memcpy(p.in, row->in, sizeof(p.in));
    r = run(&p, &s, &usual);
    ck_assert_msg(r.outcome == AIP_OUTCOME_STOPPED, "%s: outcome %s", row->name,
                  aip_outcome_name(r.outcome));
    ck_assert_msg(!r.reusable, "%s: reusable", row->name);
    ck_assert_msg(s.body_len == row->reported, "%s: %lu bytes", row->name,
                  (unsigned long)s.body_len);
}
END_TEST

Suite *http1_course_suite(void);

Suite *http1_course_suite(void)
{
    Suite *suite = suite_create("http1_course");
    TCase *tc = tcase_create("course");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, test_course, 0, ROWS(courses));
    tcase_add_test(tc, test_interim_flood);
    tcase_add_test(tc, test_slow_flush);
    tcase_add_loop_test(tc, test_drain, 0, ROWS(drains));
    tcase_add_loop_test(tc, test_stop, 0, ROWS(stops));
    suite_add_tcase(suite, tc);
    return suite;
}
