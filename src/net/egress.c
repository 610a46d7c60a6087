/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of egress: which addresses are never gone to, what is reached without the proxy, and
 * which URLs AIEgressAllow lets pass. Addresses are compared as 16 bytes, IPv4 as its mapped form,
 * so that one address has one spelling. Called while the configuration is checked and once per
 * connection. */
#include "aip/egress.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define HOST_MAX 255

typedef struct address_t {
    unsigned char bytes[16];
} address_t;

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static address_t from_v4(const void *v4)
{
    address_t a;
    memcpy(a.bytes, mapped, sizeof mapped);
    memcpy(a.bytes + sizeof mapped, v4, 4);
    return a;
}

static bool is_v4(const address_t *a)
{
    return memcmp(a->bytes, mapped, sizeof mapped) == 0;
}

/* The IPv4 address that an IPv6 one leads to: mapped, compatible (but :: and ::1), NAT64, 6to4. */
static address_t innermost(const address_t *a)
{
    static const unsigned char zero[12], nat64[12] = {0, 0x64, 0xff, 0x9b};
    const unsigned char *b = a->bytes;
    if (memcmp(b, nat64, sizeof nat64) == 0 ||
        (memcmp(b, zero, sizeof zero) == 0 && (b[12] || b[13] || b[14]))) {
        return from_v4(b + 12);
    }
    return b[0] == 0x20 && b[1] == 0x02 ? from_v4(b + 2) : *a;
}

static bool in_network(const address_t *a, const address_t *network, int bits)
{
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(a->bytes, network->bytes, (size_t)whole) != 0) {
        return false;
    }
    return rest == 0 || ((a->bytes[whole] ^ network->bytes[whole]) >> (8 - rest)) == 0;
}

/* As written in documents; not the shorthands of inet_aton(). */
static bool parse_strict(const char *text, address_t *out)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        *out = from_v4(&v4);
        return true;
    }
    return inet_pton(AF_INET6, text, out->bytes) == 1;
}

/* As resolvers take it: also "0xa9fea9fe", "169.254.43518", a zone, brackets. */
static bool parse_address(const char *host, address_t *out)
{
    char text[HOST_MAX + 1];
    struct in_addr v4;
    size_t len = strlen(host), skip = *host == '[';
    if (skip && host[len - 1] == ']') {
        len--;
    }
    if (len <= skip || len - skip > HOST_MAX) {
        return false;
    }
    memcpy(text, host + skip, len - skip);
    text[len - skip] = '\0';
    if (strchr(text, ':')) {
        text[strcspn(text, "%")] = '\0';
        return parse_strict(text, out);
    }
    if (text[strlen(text) - 1] == '.') {
        text[strlen(text) - 1] = '\0';
    }
    if (!apr_isdigit(text[0]) || !inet_aton(text, &v4)) {
        return false;
    }
    *out = from_v4(&v4);
    return true;
}

/* "address/bits"; an address alone is a network of one. */
static bool parse_network(const char *text, address_t *network, int *bits)
{
    char address[HOST_MAX + 1], *end = NULL;
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (len > HOST_MAX) {
        return false;
    }
    memcpy(address, text, len);
    address[len] = '\0';
    if (!parse_strict(address, network)) {
        return false;
    }
    int most = strchr(address, ':') ? 128 : 32;
    long n = slash && apr_isdigit(slash[1]) ? strtol(slash + 1, &end, 10) : most;
    if ((slash && (!end || *end)) || n < 0 || n > most) {
        return false;
    }
    *bits = (int)n + 128 - most;
    return true;
}

static aip_address_e class_of(const address_t *outer)
{
    static const struct {
        const char *network;
        aip_address_e kind;
    } special[] = {{"169.254.169.254", AIP_ADDRESS_METADATA}, /* AWS, Azure, Google, Oracle ... */
                   {"169.254.170.2", AIP_ADDRESS_METADATA},   /* AWS ECS */
                   {"169.254.170.23", AIP_ADDRESS_METADATA},  /* AWS EKS */
                   {"fd00:ec2::/32", AIP_ADDRESS_METADATA},   /* AWS */
                   {"fd20:ce::254", AIP_ADDRESS_METADATA},    /* Google */
                   {"100.100.100.200", AIP_ADDRESS_METADATA}, /* Alibaba */
                   {"192.0.0.192", AIP_ADDRESS_METADATA},     /* Oracle, the older one */
                   {"168.63.129.16", AIP_ADDRESS_METADATA},   /* Azure's wire server */
                   {"169.254.0.0/16", AIP_ADDRESS_LINK_LOCAL},
                   {"fe80::/10", AIP_ADDRESS_LINK_LOCAL}};
    address_t a = innermost(outer), network;
    int bits;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (parse_network(special[i].network, &network, &bits) && in_network(&a, &network, bits)) {
            return special[i].kind;
        }
    }
    return AIP_ADDRESS_ORDINARY;
}

aip_address_e aip_address_class(const struct sockaddr *sa)
{
    address_t a;
    if (sa->sa_family == AF_INET) {
        a = from_v4(&((const struct sockaddr_in *)(const void *)sa)->sin_addr);
    } else if (sa->sa_family == AF_INET6) {
        memcpy(a.bytes, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr,
               sizeof a.bytes);
    } else {
        return AIP_ADDRESS_ORDINARY;
    }
    return class_of(&a);
}

/* Whatever its case, and with or without the dot of the root. */
static bool same_name(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    n -= n > 1 && a[n - 1] == '.';
    m -= m > 1 && b[m - 1] == '.';
    return n == m && strncasecmp(a, b, n) == 0;
}

aip_address_e aip_host_class(const char *host)
{
    static const char *const names[] = {"metadata.google.internal", "metadata.goog",
                                        "instance-data", "instance-data.ec2.internal",
                                        "metadata.tencentyun.com"};
    address_t a;
    if (parse_address(host, &a)) {
        return class_of(&a);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (same_name(host, names[i])) {
            return AIP_ADDRESS_METADATA;
        }
    }
    return AIP_ADDRESS_ORDINARY;
}

const char *aip_address_class_name(aip_address_e kind)
{
    return kind == AIP_ADDRESS_LINK_LOCAL ? "a link-local address"
           : kind == AIP_ADDRESS_METADATA ? "the address of a metadata service"
                                          : "an ordinary address";
}

/* A host against a host, an address or a network. */
static bool host_is(const char *host, const char *entry)
{
    address_t a, network;
    int bits;
    if (!parse_address(host, &a)) {
        return same_name(host, entry);
    }
    if (parse_network(entry, &network, &bits)) {
        return in_network(&a, &network, bits);
    }
    return parse_address(entry, &network) && memcmp(&a, &network, sizeof a) == 0;
}

static bool below(const char *host, const char *domain)
{
    size_t n = strlen(host), m = strlen(domain);
    n -= n > 1 && host[n - 1] == '.';
    return same_name(host, domain + 1) || (n > m && strncasecmp(host + n - m, domain, m) == 0);
}

bool aip_egress_proxied(const aip_egress_t *egress, const char *host)
{
    if (!egress || !egress->proxy_host) {
        return false;
    }
    for (int i = 0; egress->no_proxy && i < egress->no_proxy->nelts; i++) {
        const char *entry = APR_ARRAY_IDX(egress->no_proxy, i, const char *);
        if (strcmp(entry, "*") == 0 ||
            (*entry == '.' ? below(host, entry) : host_is(host, entry))) {
            return false;
        }
    }
    return true;
}

/* `*` stands for any number of bytes. Greedy with one point to come back to: linear enough, and no
 * recursion that a pattern could drive. */
static bool glob(const char *pattern, const char *pattern_end, const char *text,
                 const char *text_end, bool fold)
{
    const char *star = NULL, *resume = NULL;
    while (text < text_end) {
        if (pattern < pattern_end && *pattern == '*') {
            star = ++pattern;
            resume = text;
        } else if (pattern < pattern_end &&
                   (*pattern == *text || (fold && apr_tolower(*pattern) == apr_tolower(*text)))) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (pattern < pattern_end && *pattern == '*') {
        pattern++;
    }
    return pattern == pattern_end;
}

/* One value of AIEgressAllow, taken apart. */
typedef struct pattern_t {
    const char *scheme, *host, *port, *path; /* not ended by NUL; NULL: any */
    size_t scheme_len, host_len, port_len;
    bool url;
} pattern_t;

static void split_pattern(const char *text, pattern_t *p)
{
    const char *colon = strstr(text, "://"), *rest = colon ? colon + 3 : text, *end;
    *p = (pattern_t){.url = colon != NULL, .host = rest, .host_len = strlen(rest)};
    if (!colon) {
        return;
    }
    p->scheme = text;
    p->scheme_len = (size_t)(colon - text);
    end = rest + strcspn(rest, "/");
    p->path = *end ? end : NULL;
    const char *port = *rest == '[' ? memchr(rest, ']', (size_t)(end - rest)) : rest;
    port = port ? memchr(port, ':', (size_t)(end - port)) : NULL;
    if (port) {
        p->port = port + 1;
        p->port_len = (size_t)(end - port - 1);
        end = port;
    }
    p->host_len = (size_t)(end - rest);
}

static bool host_matches(const char *host, const char *pattern, size_t len)
{
    char text[HOST_MAX + 1];
    size_t n = strlen(host);
    n -= n > 1 && host[n - 1] == '.';
    if (len > HOST_MAX) {
        return false;
    }
    memcpy(text, pattern, len);
    text[len] = '\0';
    return memchr(pattern, '*', len) ? glob(pattern, pattern + len, host, host + n, true)
                                     : host_is(host, text);
}

static bool port_matches(const aip_url_t *url, const pattern_t *p)
{
    if (!p->port) {
        return url->port == (url->tls ? 443 : 80);
    }
    return (p->port_len == 1 && *p->port == '*') || strtol(p->port, NULL, 10) == url->port;
}

static bool scheme_matches(const aip_url_t *url, const pattern_t *p)
{
    const char *scheme = url->tls ? "https" : "http";
    return (p->scheme_len == 1 && *p->scheme == '*') ||
           (p->scheme_len == strlen(scheme) && strncasecmp(p->scheme, scheme, p->scheme_len) == 0);
}

static int hex(char c)
{
    return apr_isdigit(c) ? c - '0' : apr_isxdigit(c) ? apr_tolower(c) - 'a' + 10 : -1;
}

/* Decodes a path once. @return false when another reader could take it for another path */
static bool plain_path(const char *path, char *out, size_t room)
{
    char *o = out;
    for (const char *p = path; *p; p++) {
        int c = (unsigned char)*p;
        if (c == '%') {
            int high = hex(p[1]), low = high < 0 ? -1 : hex(p[2]);
            c = low < 0 ? 0 : high * 16 + low;
            if (c == '/' || c == '%' || c < ' ') {
                return false;
            }
            p += 2;
        }
        if (c == '\\' || (size_t)(o - out) + 1 >= room) {
            return false;
        }
        *o++ = (char)c;
    }
    *o = '\0';
    for (const char *s = out; s; s = strchr(s + 1, '/')) {
        size_t n = strcspn(s + 1, "/;");
        if ((n == 1 && s[1] == '.') || (n == 2 && s[1] == '.' && s[2] == '.')) {
            return false;
        }
    }
    return true;
}

static bool url_matches(const aip_url_t *url, const char *path, const char *text)
{
    pattern_t p;
    split_pattern(text, &p);
    if (!host_matches(url->host, p.host, p.host_len)) {
        return false;
    }
    return !p.url ||
           (scheme_matches(url, &p) && port_matches(url, &p) &&
            (!p.path || glob(p.path, p.path + strlen(p.path), path, path + strlen(path), false)));
}

bool aip_egress_allows(const aip_egress_t *egress, const aip_url_t *url)
{
    char path[4096];
    if (!egress || !egress->allow) {
        return true;
    }
    if (*url->path != '/' || !plain_path(url->path, path, sizeof path) || strchr(url->host, '%')) {
        return false;
    }
    for (int i = 0; i < egress->allow->nelts; i++) {
        if (url_matches(url, path, APR_ARRAY_IDX(egress->allow, i, const char *))) {
            return true;
        }
    }
    return false;
}

bool aip_egress_names(const aip_egress_t *egress, const char *host)
{
    for (int i = 0; egress && egress->allow && i < egress->allow->nelts; i++) {
        pattern_t p;
        address_t network;
        int bits;
        split_pattern(APR_ARRAY_IDX(egress->allow, i, const char *), &p);
        if (memchr(p.host, '*', p.host_len) || !host_matches(host, p.host, p.host_len)) {
            continue;
        }
        /* a network that is wider than what is special says nothing about that */
        if (p.url || !strchr(p.host, '/') || !parse_network(p.host, &network, &bits) ||
            (class_of(&network) != AIP_ADDRESS_ORDINARY && bits >= (is_v4(&network) ? 112 : 10))) {
            return true;
        }
    }
    return false;
}

bool aip_egress_address_ok(const aip_egress_t *egress, const char *host,
                           const struct sockaddr *address)
{
    return (aip_host_class(host) == AIP_ADDRESS_ORDINARY &&
            (!address || aip_address_class(address) == AIP_ADDRESS_ORDINARY)) ||
           aip_egress_names(egress, host);
}

/* A host that may hold `*`, or an address. */
static bool host_pattern_ok(const char *host, size_t len)
{
    if (len == 0 || len > HOST_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!apr_isalnum(host[i]) && !strchr("-._*:[]", host[i])) {
            return false;
        }
    }
    return true;
}

static bool port_pattern_ok(const pattern_t *p)
{
    return !p->port || (p->port_len == 1 && *p->port == '*') ||
           (p->port_len > 0 && p->port_len <= 5 && strspn(p->port, "0123456789") >= p->port_len &&
            strtol(p->port, NULL, 10) >= 1 && strtol(p->port, NULL, 10) <= 65535);
}

const char *aip_egress_allow_error(const char *text, apr_pool_t *pool)
{
    pattern_t p;
    address_t network;
    int bits;
    char path[4096];
    split_pattern(text, &p);
    if (!p.url && strchr(text, '/')) {
        return parse_network(text, &network, &bits)
                   ? NULL
                   : apr_psprintf(
                         pool,
                         "'%s' is neither a URL such as https://api.example.com/v1/* nor a "
                         "network such as 10.0.0.0/8",
                         text);
    }
    bool scheme_ok = !p.url || (p.scheme_len == 1 && *p.scheme == '*') ||
                     (p.scheme_len == 4 && strncasecmp(p.scheme, "http", 4) == 0) ||
                     (p.scheme_len == 5 && strncasecmp(p.scheme, "https", 5) == 0);
    if (!scheme_ok || !host_pattern_ok(p.host, p.host_len) || !port_pattern_ok(&p) ||
        (!p.url && strchr(text, ':') && !parse_address(text, &network))) {
        return apr_psprintf(pool,
                            "'%s' must be scheme://host[:port][/path] with * inside, or a host, an "
                            "address or a network alone",
                            text);
    }
    if (p.path && (!plain_path(p.path, path, sizeof path) || strcspn(path, "?#") != strlen(path) ||
                   strcmp(path, p.path) != 0)) {
        return apr_psprintf(pool,
                            "'%s': the path must be written out: no '.' or '..' segment, no "
                            "percent-encoding, no query",
                            text);
    }
    return NULL;
}

const char *aip_egress_no_proxy_error(const char *entry, apr_pool_t *pool)
{
    address_t network;
    int bits;
    bool ok = strcmp(entry, "*") == 0 || (strchr(entry, '/') || strchr(entry, ':')
                                              ? parse_network(entry, &network, &bits)
                                              : host_pattern_ok(entry, strlen(entry)) &&
                                                    !strchr(entry, '*') && strcmp(entry, ".") != 0);
    return ok ? NULL
              : apr_psprintf(pool,
                             "'%s' must be a host, a .domain, an address, a network such as "
                             "10.0.0.0/8, or *; without scheme and port",
                             entry);
}
