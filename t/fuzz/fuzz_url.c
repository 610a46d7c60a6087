/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes URLs, templates in them, and the rules of where they may lead. The lines of the input are:
 * a URL, a value of AIEgressAllow, one of AIEgressNoProxy, and what a client puts into templates.
 * What must hold: libcurl, which sends what the background asks, finds the same scheme, host, port,
 * path and query in a URL that was taken; nothing in it could end a request line; what a rule
 * allows has the rule's host; a template that was filled in leads to a URL of the same form; a
 * value that was encoded decodes to itself. */

#include "fuzz.h"

#include "aip/egress.h"
#include "aip/template.h"

#include <apr_strings.h>
#include <curl/curl.h>
#include <arpa/inet.h>

static char *part_of(CURLU *curl, CURLUPart part, unsigned flags)
{
    char *text = NULL;

    return curl_url_get(curl, part, &text, flags) == CURLUE_OK ? text : NULL;
}

static void check_part(CURLU *curl, CURLUPart part, const char *expected)
{
    char *text = part_of(curl, part, CURLU_DEFAULT_PORT);

    require(text && strcasecmp(text, expected) == 0);
    curl_free(text);
}

/* The same name, or the same address: libcurl writes out what resolvers understand as one
 * ("0x7f.1"), and decodes percent signs, with which no rule of ours lets a host pass. */
static void check_host(CURLU *curl, const aip_url_t *url)
{
    char *text = part_of(curl, CURLUPART_HOST, 0);
    const size_t len = text ? strlen(text) : 0;
    struct in_addr v4, same_v4;
    struct in6_addr v6, same_v6;

    require(text != NULL);
    if (*text == '[')
        text[len - 1] = '\0';
    const char *host = text + (*text == '[');
    if (!strchr(url->host, '%') && strcasecmp(host, url->host) != 0) {
        if (*text == '[')
            require(inet_pton(AF_INET6, host, &v6) == 1 &&
                    inet_pton(AF_INET6, url->host, &same_v6) &&
                    memcmp(&v6, &same_v6, sizeof v6) == 0);
        else
            require(inet_pton(AF_INET, host, &v4) == 1 && inet_aton(url->host, &same_v4) &&
                    v4.s_addr == same_v4.s_addr);
    }
    curl_free(text);
}

/* What libcurl refuses, it does not ask; the request path asks by `host`, `port` and `path`. */
static void check_curl(const char *text, const aip_url_t *url)
{
    CURLU *curl = curl_url();

    if (curl_url_set(curl, CURLUPART_URL, text, CURLU_PATH_AS_IS) == CURLUE_OK) {
        check_part(curl, CURLUPART_SCHEME, url->tls ? "https" : "http");
        check_part(curl, CURLUPART_PORT, apr_psprintf(fuzz_pool(), "%d", url->port));
        check_host(curl, url);
        char *path = part_of(curl, CURLUPART_PATH, 0), *query = part_of(curl, CURLUPART_QUERY, 0);
        require(path && strcmp(path, url->path) == 0);
        require(!query || !*query || (url->query && strcmp(query, url->query) == 0));
        curl_free(path);
        curl_free(query);
    }
    curl_url_cleanup(curl);
}

static bool check_url(const char *text, aip_url_t *url)
{
    const char *error = NULL;

    if (aip_url_parse(text, url, fuzz_pool(), &error) != APR_SUCCESS) {
        require(error && *error);
        return false;
    }
    require(*url->host && url->port >= 1 && url->port <= 65535 && url->path && *url->path == '/');
    for (const char *p = text; *p; p++)
        require(*p > ' ' && *p < 0x7f);
    require(!strpbrk(url->host, "/?#@"));
    require(strcmp(aip_url_shown(text, fuzz_pool()), text) == 0 || strchr(text, '@'));
    check_curl(text, url);
    return true;
}

/* The rule's own host, when it has no wildcard and is no network. */
static void check_rules(const aip_url_t *url, char *allow, char *no_proxy)
{
    apr_array_header_t *allowed = apr_array_make(fuzz_pool(), 1, sizeof(char *)),
                       *direct = apr_array_make(fuzz_pool(), 1, sizeof(char *));
    const char *allow_error = aip_egress_allow_error(allow, fuzz_pool()),
               *direct_error = aip_egress_no_proxy_error(no_proxy, fuzz_pool());
    aip_egress_t egress = {
        .proxy_host = "proxy", .proxy_port = 1, .allow = allowed, .no_proxy = direct};

    require((!allow_error || *allow_error) && (!direct_error || *direct_error));
    if (!allow_error)
        APR_ARRAY_PUSH(allowed, char *) = allow;
    if (!direct_error)
        APR_ARRAY_PUSH(direct, char *) = no_proxy;
    const bool passes = aip_egress_allows(&egress, url),
               named = aip_egress_names(&egress, url->host);
    require(!allow_error || (!passes && !named));
    require(!direct_error || aip_egress_proxied(&egress, url->host));
    if (passes)
        require(!strstr(url->path, "/../") && !strstr(url->path, "/./") &&
                !strchr(url->path, '\\') && !strcasestr(url->path, "%2f") &&
                !strcasestr(url->path, "/%2e%2e/"));
    if (aip_host_class(url->host) != AIP_ADDRESS_ORDINARY)
        require(aip_egress_address_ok(&egress, url->host, NULL) == named);
}

static const char *value_of(void *baton, const char *source, const char *key)
{
    (void)source, (void)key;
    return baton;
}

static void check_template(const char *text, char *value)
{
    const char *error = aip_template_error(text, fuzz_pool()), *filled = NULL, *problem;
    aip_error_t err = {0};
    aip_url_t url, sample;

    if (error ||
        aip_url_parse(aip_template_sample(text, fuzz_pool()), &sample, fuzz_pool(), &problem))
        return;
    if (aip_template_expand(text, value_of, value, &filled, fuzz_pool(), &err) != APR_SUCCESS) {
        require(err.status == 400 && err.message);
        return;
    }
    require(!aip_template_in(filled));
    if (aip_url_parse(filled, &url, fuzz_pool(), &problem) != APR_SUCCESS)
        return;
    /* As many segments of the path, as many parts of the query, the same scheme and port. */
    const char *a = filled, *b = aip_template_sample(text, fuzz_pool());
    require(url.tls == sample.tls && url.port == sample.port);
    for (const char *mark = "/?&=#@"; *mark; mark++) {
        int n = 0;

        for (const char *p = a; *p; p++)
            n += *p == *mark;
        for (const char *p = b; *p; p++)
            n -= *p == *mark;
        require(n == 0);
    }
}

static void check_encoding(const char *value)
{
    const char *encoded = aip_url_encode(value, fuzz_pool());
    int len = 0;
    char *decoded = curl_easy_unescape(NULL, encoded, 0, &len);

    require(decoded && (size_t)len == strlen(value) && memcmp(decoded, value, (size_t)len) == 0);
    require(!encoded[strspn(encoded, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789-._~%")]);
    curl_free(decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *lines[4];
    aip_url_t url;

    for (int i = 0; i < 4; i++)
        lines[i] = fuzz_line(&data, &size);
    if (check_url(lines[0], &url))
        check_rules(&url, lines[1], lines[2]);
    check_template(lines[0], lines[3]);
    check_encoding(lines[3]);
    for (int i = 0; i < 4; i++)
        free(lines[i]);
    apr_pool_clear(fuzz_pool());
    return 0;
}
