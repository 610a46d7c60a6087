/* SPDX-License-Identifier: Apache-2.0 */
/* What all identities share: which answers are taken for tokens, which URLs may get a credential,
 * and one true exchange with a server that is as bad as it can be. */

#include <apr_network_io.h>
#include <apr_thread_proc.h>
#include <curl/curl.h>

#include "identity_fixture.h"

Suite *identity_suite(void);

static aip_token_t token;
static aip_error_t err;

/* The shortest way to a token: one request, no signature. */
static apr_status_t ask(const aip_identity_net_t *net, const char *url)
{
    aip_gcp_conf_t conf = {.metadata_url = url};
    err = (aip_error_t){0};
    token = (aip_token_t){0};
    return aip_gcp_token(&conf, net, &token, pool, &err);
}

static const struct {
    int status;
    const char *body;
    int seconds;         /* of the token "abc", or -1: refused */
    const char *message; /* part of the refusal */
} rows[] = {
    {200, "{\"access_token\":\"abc\"}", 0, NULL},
    {200, "{\"access_token\":\"abc\",\"expires_in\":60}", 60, NULL},
    {200, "{\"access_token\":\"abc\",\"expires_in\":\"60\"}", 60, NULL},
    {200, "{\"access_token\":\"abc\",\"expires_in\":60.5}", 60, NULL},
    {200, "{\"access_token\":\"abc\",\"expires_in\":86401}", 86400, NULL},
    {200, "{\"access_token\":\"abc\",\"expires_in\":1e300}", 86400, NULL},
    {200, "{\"access_token\":\"abc\",\"expires_in\":999999999999999}", 86400, NULL},
    {200, "{\"access_token\":\"abc\",\"token_type\":\"bearer\",\"more\":{\"a\":[]}}", 0, NULL},
    {200, "{\"access_token\":\"abc\",\"expires_in\":0}", -1, "expired"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":0.9}", -1, "expired"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":-60}", -1, "expired"},
    {200, "{\"access_token\":\"abc\",\"expires_on\":1000}", -1, "expired"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":\"-60\"}", -1, "no number"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":\"\"}", -1, "no number"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":\"60 \"}", -1, "no number"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":\"9999999999999999\"}", -1, "no number"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":[60]}", -1, "no number"},
    {200, "{\"access_token\":\"abc\",\"expires_in\":null}", -1, "no number"},
    {200, "{\"access_token\":\"abc\",\"token_type\":\"mac\"}", -1, "no bearer token"},
    {200, "{\"access_token\":\"abc\",\"token_type\":1}", -1, "no bearer token"},
    {200, "{\"access_token\":\"\"}", -1, "holds bytes"},
    {200, "{\"access_token\":\"abc def\"}", -1, "holds bytes"},
    {200, "{\"access_token\":\"abc\\r\\nX: y\"}", -1, "holds bytes"},
    {200, "{\"access_token\":\"abc\\u007f\"}", -1, "holds bytes"},
    {200, "{\"access_token\":\"abc\\u00e4\"}", -1, "holds bytes"},
    {200, "{\"access_token\":\"abc\\u0000\"}", -1, "no JSON object"},
    {200, "{\"access_token\":\"abc\",\"access_token\":\"def\"}", -1, "no JSON object"},
    {200, "{\"access_token\":\"abc\"} x", -1, "no JSON object"},
    {200, "{\"access_token\":\"abc\"", -1, "no JSON object"},
    {200, "{\"access_token\":\"\xff\"}", -1, "no JSON object"},
    {200, "{\"access_token\":12}", -1, "without a token"},
    {200, "{\"access_token\":null}", -1, "without a token"},
    {200, "{\"error\":\"invalid_grant\"}", -1, "without a token"},
    {200, "{}", -1, "without a token"},
    {200, "[]", -1, "no JSON object"},
    {200, "\"abc\"", -1, "no JSON object"},
    {200, "abc", -1, "no JSON object"},
    {200, "", -1, "no JSON object"},
    {201, "{\"access_token\":\"abc\"}", -1, "answered with status 201"},
    {302, "{\"access_token\":\"abc\"}", -1, "answered with status 302"},
    {400, "{\"error\":\"invalid_grant\"}", -1, "answered with status 400 (invalid_grant)"},
    {400, "{\"error\":\"Invalid\"}", -1, "answered with status 400"},
    {400, "{\"error\":\"abc1\"}", -1, "answered with status 400"},
    {400, "{\"error\":\"a b\"}", -1, "answered with status 400"},
    {400, "{\"error\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", -1, "with status 400"},
    {400, "{\"error\":\"\"}", -1, "answered with status 400"},
    {400, "{\"error\":{\"status\":\"abc\"}}", -1, "answered with status 400"},
    {403, "{\"Error\":{\"Code\":\"AccessDenied\",\"Message\":\"abc\"}}", -1, "403 (AccessDenied)"},
    {403, "<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>", -1,
     "403 (ExpiredToken)"},
    {403, "<Code>abc-</Code>", -1, "answered with status 403"},
    {403, "<Code>abc", -1, "answered with status 403"},
    {403, "<Code>", -1, "answered with status 403"},
    {403, "<Code", -1, "answered with status 403"},
    {500, "", -1, "answered with status 500"},
    {0, "Connection refused", -1, "did not answer: Connection refused"},
};

START_TEST(reads_answers)
{
    answers[0] = (answer_t){rows[_i].status, rows[_i].body, 0};
    apr_status_t rv = ask(&scripted_net, NULL);
    if (rows[_i].seconds >= 0) {
        ck_assert_msg(rv == APR_SUCCESS, "%s: %s", rows[_i].body, err.message);
        ck_assert_str_eq(token.text, "abc");
        ck_assert_int_eq(token.lifetime / 1000000, rows[_i].seconds);
        return;
    }
    ck_assert_msg(rv != APR_SUCCESS, "%s", rows[_i].body);
    has(err.message, "Google's metadata server ");
    has(err.message, rows[_i].message);
    has_not(err.message, "abc");
    ck_assert_int_eq(err.status, 502);
    ck_assert_str_eq(err.code, "identity_failed");
    if (!strchr(rows[_i].message, '(')) {
        has_not(err.message, "(");
    }
}
END_TEST

START_TEST(refuses_bytes_of_all_kinds)
{
    static const char nul[] = "{\"access_token\":\"abc\"}\0";
    answers[0] = (answer_t){200, nul, sizeof nul - 1};
    ck_assert_int_ne(ask(&scripted_net, NULL), APR_SUCCESS);
    for (int c = 1; c < 256; c++) {
        char text[] = {'a', (char)c, 'b', '\0'};
        ck_assert_msg(aip_token_ok(text) == (c > ' ' && c <= '~'), "byte %d", c);
    }
    char *large = apr_palloc(pool, AIP_TOKEN_MAX + 2);
    memset(large, 'a', AIP_TOKEN_MAX + 1);
    large[AIP_TOKEN_MAX] = '\0';
    ck_assert(aip_token_ok(large));
    answers[0].body = apr_pstrcat(pool, "{\"access_token\":\"", large, "\"}", NULL);
    answers[0].len = 0;
    n_asked = 0;
    ck_assert_int_eq(ask(&scripted_net, NULL), APR_SUCCESS);
    large[AIP_TOKEN_MAX] = 'a';
    large[AIP_TOKEN_MAX + 1] = '\0';
    ck_assert(!aip_token_ok(large));
    ck_assert(!aip_token_ok(""));
    answers[0].body = apr_pstrcat(pool, "{\"access_token\":\"", large, "\"}", NULL);
    n_asked = 0;
    ck_assert_int_ne(ask(&scripted_net, NULL), APR_SUCCESS);
    has(err.message, "too long");
}
END_TEST

START_TEST(urls_for_credentials)
{
    static const struct {
        const char *url;
        bool ok;
    } urls[] = {
        {"https://a.example/", true},
        {"https://10.0.0.1/", true},
        {"http://127.0.0.1:80/", true},
        {"http://127.255.0.9/", true},
        {"http://localhost:1/x", true},
        {"http://LOCALHOST/", true},
        {"http://[::1]:1/", true},
        {"http://a.example/", false},
        {"http://10.0.0.1/", false},
        {"http://127.0.0.1.a.example/", false},
        {"http://127.0.0.1.5/", false},
        {"http://127.0.0.256/", false},
        {"http://127.0.0/", false},
        {"http://127.0.0./", false},
        {"http://127..0.1/", false},
        {"http://127/", false},
        {"http://127.0.0.x/", false},
        {"http://127.example.com/", false},
        {"http://0.0.0.0/", false},
        {"http://localhost.a.example/", false},
        {"http://[::2]/", false},
        {"http://[::ffff:127.0.0.1]/", false},
        {"ftp://127.0.0.1/", false},
        {"https://user@a.example/", false},
        {"https://a.example/#x", false},
        {"https://a.example/ x", false},
        {"nonsense", false},
        {"", false},
    };
    for (int i = 0; i < ROWS(urls); i++) {
        const char *problem = aip_identity_url_problem(urls[i].url, pool);
        ck_assert_msg((problem == NULL) == urls[i].ok, "%s: %s", urls[i].url,
                      problem ? problem : "taken");
    }
}
END_TEST

/* ---- with a true connection ---- */

typedef struct server_t {
    apr_socket_t *listener;
    const char *answer;
    apr_size_t repeat; /* the answer's last 1024 bytes come so often */
    char request[4096];
} server_t;

static void *APR_THREAD_FUNC serve(apr_thread_t *thread, void *baton)
{
    server_t *server = baton;
    apr_socket_t *peer;
    apr_size_t len = sizeof server->request - 1, n = strlen(server->answer);
    apr_pool_t *p = apr_thread_pool_get(thread);
    if (apr_socket_accept(&peer, server->listener, p) != APR_SUCCESS) {
        return NULL;
    }
    apr_socket_timeout_set(peer, 5000000);
    if (apr_socket_recv(peer, server->request, &len) == APR_SUCCESS) {
        apr_status_t rv = apr_socket_send(peer, server->answer, &n);
        for (apr_size_t i = 0; i < server->repeat && rv == APR_SUCCESS; i++) {
            char block[1024];
            n = sizeof block;
            memset(block, ' ', n);
            rv = apr_socket_send(peer, block, &n);
        }
    }
    apr_socket_close(peer);
    return NULL;
}

/* One exchange with a server that gives this answer. @return what was asked */
static const char *exchange(const char *answer, apr_size_t repeat, apr_status_t *rv)
{
    server_t *server = apr_pcalloc(pool, sizeof *server);
    apr_sockaddr_t *address;
    apr_thread_t *thread;
    apr_status_t ended;
    aip_identity_net_t net = {.timeout = 5000000};
    *server = (server_t){.answer = answer, .repeat = repeat};
    ck_assert_int_eq(apr_sockaddr_info_get(&address, "127.0.0.1", APR_INET, 0, 0, pool), 0);
    ck_assert_int_eq(apr_socket_create(&server->listener, APR_INET, SOCK_STREAM, 0, pool), 0);
    ck_assert_int_eq(apr_socket_bind(server->listener, address), 0);
    ck_assert_int_eq(apr_socket_listen(server->listener, 5), 0);
    ck_assert_int_eq(apr_socket_addr_get(&address, APR_LOCAL, server->listener), 0);
    ck_assert_int_eq(apr_thread_create(&thread, NULL, serve, server, pool), 0);
    *rv = ask(&net, apr_psprintf(pool, "http://127.0.0.1:%d/token", address->port));
    apr_thread_join(&ended, thread);
    apr_socket_close(server->listener);
    return server->request;
}

START_TEST(asks_a_server)
{
    apr_status_t rv;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    const char *request = exchange("HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n"
                                   "{\"access_token\":\"abc\",   \"expires_in\":\"60\"}",
                                   0, &rv);
    ck_assert_msg(rv == APR_SUCCESS, "%s", err.message);
    ck_assert_str_eq(token.text, "abc");
    has(request, "GET /token HTTP/1.1\r\n");
    has(request, "\r\nMetadata-Flavor: Google\r\n");

    exchange("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 0,
             &rv);
    ck_assert_int_ne(rv, APR_SUCCESS);
    ck_assert_str_eq(err.message, "Google's metadata server answered with status 302");

    /* One block less than the limit is read, more is not. */
    exchange("HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"abc\"}", 127, &rv);
    ck_assert_msg(rv == APR_SUCCESS, "%s", err.message);
    exchange("HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"abc\"}", 128, &rv);
    ck_assert_int_ne(rv, APR_SUCCESS);
    has(err.message, "did not answer: the answer is longer than 131072 bytes");

    exchange("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"access_token\":\"abc\"}", 0, &rv);
    ck_assert_int_ne(rv, APR_SUCCESS);
    exchange("SSH-2.0-x\r\n", 0, &rv);
    ck_assert_int_ne(rv, APR_SUCCESS);
    has_not(err.message, "SSH");
    curl_global_cleanup();
}
END_TEST

Suite *identity_suite(void)
{
    Suite *suite = suite_create("identity");
    TCase *tcase = tcase_create("identity");
    tcase_add_checked_fixture(tcase, identity_setup, pool_teardown);
    tcase_set_timeout(tcase, 30);
    tcase_add_loop_test(tcase, reads_answers, 0, ROWS(rows));
    tcase_add_test(tcase, refuses_bytes_of_all_kinds);
    tcase_add_test(tcase, urls_for_credentials);
    tcase_add_test(tcase, asks_a_server);
    suite_add_tcase(suite, tcase);
    return suite;
}
