/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the signing of requests. The first byte chooses flags, then a line each: method, host,
 * path, query, region, service, the session token, and header fields up to an empty line; the rest
 * is the body. What must hold: a refusal names a reason; header lines that are made end where they
 * should and nowhere else; the canonical request has the parts that AWS wants in its order, its
 * hash and that of the body are those of OpenSSL; signing again gives the same. scripts/test sigv4
 * compares whole signatures with AWS's cases and with botocore. */

#include "fuzz.h"

#include "aip/sigv4.h"

#include <apr_strings.h>
#include <apr_time.h>
#include <openssl/sha.h>

#define FIELDS 8

static const char *hash_of(const void *data, size_t len)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char *hex = apr_palloc(fuzz_pool(), 2 * sizeof digest + 1);

    SHA256(data, len, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return hex;
}

/* Visible ASCII, spaces and tabs in lines that end with CRLF. */
static void check_lines(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\r')
            require(*++p == '\n');
        else
            require((unsigned char)*p >= 0x20 || *p == '\t');
    }
    require(strncmp(text, "Authorization: AWS4-HMAC-SHA256 Credential=AKID/", 48) == 0);
    require(strcmp(text + strlen(text) - 2, "\r\n") == 0 && !strstr(text, "\r\n\r\n"));
}

/* Lines of the canonical request: method, path, query, fields, "", their names, hash of the body.
 */
static void check_canonical(const aip_sigv4_request_t *r, const aip_sigv4_stages_t *stages)
{
    const char *text = stages->canonical_request, *last = strrchr(text, '\n');
    char *names = apr_pstrcat(fuzz_pool(), "\n\n", stages->signed_headers, "\n", NULL);
    int lines = 0;

    require(strcmp(stages->body_sha256, hash_of(r->body.data, r->body.len)) == 0);
    require(last && strlen(last + 1) == 64);
    require(strstr(text, names) && strstr(text, names) + strlen(names) == last + 1);
    require(strncmp(text, r->method, strlen(r->method)) == 0 && text[strlen(r->method)] == '\n');
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    int fields = 1;
    for (const char *p = stages->signed_headers; *p; p++) {
        fields += *p == ';';
        require(*p == ';' || ((unsigned char)*p > 0x20 && (*p < 'A' || *p > 'Z')));
    }
    require(lines == 3 + fields + 1 + 1);
    const char *hash = strrchr(stages->string_to_sign, '\n');
    require(hash && strcmp(hash + 1, hash_of(text, strlen(text))) == 0);
    require(strlen(stages->signature) == 64 && strspn(stages->signature, "0123456789abcdef") == 64);
}

static void check(const aip_sigv4_request_t *request, const char *token)
{
    const aip_aws_keys_t keys = {"AKID", "secret", token};
    const char *error = NULL, *lines = NULL;
    aip_sigv4_stages_t stages, again;

    if (aip_sigv4_stages(request, &keys, fuzz_pool(), &stages, &error) != APR_SUCCESS) {
        require(error && *error);
        require(aip_sigv4_sign(request, &keys, fuzz_pool(), &lines, &error) != APR_SUCCESS);
        return;
    }
    check_canonical(request, &stages);
    require(aip_sigv4_stages(request, &keys, fuzz_pool(), &again, &error) == APR_SUCCESS);
    require(strcmp(stages.signature, again.signature) == 0);
    require(aip_sigv4_sign(request, &keys, fuzz_pool(), &lines, &error) == APR_SUCCESS);
    check_lines(lines);
    require(strstr(lines, stages.signature));
}

static char *next(const uint8_t **data, size_t *size)
{
    char *line = fuzz_line(data, size), *copy = apr_pstrdup(fuzz_pool(), line);

    free(line);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *headers[FIELDS][2], *line;
    aip_sigv4_request_t request = {.now = apr_time_from_sec(1440938160)};

    if (size < 1)
        return 0;
    request.flags = data[0] & 15;
    data++;
    size--;
    request.method = next(&data, &size);
    request.host = next(&data, &size);
    request.path = next(&data, &size);
    request.query = next(&data, &size);
    request.region = next(&data, &size);
    request.service = next(&data, &size);
    const char *token = next(&data, &size);
    while (*(line = next(&data, &size)) && request.n_headers < FIELDS) {
        char *colon = strchr(line, ':');

        headers[request.n_headers][0] = line;
        headers[request.n_headers++][1] = colon ? colon + 1 : "";
        if (colon)
            *colon = '\0';
    }
    request.headers = (const char *const(*)[2])headers;
    char *body = fuzz_copy(data, size);
    request.body = (aip_span_t){body, size};
    check(&request, token);
    free(body);
    apr_pool_clear(fuzz_pool());
    return 0;
}
