/* SPDX-License-Identifier: Apache-2.0 */
/* Signature Version 4. The signatures of `rows` were computed with botocore 1.44.8; AWS's published
 * vectors are run by t/tools/sigv4_vectors.c. */
#include "aip/sigv4.h"

#include <string.h>

#include "fixture.h"

#define NOW (apr_time_from_sec(1804136767) + 999999) /* 2027-03-04T05:06:07Z */
#define ACCESS "AKIATESTTESTTEST0001"
#define SECRET "unit/test+secret/0123456789abcdefABCDEF0"
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define JSON_SHA256 "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
#define BYTES_SHA256 "ce3890a816f5237a17aa7e1436113bbac398dfe216cf965537cd035bdbad900a"

Suite *sigv4_suite(void);

static const char *const content_type[][2] = {{"Content-Type", "application/json"}};
static const char *const several[][2] = {
    {"X-One", " two   words "}, {"Accept", "*/*"}, {"x-one", "again"}};

static const aip_aws_keys_t permanent = {ACCESS, SECRET, NULL};
static const aip_aws_keys_t temporary = {ACCESS, SECRET, "tok/en+=="};

/* clang-format off */
static const struct {
    const char *name;
    aip_sigv4_request_t request;
    const aip_aws_keys_t *keys;
    const char *canonical_request, *scope, *canonical_sha256, *signature;
} rows[] = {
    {"a colon of a model id is encoded twice",
     {.method = "POST", .host = "bedrock-runtime.eu-west-1.amazonaws.com",
      .path = "/model/acme.large-v1%3A0/invoke", .region = "eu-west-1", .service = "bedrock",
      .body = {"{\"a\":1}", 7}, .now = NOW, .headers = content_type, .n_headers = 1},
     &permanent,
     "POST\n/model/acme.large-v1%253A0/invoke\n\ncontent-type:application/json\n"
     "host:bedrock-runtime.eu-west-1.amazonaws.com\nx-amz-date:20270304T050607Z\n\n"
     "content-type;host;x-amz-date\n" JSON_SHA256,
     "eu-west-1/bedrock", "3a8b1a4969aa2ba5ead0bb1b2e8ac71c1cb838a13a405ff70f0647a82a553308",
     "f42f1ecbf175fa84e0155d82230fc6f443f07e08471eb874bde49570c1f5c704"},
    {"temporary keys, a port",
     {.method = "POST", .host = "bedrock-mantle.us-west-2.api.aws:8443",
      .path = "/openai/v1/chat/completions", .query = "", .region = "us-west-2",
      .service = "bedrock", .now = NOW},
     &temporary,
     "POST\n/openai/v1/chat/completions\n\nhost:bedrock-mantle.us-west-2.api.aws:8443\n"
     "x-amz-date:20270304T050607Z\nx-amz-security-token:tok/en+==\n\n"
     "host;x-amz-date;x-amz-security-token\n" EMPTY_SHA256,
     "us-west-2/bedrock", "9fb4dbb50a4d994c3fb1a1fc2b60657173ea635588fb27b9d4cb4aea52e4acdf",
     "9d6353a25c9e74ad54adfb7a4c3d8288d57500d789721bfdc8b087dfc7079878"},
    {"dots, a query, fields of one name",
     {.method = "GET", .host = "sts.amazonaws.com", .path = "/a//b/./c/../d/",
      .query = "b=2&a-1=x&a=z&a=~&c", .region = "us-east-1", .service = "sts", .now = NOW,
      .headers = several, .n_headers = 3},
     &permanent,
     "GET\n/a/b/d/\na=z&a=~&a-1=x&b=2&c=\naccept:*/*\nhost:sts.amazonaws.com\n"
     "x-amz-date:20270304T050607Z\nx-one:two words,again\n\n"
     "accept;host;x-amz-date;x-one\n" EMPTY_SHA256,
     "us-east-1/sts", "c322df2f2351fa5aea2985cf482f080d409e8819baa782655b667c2b7192c117",
     "96e25f3a3818c7e617575f370bc29727bf930410f0cef6801a0f9d17bfbf0a11"},
    {"S3 keeps its path and tells the digest of the body",
     {.method = "PUT", .host = "bucket.s3.amazonaws.com", .path = "/a//b/../%3A%20",
      .region = "us-east-1", .service = "s3", .body = {"x\0y", 3}, .now = NOW},
     &permanent,
     "PUT\n/a//b/../%3A%20\n\nhost:bucket.s3.amazonaws.com\n"
     "x-amz-content-sha256:" BYTES_SHA256 "\nx-amz-date:20270304T050607Z\n\n"
     "host;x-amz-content-sha256;x-amz-date\n" BYTES_SHA256,
     "us-east-1/s3", "26c6ae95d2a3143838e9e06985c973539fd891f42cea33c5ec9e80cba45a7ddb",
     "f46bba0fb9c29fd794a6264769039696f8ef40ab9e520bcc21ee28041b59a128"},
};

/* As sent and as signed. */
static const struct {
    const char *path, *query, *signed_path, *signed_query;
    unsigned flags;
} spellings[] = {
    {"/", NULL, "/", "", 0},
    {"/a", "&&", "/a", "", 0},
    {"/a/..", "=", "/", "=", 0},
    {"/a/b/..", "a&a", "/a/", "a=&a=", 0},
    {"/../../a", "a=b=c", "/a", "a=b%3Dc", 0},
    {"/..", "a=%2f%7e%C3%a9", "/", "a=%2F~%C3%A9", 0},
    {"/a/./", "a=/?:@", "/a/", "a=%2F%3F%3A%40", 0},
    {"/a/.", "%61=1&A=2", "/a/", "A=2&a=1", 0},
    {"/...", "a=2&a=10&a", "/...", "a=&a=10&a=2", 0},
    {"/a@b:c", NULL, "/a%40b%3Ac", "", 0},
    {"/a%2Fb%2e%2E", NULL, "/a%252Fb%252e%252E", "", 0},
    {"/a%2Fb%2e%2E", NULL, "/a%2Fb..", "", AIP_SIGV4_ENCODE_ONCE},
    {"/a@b:c%3a//", NULL, "/a%40b%3Ac%3A/", "", AIP_SIGV4_ENCODE_ONCE},
    {"/a/../b%20//", NULL, "/a/../b%2520//", "", AIP_SIGV4_KEEP_PATH},
};

#define GOOD                                                                                       \
    .method = "POST", .host = "h.example", .path = "/p", .region = "us-east-1",                    \
    .service = "bedrock", .now = NOW
/* A good request, of which one text is replaced. */
typedef struct input_t {
    aip_sigv4_request_t request;
    aip_aws_keys_t keys;
    const char *header[2];
} input_t;
#define IN(member) offsetof(input_t, member)

static const struct {
    const char *name, *says;
    size_t where;
    const char *what;
} refused[] = {
    {"no method", "method", IN(request.method), NULL},
    {"a space in the method", "method", IN(request.method), "GET /x"},
    {"a line in the method", "method", IN(request.method), "GET\nX"},
    {"no host", "host", IN(request.host), ""},
    {"a line in the host", "host", IN(request.host), "h\r\nX: y"},
    {"a path in the host", "host", IN(request.host), "h/x"},
    {"a user in the host", "host", IN(request.host), "a@h"},
    {"no path", "path", IN(request.path), NULL},
    {"an empty path", "path", IN(request.path), ""},
    {"a relative path", "path", IN(request.path), "p"},
    {"a space in the path", "path", IN(request.path), "/a b"},
    {"a line in the path", "path", IN(request.path), "/a\nX"},
    {"a query in the path", "path", IN(request.path), "/a?b"},
    {"a fragment in the path", "path", IN(request.path), "/a#b"},
    {"raw UTF-8 in the path", "path", IN(request.path), "/\xc3\xa9"},
    {"half an encoding", "path", IN(request.path), "/a%4"},
    {"a bare percent", "path", IN(request.path), "/%"},
    {"no digits", "path", IN(request.path), "/%zz"},
    {"a plus in the query", "query", IN(request.query), "a=b+c"},
    {"a tab in the query", "query", IN(request.query), "a=\t"},
    {"half an encoding in the query", "query", IN(request.query), "a=%a"},
    {"no region", "region", IN(request.region), ""},
    {"a scope in the region", "region", IN(request.region), "us/x"},
    {"a list in the region", "region", IN(request.region), "us,x"},
    {"a line in the region", "region", IN(request.region), "us\r\nX"},
    {"no service", "service", IN(request.service), NULL},
    {"a space in the service", "service", IN(request.service), "s 3"},
    {"a field without a name", "name", IN(header[0]), ""},
    {"a field whose name has a colon", "name", IN(header[0]), "a:b"},
    {"a field whose name has a line", "name", IN(header[0]), "a\r\nb"},
    {"a field without a value", "value", IN(header[1]), NULL},
    {"a field with two lines", "value", IN(header[1]), "x\r\ny: z"},
    {"a field with a newline", "value", IN(header[1]), "x\ny"},
    {"a field with DEL", "value", IN(header[1]), "x\x7f"},
    {"Host as a field", "itself", IN(header[0]), "HOST"},
    {"Authorization as a field", "itself", IN(header[0]), "authorization"},
    {"the date as a field", "itself", IN(header[0]), "X-Amz-Date"},
    {"the token as a field", "itself", IN(header[0]), "x-amz-security-token"},
    {"the digest as a field", "itself", IN(header[0]), "X-AMZ-Content-SHA256"},
    {"no access key", "access key", IN(keys.access_key), NULL},
    {"an empty access key", "access key", IN(keys.access_key), ""},
    {"an access key with a slash", "access key", IN(keys.access_key), "A/B"},
    {"an access key with a comma", "access key", IN(keys.access_key), "A,B"},
    {"an access key with lines", "access key", IN(keys.access_key), "A\r\nX: y"},
    {"no secret key", "secret key", IN(keys.secret_key), NULL},
    {"an empty secret key", "secret key", IN(keys.secret_key), ""},
    {"a secret key with a line end", "secret key", IN(keys.secret_key), SECRET "\n"},
    {"a token with lines", "token", IN(keys.token), "t\r\nX: y"},
    {"a token with a space", "token", IN(keys.token), "t t"},
};
/* clang-format on */

START_TEST(signatures)
{
    const aip_sigv4_request_t *request = &rows[_i].request;
    const char *error = "", *lines, *names, *expected, *last;
    aip_sigv4_stages_t stages;
    ck_assert_int_eq(aip_sigv4_stages(request, rows[_i].keys, pool, &stages, &error), APR_SUCCESS);
    ck_assert_ptr_null(error);
    ck_assert_str_eq(stages.canonical_request, rows[_i].canonical_request);
    ck_assert_str_eq(stages.string_to_sign,
                     apr_pstrcat(pool, "AWS4-HMAC-SHA256\n20270304T050607Z\n20270304/",
                                 rows[_i].scope, "/aws4_request\n", rows[_i].canonical_sha256,
                                 NULL));
    ck_assert_str_eq(stages.signature, rows[_i].signature);

    last = strrchr(rows[_i].canonical_request, '\n') + 1;
    names = strstr(rows[_i].canonical_request, "\n\n") + 2;
    names = strstr(names, "\n\n") ? strstr(names, "\n\n") + 2 : names;
    names = apr_pstrmemdup(pool, names, (size_t)(last - 1 - names));
    expected = apr_pstrcat(
        pool, "Authorization: AWS4-HMAC-SHA256 Credential=" ACCESS "/20270304/", rows[_i].scope,
        "/aws4_request, SignedHeaders=", names, ", Signature=", rows[_i].signature,
        "\r\nX-Amz-Date: 20270304T050607Z\r\n",
        rows[_i].keys->token ? "X-Amz-Security-Token: tok/en+==\r\n" : "",
        strcmp(request->service, "s3") == 0 ? "X-Amz-Content-Sha256: " BYTES_SHA256 "\r\n" : "",
        NULL);
    ck_assert_int_eq(aip_sigv4_sign(request, rows[_i].keys, pool, &lines, &error), APR_SUCCESS);
    ck_assert_str_eq(lines, expected);
}
END_TEST

START_TEST(canonical_spelling)
{
    aip_sigv4_request_t request = {GOOD};
    const char *error, *expected;
    aip_sigv4_stages_t stages;
    request.path = spellings[_i].path;
    request.query = spellings[_i].query;
    request.flags = spellings[_i].flags;
    ck_assert_int_eq(aip_sigv4_stages(&request, &permanent, pool, &stages, &error), APR_SUCCESS);
    expected = apr_pstrcat(pool, "POST\n", spellings[_i].signed_path, "\n",
                           spellings[_i].signed_query, "\nhost:", NULL);
    ck_assert_str_eq(apr_pstrmemdup(pool, stages.canonical_request, strlen(expected)), expected);
}
END_TEST

static const char **text_in(input_t *in, size_t where)
{
    return (const char **)(void *)((char *)in + where);
}

START_TEST(refusals)
{
    input_t in = {{GOOD}, {ACCESS, SECRET, "token"}, {"X-Good", "x"}};
    const char *error = NULL, *lines = "untouched";
    in.request.headers = &in.header;
    in.request.n_headers = 1;
    ck_assert_int_eq(aip_sigv4_sign(&in.request, &in.keys, pool, &lines, &error), APR_SUCCESS);
    *text_in(&in, refused[_i].where) = refused[_i].what;
    lines = "untouched";
    ck_assert_msg(aip_sigv4_sign(&in.request, &in.keys, pool, &lines, &error) == APR_EINVAL, "%s",
                  refused[_i].name);
    ck_assert_str_eq(lines, "untouched");
    ck_assert_msg(error && strstr(error, refused[_i].says), "%s: %s", refused[_i].name, error);
}
END_TEST

/* Which bytes get through, alone between others, in every part. */
static const struct {
    size_t where;
    const char *except; /* of visible ASCII */
    const char *besides;
    bool high; /* bytes above ASCII */
} bytes[] = {
    {IN(keys.token), "", "", false},
    {IN(keys.secret_key), "", "", false},
    {IN(keys.access_key), "/,\"", "", false},
    {IN(request.method), "\"(),/:;<=>?@[\\]{}", "", false},
    {IN(request.host), "\"#%/<>?@\\^`{|},;", "", false},
    {IN(request.region), "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~", "", false},
    {IN(request.service), "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~", "", false},
    {IN(request.path), "%?#\"<>\\^`{|}", "", false},
    {IN(request.query), "%+#\"<>\\^`{|}", "", false},
    {IN(header[0]), "\"(),/:;<=>?@[\\]{}", "", false},
    {IN(header[1]), "", " \t", true},
};

START_TEST(every_byte)
{
    for (int c = 1; c < 256; c++) {
        const char text[] = {'/', 'a', (char)c, 'b', '\0'}, *error, *lines;
        bool plain = (c > 0x20 && c < 0x7f && !strchr(bytes[_i].except, c)) ||
                     strchr(bytes[_i].besides, c) || (c >= 0x80 && bytes[_i].high);
        input_t in = {{GOOD}, {ACCESS, SECRET, "token"}, {"X-Good", "x"}};
        in.request.headers = &in.header;
        in.request.n_headers = 1;
        *text_in(&in, bytes[_i].where) = bytes[_i].where == IN(request.path) ? text : text + 1;
        ck_assert_msg(
            (aip_sigv4_sign(&in.request, &in.keys, pool, &lines, &error) == APR_SUCCESS) == plain,
            "row %d, byte 0x%02x", _i, (unsigned)c);
    }
}
END_TEST

START_TEST(limits)
{
    char secret[AIP_SIGV4_SECRET_MAX + 2];
    aip_sigv4_request_t request = {GOOD};
    aip_aws_keys_t keys = {ACCESS, secret, ""};
    const char *error, *lines;
    memset(secret, 'x', sizeof(secret));
    secret[AIP_SIGV4_SECRET_MAX] = '\0';
    ck_assert_int_eq(aip_sigv4_sign(&request, &keys, pool, &lines, &error), APR_SUCCESS);
    ck_assert_ptr_null(strstr(lines, "Token")); /* an empty token is none */
    secret[AIP_SIGV4_SECRET_MAX] = 'x';
    secret[AIP_SIGV4_SECRET_MAX + 1] = '\0';
    ck_assert_int_eq(aip_sigv4_sign(&request, &keys, pool, &lines, &error), APR_EINVAL);

    request.body.len = 1;
    ck_assert_int_eq(aip_sigv4_sign(&request, &permanent, pool, &lines, &error), APR_EINVAL);
    request.body.len = 0;
    request.now = -1;
    ck_assert_int_eq(aip_sigv4_sign(&request, &permanent, pool, &lines, &error), APR_EINVAL);
    request.now = apr_time_from_sec(APR_INT64_C(253402300800)) - 1;
    ck_assert_int_eq(aip_sigv4_sign(&request, &permanent, pool, &lines, &error), APR_SUCCESS);
    ck_assert_ptr_nonnull(strstr(lines, "\r\nX-Amz-Date: 99991231T235959Z\r\n"));
    request.now++;
    ck_assert_int_eq(aip_sigv4_sign(&request, &permanent, pool, &lines, &error), APR_EINVAL);
}
END_TEST

/* The order among fields of one name is that of sending, however many there are. */
START_TEST(many_fields)
{
    enum { N = 300 };
    const char *(*headers)[2] = apr_palloc(pool, N * sizeof(*headers));
    const char *error, *expected = "x-a:0";
    aip_sigv4_request_t request = {GOOD, .n_headers = N};
    aip_sigv4_stages_t stages;
    for (int i = 0; i < N; i++) {
        headers[i][0] = i & 1 ? "X-A" : "x-a";
        headers[i][1] = apr_itoa(pool, i);
        expected = i ? apr_pstrcat(pool, expected, ",", headers[i][1], NULL) : expected;
    }
    request.headers = (const char *const(*)[2])headers;
    ck_assert_int_eq(aip_sigv4_stages(&request, &permanent, pool, &stages, &error), APR_SUCCESS);
    ck_assert_ptr_nonnull(
        strstr(stages.canonical_request, apr_pstrcat(pool, "\n", expected, "\n", NULL)));
    ck_assert_str_eq(stages.signed_headers, "host;x-a;x-amz-date");
}
END_TEST

Suite *sigv4_suite(void)
{
    Suite *suite = suite_create("sigv4");
    TCase *tc = tcase_create("sigv4");
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, signatures, 0, ROWS(rows));
    tcase_add_loop_test(tc, canonical_spelling, 0, ROWS(spellings));
    tcase_add_loop_test(tc, refusals, 0, ROWS(refused));
    tcase_add_loop_test(tc, every_byte, 0, ROWS(bytes));
    tcase_add_test(tc, limits);
    tcase_add_test(tc, many_fields);
    suite_add_tcase(suite, tc);
    return suite;
}
