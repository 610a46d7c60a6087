/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a tunnel (RFC 9110, section 9.3.6): the CONNECT request, and what a proxy's answer
 * means. Knows no socket; src/upstream/tunnel.c sends and receives. */
#include "aip/egress.h"

#include "aip/secret.h"

#include <apr_base64.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

const char *aip_egress_proxy_auth(const aip_egress_t *egress, apr_pool_t *pool)
{
    return aip_secret_text(egress->proxy_auth, pool, NULL);
}

const char *aip_proxy_authorization(const aip_egress_t *egress, apr_pool_t *pool)
{
    const char *auth = aip_egress_proxy_auth(egress, pool);
    if (!auth) {
        return egress->proxy_auth ? NULL : "";
    }
    int len = (int)strlen(auth);
    char *encoded = apr_palloc(pool, (apr_size_t)apr_base64_encode_len(len));
    apr_base64_encode(encoded, auth, len);
    return apr_pstrcat(pool, "Proxy-Authorization: Basic ", encoded, NULL);
}

const char *aip_connect_head(const aip_egress_t *egress, const char *host, int port,
                             apr_pool_t *pool)
{
    const char *credentials = aip_proxy_authorization(egress, pool);
    const char *authority = apr_psprintf(pool, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    return credentials ? apr_pstrcat(pool, "CONNECT ", authority, " HTTP/1.1\r\nHost: ", authority,
                                     "\r\n", credentials, *credentials ? "\r\n\r\n" : "\r\n", NULL)
                       : NULL;
}

/* @return 0: that is no status line of HTTP/1 */
static int status_of(const char *line, size_t len)
{
    if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || !apr_isdigit(line[7]) || line[8] != ' ' ||
        !apr_isdigit(line[9]) || !apr_isdigit(line[10]) || !apr_isdigit(line[11]) ||
        (len > 12 && line[12] != ' ' && line[12] != '\r' && line[12] != '\n')) {
        return 0;
    }
    int status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0';
    return status >= 100 && status < 600 ? status : 0;
}

/* @return the byte behind the empty line, or NULL: not there yet */
static const char *head_end(const char *p, const char *end)
{
    while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        p++;
        if (p < end && *p == '\n') {
            return p + 1;
        }
        if (end - p >= 2 && p[0] == '\r' && p[1] == '\n') {
            return p + 2;
        }
    }
    return NULL;
}

aip_connect_e aip_connect_answer(const char *data, size_t len, int *status)
{
    static const char begin[] = "HTTP/1.";
    const char *end = data + len;
    *status = 0;
    for (;;) {
        size_t n = (size_t)(end - data), m = n < sizeof begin - 1 ? n : sizeof begin - 1;
        if (memcmp(data, begin, m) != 0) {
            return AIP_CONNECT_BAD;
        }
        const char *behind = n ? head_end(data, end) : NULL;
        if (!behind) {
            return AIP_CONNECT_MORE;
        }
        int code = status_of(data, (size_t)(behind - data));
        if (code == 0 || code == 101) {
            return AIP_CONNECT_BAD;
        }
        if (code >= 200) {
            *status = code;
            return code >= 300     ? AIP_CONNECT_NO
                   : behind == end ? AIP_CONNECT_OPEN
                                   : AIP_CONNECT_BAD;
        }
        data = behind; /* an interim answer */
    }
}
