/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of AIAclsAllow and AIAclsDeny: what is a rule, and what it matches. */

#include "aip/acl.h"

#include <apr_network_io.h>
#include <string.h>

#include "fixture.h"

Suite *acl_suite(void);

#define PROVIDERS "openai|azure|mistral"

/* Arguments are separated by '|'. */
static aip_acl_rule_t *parse(const char *args, const char **error)
{
    char *argv[16], *state, *copy = apr_pstrdup(pool, args);
    int argc = 0;
    for (char *w = apr_strtok(copy, "|", &state); w; w = apr_strtok(NULL, "|", &state)) {
        argv[argc++] = w;
    }
    return aip_acl_parse(argc, argv, PROVIDERS, pool, error);
}

/* Rules are separated by ';'. */
static apr_array_header_t *rules(const char *text)
{
    char *state, *copy = text ? apr_pstrdup(pool, text) : NULL;
    apr_array_header_t *list = apr_array_make(pool, 4, sizeof(aip_acl_rule_t *));
    for (char *w = copy ? apr_strtok(copy, ";", &state) : NULL; w;
         w = apr_strtok(NULL, ";", &state)) {
        const char *error;
        aip_acl_rule_t *rule = parse(w, &error);
        ck_assert_msg(rule != NULL, "%s: %s", w, error);
        APR_ARRAY_PUSH(list, aip_acl_rule_t *) = rule;
    }
    return text ? list : NULL;
}

static const struct {
    const char *args, *error;
} faults[] = {
    {"", "must be TYPE=VALUE"},
    {"consumer", "'consumer' must be TYPE=VALUE[,VALUE...] with TYPE one of consumer, "},
    {"user=a", "'user=a' must be TYPE=VALUE"},
    {"=a", "must be TYPE=VALUE"},
    {"header=a", "'header=a' must be TYPE=VALUE"},
    {"header:=a", "must be TYPE=VALUE"},
    {"header:X Y=a", "must be TYPE=VALUE"},
    {"consumer:x=a", "must be TYPE=VALUE"},
    {"consumer=", "'consumer=': a value is empty"},
    {"consumer=a,", "a value is empty"},
    {"consumer=a,,b", "a value is empty"},
    {"consumer= , b", "a value is empty"},
    {"consumer=a|model", "'model' must be TYPE=VALUE"},
    {"ip=10", "'ip=10': '10' is neither an IP address nor a network"},
    {"ip=10.1.2.3.4", "is neither"},
    {"ip=10.0.0.256", "is neither"},
    {"ip=10.0.0.0/33", "'10.0.0.0/33' is neither"},
    {"ip=10.0.0.0/", "is neither"},
    {"ip=::1/129", "is neither"},
    {"ip=host.example", "is neither"},
    {"path=ai", "'path=ai': 'ai' is no path"},
    {"path=/a*b", "is no path"},
    {"path=/a**", "is no path"},
    {"provider=nobody", "'provider=nobody': 'nobody' is no provider"},
};

START_TEST(faulty)
{
    const char *error = NULL;
    char empty[] = "", *argv[] = {empty};
    aip_acl_rule_t *rule = *faults[_i].args ? parse(faults[_i].args, &error)
                                            : aip_acl_parse(1, argv, PROVIDERS, pool, &error);
    ck_assert_msg(!rule, "%s is a rule", faults[_i].args);
    ck_assert_msg(strstr(error, faults[_i].error) != NULL, "%s: %s", faults[_i].args, error);
}
END_TEST

/* The client of all rows: alice of staff and ops, from 10.1.2.3 or 2001:db8::7, path /ai/chat,
 * headers X-Team: red and X-Two: red, blue (it came twice). */
static const struct {
    const char *allow, *deny;
    const char *user; /* NULL: alice; "": nobody */
    int v6;
    int request;         /* 1: may go on */
    int openai, mistral; /* may use the target gpt of openai, large of mistral */
} cases[] = {
    {NULL, NULL, NULL, 0, 1, 1, 1},
    {"consumer=alice", NULL, NULL, 0, 1, 1, 1},
    {"consumer=alice", NULL, "", 0, 0, 0, 0},
    {"consumer=bob", NULL, NULL, 0, 0, 0, 0},
    {"consumer=bob,alice", NULL, NULL, 0, 1, 1, 1},
    {"consumer=bob;consumer=alice", NULL, NULL, 0, 1, 1, 1},
    {"consumer=Alice", NULL, NULL, 0, 0, 0, 0},
    {"consumer=alic", NULL, NULL, 0, 0, 0, 0},
    {"CONSUMER=alice", NULL, NULL, 0, 1, 1, 1},
    {"consumer=o\\,alice", NULL, "o,alice", 0, 1, 1, 1},
    {"consumer=o\\,alice", NULL, NULL, 0, 0, 0, 0},
    {"consumer=a\\\\b", NULL, "a\\b", 0, 1, 1, 1},
    {"consumer= bob , alice ", NULL, NULL, 0, 1, 1, 1},
    {NULL, "consumer=alice", NULL, 0, 0, 0, 0},
    {NULL, "consumer=bob", NULL, 0, 1, 1, 1},
    {NULL, "consumer=alice", "", 0, 1, 1, 1},
    {"consumer=alice", "consumer=alice", NULL, 0, 0, 0, 0},
    {"consumer_group=staff", NULL, NULL, 0, 1, 1, 1},
    {"consumer_group=sta", NULL, NULL, 0, 0, 0, 0},
    {"consumer_group=staff|consumer_group=ops", NULL, NULL, 0, 1, 1, 1},
    {"consumer_group=staff|consumer_group=eng", NULL, NULL, 0, 0, 0, 0},
    {NULL, "consumer_group=eng,ops", NULL, 0, 0, 0, 0},
    {"header:X-Team=red", NULL, NULL, 0, 1, 1, 1},
    {"header:x-team=red", NULL, NULL, 0, 1, 1, 1},
    {"header:X-Team=Red", NULL, NULL, 0, 0, 0, 0},
    {"header:X-Team=re,ed,redd", NULL, NULL, 0, 0, 0, 0},
    {"header:X-None=red", NULL, NULL, 0, 0, 0, 0},
    {"header:X-Two=red", NULL, NULL, 0, 0, 0, 0},
    {"header:X-Two=red\\, blue", NULL, NULL, 0, 1, 1, 1},
    {NULL, "header:X-Two=red", NULL, 0, 0, 0, 0},
    {NULL, "header:X-Two=blue", NULL, 0, 0, 0, 0},
    {NULL, "header:X-Two=blu,re,ed", NULL, 0, 1, 1, 1},
    {"ip=10.1.2.3", NULL, NULL, 0, 1, 1, 1},
    {"ip=10.1.2.4", NULL, NULL, 0, 0, 0, 0},
    {"ip=10.0.0.0/8", NULL, NULL, 0, 1, 1, 1},
    {"ip=10.1.2.9/24", NULL, NULL, 0, 1, 1, 1},
    {"ip=10.0.0.0/255.0.0.0", NULL, NULL, 0, 1, 1, 1},
    {"ip=192.168.0.0/16,10.1.0.0/16", NULL, NULL, 0, 1, 1, 1},
    {"ip=11.0.0.0/8", NULL, NULL, 0, 0, 0, 0},
    {"ip=0.0.0.0/0", NULL, NULL, 1, 0, 0, 0},
    {"ip=2001:db8::/32", NULL, NULL, 1, 1, 1, 1},
    {"ip=2001:db8::7", NULL, NULL, 1, 1, 1, 1},
    {"ip=2001:db8::8", NULL, NULL, 1, 0, 0, 0},
    {"ip=2001:db8::/32", NULL, NULL, 0, 0, 0, 0},
    {NULL, "ip=::/0", NULL, 1, 0, 0, 0},
    {"path=/ai/chat", NULL, NULL, 0, 1, 1, 1},
    {"path=/ai", NULL, NULL, 0, 0, 0, 0},
    {"path=/ai/*", NULL, NULL, 0, 1, 1, 1},
    {"path=/*", NULL, NULL, 0, 1, 1, 1},
    {"path=/AI/*", NULL, NULL, 0, 0, 0, 0},
    {"path=/ai/chatter,/ai/cha", NULL, NULL, 0, 0, 0, 0},
    /* about targets: the request goes on as long as some target may be left */
    {"model=gpt", NULL, NULL, 0, 1, 1, 0},
    {"model=other", NULL, NULL, 0, 1, 0, 0},
    {"model=GPT", NULL, NULL, 0, 1, 0, 0},
    {"provider=mistral", NULL, NULL, 0, 1, 0, 1},
    {"provider=Mistral", NULL, NULL, 0, 1, 0, 1},
    {NULL, "provider=mistral", NULL, 0, 1, 1, 0},
    {NULL, "provider=openai,mistral", NULL, 0, 1, 0, 0},
    {NULL, "model=gpt|consumer=alice", NULL, 0, 1, 0, 1},
    {NULL, "model=gpt|consumer=bob", NULL, 0, 1, 1, 1},
    {"model=gpt|consumer=alice", NULL, NULL, 0, 1, 1, 0},
    {"model=gpt|consumer=bob", NULL, NULL, 0, 0, 0, 0},
    {"model=gpt|consumer=bob;consumer=alice", NULL, NULL, 0, 1, 1, 1},
    {"model=gpt|consumer=bob;consumer=alice|provider=mistral", NULL, NULL, 0, 1, 0, 1},
    {"consumer=alice", "model=gpt", NULL, 0, 1, 0, 1},
    {"model=gpt", "consumer=alice", NULL, 0, 0, 0, 0},
};

START_TEST(verdicts)
{
    const char *user = cases[_i].user ? cases[_i].user : "alice";
    apr_array_header_t *groups = apr_array_make(pool, 2, sizeof(const char *));
    apr_array_header_t *allow = rules(cases[_i].allow), *deny = rules(cases[_i].deny);
    apr_table_t *headers = apr_table_make(pool, 2);
    aip_acl_facts_t facts = {
        .consumer = *user ? user : NULL, .groups = groups, .headers = headers, .path = "/ai/chat"};
    if (*user) {
        APR_ARRAY_PUSH(groups, const char *) = "staff";
        APR_ARRAY_PUSH(groups, const char *) = "ops";
    }
    apr_table_setn(headers, "X-Team", "red");
    apr_table_setn(headers, "X-Two", "red, blue");
    ck_assert_int_eq(apr_sockaddr_info_get(&facts.address,
                                           cases[_i].v6 ? "2001:db8::7" : "10.1.2.3", APR_UNSPEC, 0,
                                           0, pool),
                     APR_SUCCESS);
    int request = !aip_acls_request(allow, deny, &facts).denied;
    ck_assert_msg(request == cases[_i].request, "%s, but %s: request %d", cases[_i].allow,
                  cases[_i].deny, request);
    facts.model = "gpt";
    facts.provider = "openai";
    int openai = request && !aip_acls_target(allow, deny, &facts).denied;
    facts.model = "large";
    facts.provider = "mistral";
    int mistral = request && !aip_acls_target(allow, deny, &facts).denied;
    ck_assert_msg(openai == cases[_i].openai && mistral == cases[_i].mistral,
                  "%s, but %s: openai %d, mistral %d", cases[_i].allow, cases[_i].deny, openai,
                  mistral);
}
END_TEST

/* A request of which nothing is known meets no condition. */
START_TEST(unknown)
{
    static const char *const lines[] = {"consumer=a",     "consumer_group=a", "header:X=a",
                                        "ip=0.0.0.0/0",   "model=a",          "path=/*",
                                        "provider=openai"};
    aip_acl_facts_t facts = {0};
    ck_assert(aip_acls_target(rules(lines[_i]), NULL, &facts).denied);
    ck_assert(!aip_acls_target(NULL, rules(lines[_i]), &facts).denied);
    ck_assert(!aip_acls_request(NULL, rules(lines[_i]), &facts).denied);
}
END_TEST

START_TEST(which)
{
    apr_array_header_t *deny = rules("consumer=bob;ip=10.0.0.0/8;consumer=alice");
    aip_acl_facts_t facts = {.consumer = "alice"};
    aip_acl_verdict_t verdict = aip_acls_request(NULL, deny, &facts);
    ck_assert_ptr_eq(verdict.rule, APR_ARRAY_IDX(deny, 2, aip_acl_rule_t *));
    verdict = aip_acls_request(rules("consumer=bob"), NULL, &facts);
    ck_assert(verdict.denied);
    ck_assert_ptr_null(verdict.rule);
    ck_assert(!aip_acls_of_target(rules("consumer=a"), rules("ip=::1")));
    ck_assert(aip_acls_of_target(rules("consumer=a"), rules("ip=::1;path=/|model=m")));
    ck_assert(!aip_acls_of_target(NULL, NULL));
}
END_TEST

START_TEST(text)
{
    const char *error;
    char a[] = "consumer=a,b", b[] = "header:X=c d", c[] = "consumer=o\\,\"x";
    char *argv[] = {a, b, c};
    aip_acl_rule_t *rule = aip_acl_parse(3, argv, PROVIDERS, pool, &error);
    ck_assert_str_eq(rule->text, "consumer=a,b \"header:X=c d\" \"consumer=o\\\\,\\\"x\"");
}
END_TEST

Suite *acl_suite(void)
{
    Suite *suite = suite_create("acl");
    TCase *tcase = tcase_create("acl");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, faulty, 0, ROWS(faults));
    tcase_add_loop_test(tcase, verdicts, 0, ROWS(cases));
    tcase_add_loop_test(tcase, unknown, 0, 7);
    tcase_add_test(tcase, which);
    tcase_add_test(tcase, text);
    suite_add_tcase(suite, tcase);
    return suite;
}
