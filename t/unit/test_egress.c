/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of egress: classes of addresses in every spelling, what goes around the proxy, what
 * AIEgressAllow lets pass and what it refuses. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "aip/egress.h"
#include "fixture.h"

Suite *egress_suite(void);

/* Words separated by spaces; NULL for none. */
static apr_array_header_t *list_of(const char *words)
{
    char *state = NULL;
    apr_array_header_t *list = apr_array_make(pool, 4, sizeof(const char *));
    for (char *w = apr_strtok(apr_pstrdup(pool, words), " ", &state); w;
         w = apr_strtok(NULL, " ", &state)) {
        APR_ARRAY_PUSH(list, const char *) = w;
    }
    return list->nelts ? list : NULL;
}

static const struct {
    const char *host;
    aip_address_e kind;
} hosts[] = {
    {"169.254.169.254", AIP_ADDRESS_METADATA},
    {"169.254.170.2", AIP_ADDRESS_METADATA},
    {"169.254.1.1", AIP_ADDRESS_LINK_LOCAL},
    {"169.254.255.255", AIP_ADDRESS_LINK_LOCAL},
    {"169.253.255.255", AIP_ADDRESS_ORDINARY},
    {"169.255.0.0", AIP_ADDRESS_ORDINARY},
    {"169.254.169.254.", AIP_ADDRESS_METADATA},
    {"2852039166", AIP_ADDRESS_METADATA},
    {"0xa9fea9fe", AIP_ADDRESS_METADATA},
    {"0xA9.0xFE.0xA9.0xFE", AIP_ADDRESS_METADATA},
    {"0251.0376.0251.0376", AIP_ADDRESS_METADATA},
    {"169.254.43518", AIP_ADDRESS_METADATA},
    {"169.16689662", AIP_ADDRESS_METADATA},
    {"100.100.100.200", AIP_ADDRESS_METADATA},
    {"100.100.100.201", AIP_ADDRESS_ORDINARY},
    {"192.0.0.192", AIP_ADDRESS_METADATA},
    {"168.63.129.16", AIP_ADDRESS_METADATA},
    {"fe80::1", AIP_ADDRESS_LINK_LOCAL},
    {"febf:ffff::1", AIP_ADDRESS_LINK_LOCAL},
    {"fec0::1", AIP_ADDRESS_ORDINARY},
    {"fe7f::1", AIP_ADDRESS_ORDINARY},
    {"fe80::1%eth0", AIP_ADDRESS_LINK_LOCAL},
    {"fe80::1%25eth0", AIP_ADDRESS_LINK_LOCAL},
    {"[fe80::1]", AIP_ADDRESS_LINK_LOCAL},
    {"fd00:ec2::254", AIP_ADDRESS_METADATA},
    {"FD00:0EC2:0:0:0:0:0:0254", AIP_ADDRESS_METADATA},
    {"fd00:ec3::254", AIP_ADDRESS_ORDINARY},
    {"::ffff:169.254.169.254", AIP_ADDRESS_METADATA},
    {"::ffff:a9fe:a9fe", AIP_ADDRESS_METADATA},
    {"::169.254.169.254", AIP_ADDRESS_METADATA},
    {"64:ff9b::a9fe:a9fe", AIP_ADDRESS_METADATA},
    {"2002:a9fe:a9fe::1", AIP_ADDRESS_METADATA},
    {"2002:a9fe:101::", AIP_ADDRESS_LINK_LOCAL},
    {"::1", AIP_ADDRESS_ORDINARY},
    {"::", AIP_ADDRESS_ORDINARY},
    {"127.0.0.1", AIP_ADDRESS_ORDINARY},
    {"10.0.0.1", AIP_ADDRESS_ORDINARY},
    {"metadata.google.internal", AIP_ADDRESS_METADATA},
    {"METADATA.google.Internal.", AIP_ADDRESS_METADATA},
    {"instance-data", AIP_ADDRESS_METADATA},
    {"metadata.google.internal.example.com", AIP_ADDRESS_ORDINARY},
    {"api.example.com", AIP_ADDRESS_ORDINARY},
    {"", AIP_ADDRESS_ORDINARY},
    {"[", AIP_ADDRESS_ORDINARY},
    {".", AIP_ADDRESS_ORDINARY},
};

START_TEST(classes_of_hosts)
{
    ck_assert_msg(aip_host_class(hosts[_i].host) == hosts[_i].kind, "%s", hosts[_i].host);
}
END_TEST

START_TEST(classes_of_addresses)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr un = {.sa_family = AF_UNIX};
    ck_assert_int_eq(inet_pton(AF_INET, "169.254.169.254", &v4.sin_addr), 1);
    ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:169.254.0.1", &v6.sin6_addr), 1);
    ck_assert_int_eq(aip_address_class((struct sockaddr *)&v4), AIP_ADDRESS_METADATA);
    ck_assert_int_eq(aip_address_class((struct sockaddr *)&v6), AIP_ADDRESS_LINK_LOCAL);
    ck_assert_int_eq(aip_address_class(&un), AIP_ADDRESS_ORDINARY);
    aip_egress_t named = {.allow = list_of("inner.example *")}, open = {.allow = list_of("*")};
    ck_assert(!aip_egress_address_ok(NULL, "inner.example", (struct sockaddr *)&v4));
    ck_assert(!aip_egress_address_ok(&open, "inner.example", (struct sockaddr *)&v4));
    ck_assert(aip_egress_address_ok(&named, "inner.example", (struct sockaddr *)&v4));
    ck_assert(!aip_egress_address_ok(&named, "other.example", (struct sockaddr *)&v4));
    ck_assert(!aip_egress_address_ok(&named, "metadata.google.internal", NULL));
}
END_TEST

static const struct {
    const char *no_proxy, *host;
    bool proxied;
} ways[] = {
    {"", "api.example.com", true},
    {"api.example.com", "api.example.com", false},
    {"api.example.com", "API.Example.com.", false},
    {"api.example.com", "x.api.example.com", true},
    {"api.example.com", "api.example.com.evil", true},
    {".example.com", "api.example.com", false},
    {".example.com", "a.b.EXAMPLE.com.", false},
    {".example.com", "example.com", false},
    {".example.com", "badexample.com", true},
    {"example.com", "badexample.com", true},
    {"10.0.0.0/8", "10.1.2.3", false},
    {"10.0.0.0/8", "0x0a010203", false},
    {"10.0.0.0/8", "::ffff:10.1.2.3", false},
    {"10.0.0.0/8", "11.0.0.0", true},
    {"10.0.0.0/8", "10.example.com", true},
    {"10.0.0.0/9", "10.128.0.0", true},
    {"10.0.0.0/9", "10.127.0.0", false},
    {"0.0.0.0/0", "10.1.2.3", false},
    {"0.0.0.0/0", "2001:db8::1", true},
    {"127.0.0.1", "127.0.0.1", false},
    {"127.0.0.1", "127.1", false},
    {"127.0.0.1", "127.0.0.2", true},
    {"2001:db8::/32", "2001:db8:1::1", false},
    {"2001:db8::/32", "2001:db9::1", true},
    {"*", "anything", false},
    {"a b *", "anything", false},
    {"a b", "anything", true},
};

START_TEST(goes_around_the_proxy)
{
    aip_egress_t egress = {.proxy_host = "proxy", .no_proxy = list_of(ways[_i].no_proxy)};
    ck_assert_msg(aip_egress_proxied(&egress, ways[_i].host) == ways[_i].proxied, "%s %s",
                  ways[_i].no_proxy, ways[_i].host);
    egress.proxy_host = NULL;
    ck_assert(!aip_egress_proxied(&egress, ways[_i].host));
}
END_TEST

static const struct {
    const char *allow, *url;
    bool passes;
} urls[] = {
    {"", "http://anything:1/x", true},
    {"https://api.example.com", "https://api.example.com/v1/chat", true},
    {"https://api.example.com", "https://API.EXAMPLE.COM./v1", true},
    {"https://api.example.com", "https://api.example.com:443/v1", true},
    {"https://api.example.com", "https://api.example.com:8443/v1", false},
    {"https://api.example.com", "http://api.example.com/v1", false},
    {"https://api.example.com", "http://api.example.com:443/v1", false},
    {"https://api.example.com:8443", "https://api.example.com:8443/", true},
    {"https://api.example.com:*", "https://api.example.com:1/", true},
    {"*://api.example.com:*", "http://api.example.com:1/", true},
    {"*://api.example.com", "http://api.example.com/", true},
    {"*://api.example.com", "https://api.example.com/", true},
    {"HTTPS://api.example.com", "https://api.example.com/", true},
    {"https://api.example.com", "https://api.example.com.evil.example/", false},
    {"https://api.example.com", "https://evil.example/?api.example.com", false},
    {"https://api.example.com", "https://xapi.example.com/", false},
    {"https://*.example.com", "https://a.example.com/", true},
    {"https://*.example.com", "https://a.b.example.com/", true},
    {"https://*.example.com", "https://example.com/", false},
    {"https://*.example.com", "https://evilexample.com/", false},
    {"https://*.example.com", "https://evil.example/.example.com", false},
    {"https://*.example.com", "https://a.example.com.evil/", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/chat/completions?x=y", true},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/", true},
    {"https://api.example.com/v1/*", "https://api.example.com/v1", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v2/chat", false},
    {"https://api.example.com/v1/*", "https://api.example.com/V1/chat", false},
    {"https://api.example.com/v1/*", "https://api.example.com/%76%31/chat", true},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/../v2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/..", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/%2e%2e/v2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/.%2E/v2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/..;x/v2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/./v2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/..%2fv2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/%5c..%5cv2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/%252e%252e/v2", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/%00", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/%zz", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/%", false},
    {"https://api.example.com/v1/*", "https://api.example.com/v1/..x/...", true},
    {"https://api.example.com", "https://api.example.com/v1/../v2", false},
    {"https://h/a*c*e", "https://h/abcde", true},
    {"https://h/a*c*e", "https://h/abcd", false},
    {"https://h/*a*a*a*a*b", "https://h/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    {"https://h/v1", "https://h/v1", true},
    {"https://h/v1", "https://h/v1/x", false},
    {"api.example.com", "http://api.example.com:99/x", true},
    {"api.example.com", "https://api.example.com/x", true},
    {"api.example.com", "https://other.example.com/x", false},
    {"*.example.com", "https://a.example.com:7/x", true},
    {"*", "https://a.example.com:7/x", true},
    {"10.0.0.0/8", "http://10.1.2.3:8000/v1", true},
    {"10.0.0.0/8", "http://0x0a.1.2.3:8000/v1", true},
    {"10.0.0.0/8", "http://11.1.2.3/v1", false},
    {"10.0.0.0/8", "http://10.example.com/v1", false},
    {"127.0.0.1", "http://127.0.0.1:1/", true},
    {"127.0.0.1", "http://2130706433:1/", true},
    {"::1", "http://[::1]:1/", true},
    {"https://[2001:db8::1]:8443", "https://[2001:0db8:0::1]:8443/", true},
    {"https://[2001:db8::1]", "https://[2001:db8::2]/", false},
    {"a b c.example", "https://c.example/", true},
};

START_TEST(lets_urls_pass)
{
    const char *error;
    aip_url_t url;
    aip_egress_t egress = {.allow = list_of(urls[_i].allow)};
    ck_assert_msg(aip_url_parse(urls[_i].url, &url, pool, &error) == APR_SUCCESS, "%s",
                  urls[_i].url);
    for (int i = 0; egress.allow && i < egress.allow->nelts; i++) {
        error = aip_egress_allow_error(APR_ARRAY_IDX(egress.allow, i, const char *), pool);
        ck_assert_msg(!error, "%s", error);
    }
    ck_assert_msg(aip_egress_allows(&egress, &url) == urls[_i].passes, "%s %s", urls[_i].allow,
                  urls[_i].url);
}
END_TEST

static const struct {
    const char *allow, *host;
    bool named;
} names[] = {
    {"169.254.169.254", "169.254.169.254", true},
    {"169.254.169.254", "0xa9fea9fe", true},
    {"http://169.254.169.254/latest/*", "169.254.169.254", true},
    {"169.254.0.0/16", "169.254.169.254", true},
    {"169.254.169.254/32", "169.254.169.254", true},
    {"100.100.100.200/32", "100.100.100.200", true},
    {"fe80::/10", "fe80::1", true},
    {"fe80::/9", "fe80::1", false},
    {"169.254.0.0/15", "169.254.169.254", false},
    {"169.0.0.0/8", "169.254.169.254", false},
    {"0.0.0.0/0", "169.254.169.254", false},
    {"100.100.100.0/24", "100.100.100.200", false},
    {"*", "169.254.169.254", false},
    {"169.254.169.*", "169.254.169.254", false},
    {"http://*", "169.254.169.254", false},
    {"169.254.169.253", "169.254.169.254", false},
    {"metadata.google.internal", "METADATA.google.internal", true},
    {"", "169.254.169.254", false},
};

START_TEST(names_hosts)
{
    aip_egress_t egress = {.allow = list_of(names[_i].allow)};
    ck_assert_msg(aip_egress_names(&egress, names[_i].host) == names[_i].named, "%s %s",
                  names[_i].allow, names[_i].host);
    ck_assert(!aip_egress_names(NULL, names[_i].host));
}
END_TEST

static const char *const bad_patterns[] = {
    "ftp://h",       "https://",      "https://h:0",   "https://h:65536",
    "https://h:x",   "https://h:",    "https://u@h",   "https://h/a/../b",
    "https://h/%61", "https://h/a?b", "https://h/a#b", "https:///x",
    "10.0.0.0/33",   "10.0.0.0/x",    "10.0.0.0/",     "host/path",
    "host:80",       "::1/129",       "http",          "https://h h",
    "://h",          "https://h\\x",  "10.0.0/8",
};

START_TEST(refuses_patterns)
{
    const char *pattern = bad_patterns[_i];
    const char *error = aip_egress_allow_error(pattern, pool);
    if (strcmp(pattern, "http") == 0) { /* a host may be called that */
        ck_assert_ptr_null(error);
    } else {
        ck_assert_msg(error != NULL, "%s", pattern);
        ck_assert(strstr(error, pattern) != NULL);
    }
}
END_TEST

START_TEST(checks_no_proxy)
{
    static const char *const good[] = {"*",        "h",   "h.example",  ".example",
                                       "10.0.0.1", "::1", "10.0.0.0/8", "fd00::/8"};
    static const char *const bad[] = {".",           "http://h", "h:80", "*.example",
                                      "10.0.0.0/33", "a/b",      "a,b"};
    for (int i = 0; i < ROWS(good); i++) {
        ck_assert_msg(!aip_egress_no_proxy_error(good[i], pool), "%s", good[i]);
    }
    for (int i = 0; i < ROWS(bad); i++) {
        ck_assert_msg(aip_egress_no_proxy_error(bad[i], pool) != NULL, "%s", bad[i]);
    }
}
END_TEST

Suite *egress_suite(void)
{
    Suite *suite = suite_create("egress");
    TCase *tcase = tcase_create("egress");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, classes_of_hosts, 0, ROWS(hosts));
    tcase_add_test(tcase, classes_of_addresses);
    tcase_add_loop_test(tcase, goes_around_the_proxy, 0, ROWS(ways));
    tcase_add_loop_test(tcase, lets_urls_pass, 0, ROWS(urls));
    tcase_add_loop_test(tcase, names_hosts, 0, ROWS(names));
    tcase_add_loop_test(tcase, refuses_patterns, 0, ROWS(bad_patterns));
    tcase_add_test(tcase, checks_no_proxy);
    suite_add_tcase(suite, tcase);
    return suite;
}
