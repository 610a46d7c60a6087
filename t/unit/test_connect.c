/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels: the request for one, byte for byte, and every answer a proxy may give, also in pieces.
 */

#include <string.h>

#include "aip/egress.h"
#include "fixture.h"

Suite *connect_suite(void);

START_TEST(asks)
{
    aip_egress_t egress = {.proxy_host = "proxy", .proxy_auth = "user:pass word"};
    ck_assert_str_eq(aip_connect_head(&egress, "api.example.com", 443, pool),
                     "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n"
                     "Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n\r\n");
    egress.proxy_auth = NULL;
    ck_assert_str_eq(aip_connect_head(&egress, "::1", 8080, pool),
                     "CONNECT [::1]:8080 HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n");
    egress.proxy_auth = "{vault://env/NOT_FETCHED}"; /* not without what was asked for */
    ck_assert_ptr_null(aip_connect_head(&egress, "api.example.com", 443, pool));
}
END_TEST

static const struct {
    const char *answer;
    aip_connect_e result;
    int status;
} answers[] = {
    {"", AIP_CONNECT_MORE, 0},
    {"HTTP/1.1 200 Connection established\r\n\r\n", AIP_CONNECT_OPEN, 200},
    {"HTTP/1.0 200 OK\r\nProxy-agent: x\r\n\r\n", AIP_CONNECT_OPEN, 200},
    {"HTTP/1.1 204\r\n\r\n", AIP_CONNECT_OPEN, 204},
    {"HTTP/1.1 200 \n\n", AIP_CONNECT_OPEN, 200},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", AIP_CONNECT_OPEN, 200},
    {"HTTP/1.1 200 OK\r\n\r\nx", AIP_CONNECT_BAD, 200},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", AIP_CONNECT_OPEN, 200},
    {"HTTP/1.1 100 Continue\r\n\r\n", AIP_CONNECT_MORE, 0},
    {"HTTP/1.1 100 Continue\r\n\r\nx", AIP_CONNECT_BAD, 0},
    {"HTTP/1.1 101 Switching\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", AIP_CONNECT_NO, 403},
    {"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n", AIP_CONNECT_NO, 407},
    {"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", AIP_CONNECT_NO, 302},
    {"HTTP/1.1 502 x\r\n\r\n", AIP_CONNECT_NO, 502},
    {"HTTP/1.1 200 OK\r\n", AIP_CONNECT_MORE, 0},
    {"HTTP/2 200 OK\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"HTTP/1.x 200 OK\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"HTTP/1.1 20 OK\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"HTTP/1.1 2000 OK\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"HTTP/1.1 600 OK\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"HTTP/1.1  200 OK\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"SSH-2.0-x\r\n", AIP_CONNECT_BAD, 0},
    {"\r\nHTTP/1.1 200 OK\r\n\r\n", AIP_CONNECT_BAD, 0},
    {"\x15\x03\x01", AIP_CONNECT_BAD, 0},
};

START_TEST(understands)
{
    int status = -1;
    size_t len = strlen(answers[_i].answer);
    ck_assert_msg(aip_connect_answer(answers[_i].answer, len, &status) == answers[_i].result, "%s",
                  answers[_i].answer);
    ck_assert_int_eq(status, answers[_i].status);
    if (answers[_i].result != AIP_CONNECT_OPEN) {
        return;
    }
    for (size_t n = 0; n < len; n++) { /* nothing is decided before the last byte */
        char *piece = apr_pstrmemdup(pool, answers[_i].answer, n);
        ck_assert_int_eq(aip_connect_answer(piece, n, &status), AIP_CONNECT_MORE);
    }
}
END_TEST

Suite *connect_suite(void)
{
    Suite *suite = suite_create("connect");
    TCase *tcase = tcase_create("connect");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_test(tcase, asks);
    tcase_add_loop_test(tcase, understands, 0, ROWS(answers));
    suite_add_tcase(suite, tcase);
    return suite;
}
