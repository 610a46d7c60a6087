/* SPDX-License-Identifier: Apache-2.0 */
/* AWS credentials: which source comes first, what each asks, that a failing one is not passed over,
 * and what hostile answers and files do. */

#include "identity_fixture.h"

Suite *identity_aws_suite(void);

#define AGENT "{\"AccessKeyId\":\"ASIA1\",\"SecretAccessKey\":\"s3cret/+\",\"Token\":\"tok\","

static aip_aws_keys_t keys;
static apr_interval_time_t lifetime;
static aip_error_t err;

static apr_status_t ask(const aip_aws_conf_t *conf)
{
    static const aip_aws_conf_t none;
    err = (aip_error_t){0};
    keys = (aip_aws_keys_t){0};
    lifetime = -1;
    n_asked = 0;
    return aip_aws_credentials(conf ? conf : &none, &scripted_net, &keys, &lifetime, pool, &err);
}

static void gives(const aip_aws_conf_t *conf, const char *access, const char *secret,
                  const char *token)
{
    ck_assert_msg(ask(conf) == APR_SUCCESS, "%s", err.message);
    ck_assert_str_eq(keys.access_key, access);
    ck_assert_str_eq(keys.secret_key, secret);
    ck_assert_pstr_eq(keys.token, token);
}

static void refuses(const aip_aws_conf_t *conf, const char *message)
{
    ck_assert_int_ne(ask(conf), APR_SUCCESS);
    has(err.message, message);
    has_not(err.message, "s3cret");
    has_not(err.message, "AKIA");
}

/* An agent's answer with a time from now. */
static void agent_says(int i, int seconds)
{
    char text[APR_RFC822_DATE_LEN + 20];
    apr_time_exp_t t;
    apr_size_t len;
    apr_time_exp_gmt(&t, apr_time_now() + apr_time_from_sec(seconds));
    apr_strftime(text, &len, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &t);
    answers[i] =
        (answer_t){200, apr_pstrcat(pool, AGENT "\"Expiration\":\"", text, "\"}", NULL), 0};
}

static void about(int seconds)
{
    ck_assert_int_le(lifetime, apr_time_from_sec(seconds));
    ck_assert_int_gt(lifetime, apr_time_from_sec(seconds - 10));
}

/* ---- the order: each source is there, from the last to the first ---- */

START_TEST(order_of_sources)
{
    aip_aws_conf_t conf = {.region = "us-east-1"};
    answers[0] = (answer_t){200, "session-token", 0};
    answers[1] = (answer_t){200, "my-role\nother", 0};
    agent_says(2, 600);
    gives(&conf, "ASIA1", "s3cret/+", "tok");
    about(600);
    ck_assert_int_eq(n_asked, 3);
    ck_assert_str_eq(asked[0], "local PUT http://169.254.169.254/latest/api/token\n"
                               "X-aws-ec2-metadata-token-ttl-seconds: 60\n\n");
    ck_assert_str_eq(asked[1],
                     "local GET http://169.254.169.254/latest/meta-data/iam/"
                     "security-credentials/\nX-aws-ec2-metadata-token: session-token\n\n");
    ck_assert_str_eq(asked[2],
                     "local GET http://169.254.169.254/latest/meta-data/iam/security-credentials/"
                     "my-role\nX-aws-ec2-metadata-token: session-token\n\n");

    agent_says(0, 500);
    setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/id", 1);
    gives(&conf, "ASIA1", "s3cret/+", "tok");
    about(500);
    ck_assert_str_eq(asked[0], "local GET http://169.254.170.2/v2/credentials/id\n\n");

    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", temporary("eyJ.web\n"), 1);
    answers[0] = (answer_t){200,
                            "{\"AssumeRoleWithWebIdentityResponse\":{"
                            "\"AssumeRoleWithWebIdentityResult\":{\"Credentials\":{"
                            "\"AccessKeyId\":\"ASIAWEB\",\"SecretAccessKey\":\"sw\","
                            "\"SessionToken\":\"tw\",\"Expiration\":1e11}}}}",
                            0};
    gives(&conf, "ASIAWEB", "sw", "tw");
    ck_assert_int_eq(lifetime, apr_time_from_sec(86400));
    ck_assert_str_eq(asked[0], "POST https://sts.us-east-1.amazonaws.com\n"
                               "Accept: application/json\n\n"
                               "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn="
                               "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName="
                               "mod_ai_proxy_adv&WebIdentityToken=eyJ.web");

    setenv("HOME", "/nonexistent", 1);
    gives(&conf, "ASIAWEB", "sw", "tw"); /* a file that nobody asked for need not be there */
    setenv("AWS_SHARED_CREDENTIALS_FILE",
           temporary("[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key=sf\n"), 1);
    gives(&conf, "AKIAFILE", "sf", NULL);
    ck_assert_int_eq(lifetime, 0);
    ck_assert_int_eq(n_asked, 0);

    setenv("AWS_ACCESS_KEY_ID", "AKIAENV", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "se", 1);
    gives(&conf, "AKIAENV", "se", NULL);
    setenv("AWS_SESSION_TOKEN", "te", 1);
    gives(&conf, "AKIAENV", "se", "te");

    conf.access_key = "AKIACONF";
    conf.secret_key = "sc";
    gives(&conf, "AKIACONF", "sc", NULL);
    ck_assert_int_eq(lifetime, 0);
    ck_assert_int_eq(n_asked, 0);
}
END_TEST

/* A source that is there and fails ends the search: the next one is somebody else. */
START_TEST(failing_sources_are_not_passed_over)
{
    aip_aws_conf_t half = {.access_key = "AKIACONF"};
    refuses(&half, "the configured keys hold an access key without its secret");
    half = (aip_aws_conf_t){.access_key = "AKIA CONF", .secret_key = "s3cret"};
    refuses(&half, "the configured keys hold what are no AWS credentials");
    agent_says(0, 500);
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/x", 1);
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    gives(NULL, "ASIA1", "s3cret/+", "tok"); /* half a web identity is none */
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token", 1);
    refuses(NULL, "cannot read AWS_WEB_IDENTITY_TOKEN_FILE '/nonexistent/token'");
    setenv("AWS_PROFILE", "other", 1);
    refuses(NULL, "AWS credentials file '~/.aws/credentials': there is no HOME");
    setenv("AWS_SHARED_CREDENTIALS_FILE", temporary("[default]\naws_access_key_id=AKIA\n"), 1);
    refuses(NULL, "profile 'other' has no keys in it");
    setenv("AWS_PROFILE", "default", 1);
    refuses(NULL, "the settings of profile 'default' hold an access key without its secret");
    setenv("AWS_SECRET_ACCESS_KEY", "s3cret", 1);
    refuses(NULL, "the environment's AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY hold");
    ck_assert_int_eq(n_asked, 0);
}
END_TEST

START_TEST(profiles)
{
    static const struct {
        const char *profile, *text, *access, *secret, *token; /* access NULL: refused */
    } rows[] = {
        {NULL, "[default]\naws_access_key_id = A1\naws_secret_access_key = S/+=\n", "A1",
         "S/+=", NULL},
        {"p",
         "[default]\naws_access_key_id=A1\naws_secret_access_key=S\n[p]\r\n"
         "aws_session_token = T \r\naws_secret_access_key\t=\tS2\r\n  aws_access_key_id=A2",
         "A2", "S2", "T"},
        {"a b",
         "# [a b]\n[ a b ]\n;aws_access_key_id=A0\naws_access_key_id=A1\nregion=x\nline\n"
         "=\n\naws_secret_access_key=S\n[z]\naws_access_key_id=A2\n",
         "A1", "S", NULL},
        {NULL, "aws_access_key_id=A1\naws_secret_access_key=S\n", NULL, NULL, NULL},
        {NULL, "[default\naws_access_key_id=A1\naws_secret_access_key=S\n", NULL, NULL, NULL},
        {"p", "[default]\naws_access_key_id=A1\naws_secret_access_key=S\n", NULL, NULL, NULL},
        {"p", "[profile p]\naws_access_key_id=A1\naws_secret_access_key=S\n", NULL, NULL, NULL},
        {NULL, "[default]\naws_access_key_id=\naws_secret_access_key=\n", NULL, NULL, NULL},
        {NULL, "[default]\naws_access_key_id=A1\naws_secret_access_key=s3cret x\n", NULL, NULL,
         NULL},
        {NULL, "[default]\naws_access_key_id=A/1\naws_secret_access_key=s3cret\n", NULL, NULL,
         NULL},
        {NULL, "", NULL, NULL, NULL},
    };
    for (int i = 0; i < ROWS(rows); i++) {
        setenv("AWS_SHARED_CREDENTIALS_FILE", temporary(rows[i].text), 1);
        if (rows[i].profile) {
            setenv("AWS_PROFILE", rows[i].profile, 1);
        } else {
            unsetenv("AWS_PROFILE");
        }
        if (rows[i].access) {
            gives(NULL, rows[i].access, rows[i].secret, rows[i].token);
        } else {
            refuses(NULL, "profile '");
        }
    }
    char *large = apr_palloc(pool, 300001);
    memset(large, '\n', 300000);
    large[300000] = '\0';
    setenv("AWS_SHARED_CREDENTIALS_FILE", temporary(large), 1);
    refuses(NULL, "too long");
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/file", 1);
    refuses(NULL, "AWS credentials file '/nonexistent/file': No such file");
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/", 1);
    refuses(NULL, "AWS credentials file '/': ");
}
END_TEST

START_TEST(containers)
{
    static const struct {
        const char *url;
        bool ok;
    } rows[] = {
        {"https://a.example/x", true},
        {"http://127.0.0.1:9/x", true},
        {"http://localhost/x", true},
        {"http://[::1]/x", true},
        {"http://169.254.170.2/x", true},
        {"http://169.254.170.23/v1/credentials", true},
        {"http://[fd00:ec2::23]/v1/credentials", true},
        {"http://169.254.169.254/x", false},
        {"http://169.254.170.24/x", false},
        {"http://a.example/x", false},
        {"http://169.254.170.2.a.example/x", false},
        {"http://169.254.170.2@a.example/x", false},
        {"http://127.0.0.1@a.example/", false},
        {"file:///etc/x", false},
        {"/x", false},
    };
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic s3cret", 1);
    for (int i = 0; i < ROWS(rows); i++) {
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", rows[i].url, 1);
        agent_says(0, 500);
        if (rows[i].ok) {
            gives(NULL, "ASIA1", "s3cret/+", "tok");
            ck_assert_str_eq(asked[0], apr_pstrcat(pool, "local GET ", rows[i].url,
                                                   "\nAuthorization: Basic s3cret\n\n", NULL));
        } else {
            refuses(NULL, "AWS_CONTAINER_CREDENTIALS_FULL_URI ");
            ck_assert_int_eq(n_asked, 0);
        }
    }
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/x", 1);
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "s3cret\r\nX: y", 1);
    refuses(NULL, "AWS_CONTAINER_AUTHORIZATION_TOKEN is no header value");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", temporary(" tok1\n"), 1);
    gives(NULL, "ASIA1", "s3cret/+", "tok");
    has(asked[0], "\nAuthorization: tok1\n");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", temporary("s3cret\r\nX: y"), 1);
    refuses(NULL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", ".evil.example/x", 1); /* wins over FULL */
    gives(NULL, "ASIA1", "s3cret/+", "tok");
    ck_assert_str_eq(asked[0], "local GET http://169.254.170.2/.evil.example/x\n\n");
    setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/a b", 1);
    refuses(NULL, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI holds white space");
}
END_TEST

START_TEST(instances)
{
    static const char *const no_role[] = {"",
                                          "\n",
                                          "a/b",
                                          "..",
                                          "a..b",
                                          "a b",
                                          "<html>",
                                          "a\r\nb",
                                          "r?x",
                                          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                          "aaaaaaaaaaaaaaaa"};
    static const char *const no_session[] = {"", "a b", "a\r\nX: y", "tok\n"};
    for (int i = 0; i < ROWS(no_session); i++) {
        answers[0] = (answer_t){200, no_session[i], 0};
        refuses(NULL, "the instance metadata service answered without a session token");
        ck_assert_int_eq(n_asked, 1);
    }
    answers[0] = (answer_t){200, "st", 0};
    for (int i = 0; i < ROWS(no_role); i++) {
        answers[1] = (answer_t){200, no_role[i], 0};
        refuses(NULL, "without the name of a role");
        ck_assert_int_eq(n_asked, 2);
    }
    answers[1] = (answer_t){200, "a+b=c,d.e@f_g-h", 0};
    answers[2] = (answer_t){200, "{\"Code\":\"AssumeRoleUnauthorizedAccess\"}", 0};
    refuses(NULL, "has no credentials for the role");
    answers[2] = (answer_t){404, "", 0};
    refuses(NULL, "the instance metadata service answered with status 404");
    /* Version 1 is never tried. */
    answers[0] = (answer_t){404, "", 0};
    refuses(NULL, "the instance metadata service answered with status 404");
    ck_assert_int_eq(n_asked, 1);
    answers[0] = (answer_t){200, "st", 0};
    agent_says(2, 500);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6", 1);
    gives(NULL, "ASIA1", "s3cret/+", "tok");
    has(asked[0], "local PUT http://[fd00:ec2::254]/latest/api/token\n");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9/", 1);
    gives(NULL, "ASIA1", "s3cret/+", "tok");
    has(asked[2], "local GET http://127.0.0.1:9/latest/meta-data/iam/security-credentials/"
                  "a+b=c,d.e@f_g-h\n");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "nonsense", 1);
    refuses(NULL, "AWS_EC2_METADATA_SERVICE_ENDPOINT must be a full URL");
    setenv("AWS_EC2_METADATA_DISABLED", "True", 1);
    refuses(NULL, "AWS_EC2_METADATA_DISABLED is true");
    ck_assert_int_eq(n_asked, 0);
}
END_TEST

static const struct {
    const char *body;
    int seconds;         /* -1: refused */
    const char *message; /* of the refusal */
} bodies[] = {
    {"{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"S\"}", 0, NULL},
    {"{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"S\",\"Token\":null,\"Expiration\":null}", 0,
     NULL},
    {AGENT "\"Expiration\":\"2999-01-01T00:00:00Z\"}", 86400, NULL},
    {AGENT "\"Expiration\":\"2999-01-01T00:00:00.123Z\"}", 86400, NULL},
    {AGENT "\"Expiration\":32503680000}", 86400, NULL},
    {AGENT "\"Expiration\":3.2503680000E10}", 86400, NULL},
    {AGENT "\"Expiration\":\"2020-01-01T00:00:00Z\"}", -1, "have expired"},
    {AGENT "\"Expiration\":1}", -1, "have expired"},
    {AGENT "\"Expiration\":\"\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-01-01\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-01-01 00:00:00Z\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-13-01T00:00:00Z\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-00-01T00:00:00Z\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-01-32T00:00:00Z\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-01-01T25:00:00Z\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-01-01T00:00:00+01:00\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"2999-01-01T00:00:00.Zx\"}", -1, "no time"},
    {AGENT "\"Expiration\":\"1960-01-01T00:00:00Z\"}", -1, "no time"},
    {AGENT "\"Expiration\":[]}", -1, "no time"},
    {AGENT "\"Token\":\"t2\"}", -1, "no JSON object"},
    {"{\"AccessKeyId\":\"A1\"}", -1, "without credentials"},
    {"{\"SecretAccessKey\":\"s3cret\"}", -1, "without credentials"},
    {"{\"AccessKeyId\":1,\"SecretAccessKey\":\"s3cret\"}", -1, "without credentials"},
    {"{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"s3cret\",\"Token\":1}", -1,
     "without credentials"},
    {"{\"AccessKeyId\":\"\",\"SecretAccessKey\":\"s3cret\"}", -1, "do not have"},
    {"{\"AccessKeyId\":\"A/1\",\"SecretAccessKey\":\"s3cret\"}", -1, "do not have"},
    {"{\"AccessKeyId\":\"A1,x\",\"SecretAccessKey\":\"s3cret\"}", -1, "do not have"},
    {"{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"\"}", -1, "do not have"},
    {"{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"s3cret x\"}", -1, "do not have"},
    {"{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"s3cret\",\"Token\":\"\"}", -1, "do not have"},
    {"{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"s3cret\",\"Token\":\"a\\r\\nX: y\"}", -1,
     "do not have"},
    {"{\"AccessKeyId\":\"A1\\u0000\",\"SecretAccessKey\":\"s3cret\"}", -1, "no JSON object"},
    {"null", -1, "no JSON object"},
};

START_TEST(reads_agents)
{
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/x", 1);
    answers[0] = (answer_t){200, bodies[_i].body, 0};
    if (bodies[_i].seconds < 0) {
        refuses(NULL, bodies[_i].message);
        has(err.message, "the container's credentials endpoint answered ");
        return;
    }
    ck_assert_msg(ask(NULL) == APR_SUCCESS, "%s", err.message);
    ck_assert_int_eq(lifetime, apr_time_from_sec(bodies[_i].seconds));
}
END_TEST

#define WEB(credentials)                                                                           \
    "{\"AssumeRoleWithWebIdentityResponse\":{\"AssumeRoleWithWebIdentityResult\":{"                \
    "\"Credentials\":" credentials "}}}"
#define GOOD_XML                                                                                   \
    "<AccessKeyId>AX</AccessKeyId><SecretAccessKey>sx/+</SecretAccessKey>"                         \
    "<SessionToken>tx==</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"

static const struct {
    const char *body, *access; /* NULL: refused */
} sts[] = {
    {WEB("{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"s\",\"SessionToken\":\"t\"}"), "A1"},
    {"<?xml version=\"1.0\"?>\n<AssumeRoleWithWebIdentityResponse xmlns=\"x\"><R><Credentials>\n "
     " " GOOD_XML "\n</Credentials></R></AssumeRoleWithWebIdentityResponse>",
     "AX"},
    {" \n<a><Credentials>" GOOD_XML "</Credentials></a>", "AX"},
    {WEB("{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"s3cret\"}"), NULL},
    {WEB("{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"s3cret\",\"SessionToken\":null}"), NULL},
    {WEB("[]"), NULL},
    {WEB("null"), NULL},
    {"{\"AssumeRoleResponse\":{\"AssumeRoleResult\":{\"Credentials\":{\"AccessKeyId\":\"A1\","
     "\"SecretAccessKey\":\"s3cret\",\"SessionToken\":\"t\"}}}}",
     NULL},
    {"{}", NULL},
    {"", NULL},
    {"<", NULL},
    {"<Credentials>", NULL},
    {"<Credentials></Credentials>", NULL},
    {"</Credentials><Credentials>" GOOD_XML, NULL},
    {"<a><Credentials>" GOOD_XML "</Credentials><Credentials></Credentials></a>", NULL},
    {"<a><Credentials><Credentials>" GOOD_XML "</Credentials></a>", NULL},
    {"<a><Credentials>" GOOD_XML "<SessionToken>t2</SessionToken></Credentials></a>", NULL},
    {"<a><Credentials>" GOOD_XML "</SessionToken></Credentials></a>", NULL},
    {"<Credentials><AccessKeyId>AX</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey>"
     "</Credentials><SessionToken>t</SessionToken>",
     NULL},
    {"<Credentials><AccessKeyId>AX</AccessKeyId><SecretAccessKey>s&amp;</SecretAccessKey>"
     "<SessionToken>t</SessionToken></Credentials>",
     NULL},
    {"<Credentials><AccessKeyId>AX</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
     "<SessionToken><b>t</b></SessionToken></Credentials>",
     NULL},
    {"<Credentials><AccessKeyId>AX</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
     "<SessionToken>\xff</SessionToken></Credentials>",
     NULL},
    {"<Credentials><AccessKeyId>AX</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
     "<SessionToken>t\r\nX: y</SessionToken></Credentials>",
     NULL},
    {"<Credentials><AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t"
     "</SessionToken></Credentials>",
     NULL},
};

START_TEST(reads_sts)
{
    aip_aws_conf_t conf = {.sts_endpoint_url = "http://127.0.0.1:9/sts"};
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    setenv("AWS_ROLE_SESSION_NAME", "my@name", 1);
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", temporary("eyJ.web"), 1);
    answers[0] = (answer_t){200, sts[_i].body, 0};
    if (!sts[_i].access) {
        refuses(&conf, "AWS STS answered with");
        return;
    }
    ck_assert_msg(ask(&conf) == APR_SUCCESS, "%s", err.message);
    ck_assert_str_eq(keys.access_key, sts[_i].access);
    ck_assert_ptr_nonnull(keys.token);
    has(asked[0], "POST http://127.0.0.1:9/sts\n");
    has(asked[0], "&RoleSessionName=my%40name&");
}
END_TEST

START_TEST(sts_endpoints)
{
    static const struct {
        const char *region, *variable, *configured, *asked; /* NULL: the refusal is in configured */
    } rows[] = {
        {NULL, NULL, NULL, "POST https://sts.amazonaws.com\n"},
        {NULL, "eu-west-1", NULL, "POST https://sts.eu-west-1.amazonaws.com\n"},
        {"eu-north-1", "eu-west-1", NULL, "POST https://sts.eu-north-1.amazonaws.com\n"},
        {"cn-north-1", NULL, NULL, "POST https://sts.cn-north-1.amazonaws.com.cn\n"},
        {"eu-north-1", NULL, "https://vpce.example/", "POST https://vpce.example/\n"},
        {"evil.example/", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},
        {"-x", NULL, NULL, NULL},
        {"a@b", NULL, NULL, NULL},
        {NULL, NULL, "http://sts.example/", NULL},
        {NULL, NULL, "sts.example", NULL},
    };
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", temporary("eyJ.web"), 1);
    answers[0] = (answer_t){403, "<E><Error><Code>AccessDenied</Code></Error></E>", 0};
    for (int i = 0; i < ROWS(rows); i++) {
        aip_aws_conf_t conf = {.region = rows[i].region, .sts_endpoint_url = rows[i].configured};
        if (rows[i].variable) {
            setenv("AWS_DEFAULT_REGION", rows[i].variable, 1);
        } else {
            unsetenv("AWS_DEFAULT_REGION");
        }
        if (rows[i].asked) {
            refuses(&conf, "AWS STS answered with status 403 (AccessDenied)");
            has(asked[0], rows[i].asked);
        } else {
            refuses(&conf, rows[i].configured ? "the URL of AWS STS must " : "no name of a region");
            ck_assert_int_eq(n_asked, 0);
        }
    }
}
END_TEST

/* A role on top of other credentials: signed with them, by the signer that has its own tests. */
START_TEST(assumes_roles)
{
    aip_aws_conf_t conf = {.access_key = "AKIACONF",
                           .secret_key = "s3cret",
                           .region = "eu-west-1",
                           .assume_role_arn = "arn:aws:iam::1:role/r",
                           .role_session_name = "gw"};
    answers[0] = (answer_t){200,
                            "{\"AssumeRoleResponse\":{\"AssumeRoleResult\":{\"Credentials\":{"
                            "\"AccessKeyId\":\"ASIAROLE\",\"SecretAccessKey\":\"sr\","
                            "\"SessionToken\":\"tr\",\"Expiration\":3.25e10}}}}",
                            0};
    gives(&conf, "ASIAROLE", "sr", "tr");
    ck_assert_int_eq(lifetime, apr_time_from_sec(86400));
    has(asked[0], "POST https://sts.eu-west-1.amazonaws.com\n"
                  "Content-Type: application/x-www-form-urlencoded\nAccept: application/json\n"
                  "Authorization: AWS4-HMAC-SHA256 Credential=AKIACONF/");
    has(asked[0], "/eu-west-1/sts/aws4_request");
    has(asked[0], "accept;content-type;host;x-amz-date");
    has(asked[0], "\nX-Amz-Date: ");
    has(asked[0], "\n\nAction=AssumeRole&Version=2011-06-15&RoleArn="
                  "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=gw");
    has_not(asked[0], "Security-Token");
    has_not(asked[0], "s3cret");

    /* Temporary credentials below; the endpoint for all regions has a region of its own. */
    setenv("AWS_ACCESS_KEY_ID", "AKIAENV", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "s3cret", 1);
    setenv("AWS_SESSION_TOKEN", "te", 1);
    setenv("AWS_ROLE_SESSION_NAME", "of-env", 1);
    conf = (aip_aws_conf_t){.assume_role_arn = "arn:aws:iam::1:role/r"};
    gives(&conf, "ASIAROLE", "sr", "tr");
    has(asked[0], "POST https://sts.amazonaws.com\n");
    has(asked[0], "Credential=AKIAENV/");
    has(asked[0], "/us-east-1/sts/aws4_request");
    has(asked[0], "\nX-Amz-Security-Token: te\n");
    has(asked[0], "&RoleSessionName=of-env");
    conf.sts_endpoint_url = "http://127.0.0.1:9/";
    refuses(&conf, "the AWS region of AWS STS is not known");
    ck_assert_int_eq(n_asked, 0);
    conf.region = "eu west";
    refuses(&conf, "the AWS region of AWS STS is not known");

    answers[0] = (answer_t){403, "{\"Error\":{\"Code\":\"AccessDenied\"}}", 0};
    conf.region = "eu-west-1";
    refuses(&conf, "AWS STS answered with status 403 (AccessDenied)");
    ck_assert_ptr_null(keys.access_key); /* never those below instead */
    answers[0] = (answer_t){200, "{}", 0};
    refuses(&conf, "without temporary credentials");
    ck_assert_ptr_null(keys.access_key);
}
END_TEST

Suite *identity_aws_suite(void)
{
    Suite *suite = suite_create("identity_aws");
    TCase *tcase = tcase_create("identity_aws");
    tcase_add_checked_fixture(tcase, identity_setup, pool_teardown);
    tcase_add_test(tcase, order_of_sources);
    tcase_add_test(tcase, failing_sources_are_not_passed_over);
    tcase_add_test(tcase, profiles);
    tcase_add_test(tcase, containers);
    tcase_add_test(tcase, instances);
    tcase_add_loop_test(tcase, reads_agents, 0, ROWS(bodies));
    tcase_add_loop_test(tcase, reads_sts, 0, ROWS(sts));
    tcase_add_test(tcase, sts_endpoints);
    tcase_add_test(tcase, assumes_roles);
    suite_add_tcase(suite, tcase);
    return suite;
}
