/* SPDX-License-Identifier: Apache-2.0 */
/* Egress for background calls: the AIEgress rules as options of libcurl, and its failures in words
 * that name no host. The request path has its own way (src/upstream). */
#include "fetch_egress.h"

#include <apr_strings.h>
#include <openssl/x509_vfy.h>
#include <string.h>

/* After the name was resolved, so that no spelling and no DNS answer gets around it. */
static curl_socket_t open_socket(void *baton, curlsocktype purpose, struct curl_sockaddr *address)
{
    aip_fetch_egress_t *state = baton;
    aip_address_e kind = aip_address_class(&address->addr);
    (void)purpose;
    if (kind != AIP_ADDRESS_ORDINARY && !state->proxied && !state->fetch->local &&
        !aip_egress_names(state->fetch->egress, state->host)) {
        state->refused = kind;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool set_proxy(CURL *curl, aip_fetch_egress_t *state, apr_pool_t *pool, aip_error_t *err)
{
    const aip_egress_t *egress = state->fetch->egress;
    const char *credentials = aip_proxy_authorization(egress, pool);
    if (!credentials) {
        (void)aip_error_set(err, pool, 502, "gateway_error", "fetch_failed", NULL,
                            "AIEgressProxyAuth has no value");
        return false;
    }
    curl_easy_setopt(
        curl, CURLOPT_PROXY,
        apr_psprintf(pool, strchr(egress->proxy_host, ':') ? "http://[%s]:%d" : "http://%s:%d",
                     egress->proxy_host, egress->proxy_port));
    curl_easy_setopt(curl, CURLOPT_PROXYTYPE, (long)CURLPROXY_HTTP);
    curl_easy_setopt(curl, CURLOPT_HTTPPROXYTUNNEL, 1L);
    curl_easy_setopt(curl, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    /* Our own header: whether libcurl decodes '%' in a user or password depends on its version. */
    state->proxy_headers = *credentials ? curl_slist_append(NULL, credentials) : NULL;
    curl_easy_setopt(curl, CURLOPT_PROXYHEADER, state->proxy_headers);
    return true;
}

#if LIBCURL_VERSION_NUM >= 0x074d00
static void set_blob(CURL *curl, CURLoption option, aip_span_t text)
{
    struct curl_blob blob = {.data = (void *)text.data, .len = text.len, .flags = CURL_BLOB_NOCOPY};
    curl_easy_setopt(curl, option, &blob);
}

static bool set_files_from_memory(CURL *curl, const aip_egress_t *egress)
{
    if (egress->ca_pem.data) {
        set_blob(curl, CURLOPT_CAINFO_BLOB, egress->ca_pem);
    }
    if (egress->client_pem.data) {
        set_blob(curl, CURLOPT_SSLCERT_BLOB, egress->client_pem);
        set_blob(curl, CURLOPT_SSLKEY_BLOB, egress->client_pem);
    }
    return true;
}
#else
static bool set_files_from_memory(CURL *curl, const aip_egress_t *egress)
{
    (void)curl, (void)egress;
    return false;
}
#endif

/* The contents that were read as root, where there are any; else the files. */
static void set_files(CURL *curl, const aip_egress_t *egress)
{
    bool memory = set_files_from_memory(curl, egress);
    if (egress->ca_file && !(memory && egress->ca_pem.data)) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, egress->ca_file);
    }
    if (egress->ca_file) { /* instead of the system's, not beside them */
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(curl, CURLOPT_SSLCERTTYPE, "PEM");
    if (egress->client_cert && !(memory && egress->client_pem.data)) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, egress->client_cert);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, egress->client_cert);
    }
}

static bool check_url(aip_fetch_egress_t *state, apr_pool_t *pool, aip_error_t *err)
{
    const aip_fetch_t *fetch = state->fetch;
    aip_url_t url;
    const char *why;
    if (aip_url_parse(fetch->url, &url, pool, &why) != APR_SUCCESS) {
        (void)aip_error_set(err, pool, 502, "gateway_error", "fetch_failed", NULL, "the URL %s",
                            why);
        return false;
    }
    state->host = url.host;
    state->proxied = !fetch->local && aip_egress_proxied(fetch->egress, url.host);
    if (!fetch->local && !aip_egress_allows(fetch->egress, &url)) {
        (void)aip_error_set(err, pool, 502, "gateway_error", "egress_denied", NULL,
                            "AIEgressAllow does not let the URL pass");
        return false;
    }
    if (!fetch->local && !aip_egress_address_ok(fetch->egress, url.host, NULL)) {
        (void)aip_error_set(err, pool, 502, "gateway_error", "egress_denied", NULL,
                            "the host is %s, which AIEgressAllow does not name",
                            aip_address_class_name(aip_host_class(url.host)));
        return false;
    }
    return true;
}

bool aip_fetch_egress_set(CURL *curl, aip_fetch_egress_t *state, apr_pool_t *pool, aip_error_t *err)
{
    const aip_egress_t *egress = state->fetch->egress;
    if (!check_url(state, pool, err)) {
        return false;
    }
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION,
                     egress && egress->min_tls == 13 ? (long)CURL_SSLVERSION_TLSv1_3
                                                     : (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, state);
    if (egress) {
        set_files(curl, egress);
    }
    return !state->proxied || set_proxy(curl, state, pool, err);
}

/* The words of OpenSSL at the end of "error:0A00042E:SSL routines::tlsv1 alert protocol version".
 * What libcurl says besides may hold the host. */
static const char *openssl_words(const char *said, apr_pool_t *pool)
{
    const char *error = strstr(said, "error:"), *words = error ? strrchr(error, ':') : NULL;
    return words && words[1] ? apr_pstrdup(pool, words + 1) : NULL;
}

/* A chain that fails has its reason; what is left is the name, for which libcurl says 0 or 1. */
static const char *certificate_reason(CURL *curl)
{
    long result = 0;
    curl_easy_getinfo(curl, CURLINFO_SSL_VERIFYRESULT, &result);
    return result == X509_V_OK || result == X509_V_ERR_UNSPECIFIED
               ? "it is for another name"
               : X509_verify_cert_error_string(result);
}

const char *aip_fetch_reason(CURL *curl, CURLcode code, const aip_fetch_egress_t *state,
                             const char *said, apr_pool_t *pool)
{
    long proxy_status = 0;
    const char *words = openssl_words(said, pool);
    curl_easy_getinfo(curl, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
    if (state->refused != AIP_ADDRESS_ORDINARY) {
        return apr_psprintf(pool, "the host has %s, and AIEgressAllow does not name it",
                            aip_address_class_name(state->refused));
    }
    if (state->proxied && (proxy_status < 200 || proxy_status > 299)) {
        return proxy_status
                   ? apr_psprintf(pool, "the proxy answered CONNECT with status %ld", proxy_status)
                   : apr_psprintf(pool, "no tunnel through the proxy: %s",
                                  curl_easy_strerror(code));
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION) {
        return apr_psprintf(pool, "the certificate is not accepted: %s", certificate_reason(curl));
    }
    return words ? apr_psprintf(pool, "%s: %s", curl_easy_strerror(code), words)
                 : curl_easy_strerror(code);
}
