/* SPDX-License-Identifier: Apache-2.0 */
/* Forms as browsers send them: fields, tokens, and the site that they come from. Called by the
 * status page in the threads of requests. */
#include "aip/form.h"

#include "aip/signals.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define TOKEN_LIFE apr_time_from_sec(3600)
#define EARLY apr_time_from_sec(60) /* clocks of one machine are set back by a little */

/* ---- fields ---- */

const char *aip_form_field(const char *form, const char *name, apr_pool_t *pool)
{
    size_t len = strlen(name);
    for (const char *p = form; p && *p; p += *p == '&') {
        size_t n = strcspn(p, "&");
        if (n > len && strncmp(p, name, len) == 0 && p[len] == '=') {
            const char *value = apr_pstrmemdup(pool, p + len + 1, n - len - 1);
            return apr_punescape_url(pool, value, NULL, NULL, 1);
        }
        p += n;
    }
    return NULL;
}

/* ---- tokens ---- */

/* Hex digits over the time and the user; NULL: OpenSSL failed. */
static const char *mac_of(const unsigned char *key, const char *user, const char *issued,
                          apr_pool_t *pool)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    sigset_t before;
    const char *text = apr_pstrcat(pool, "ai-status\n", issued, "\n", user ? "user\n" : "machine\n",
                                   user ? user : "", NULL);
    aip_signals_block(&before);
    const unsigned char *made = HMAC(EVP_sha256(), key, AIP_FORM_KEY_BYTES,
                                     (const unsigned char *)text, strlen(text), mac, &len);
    aip_signals_restore(&before);
    return made ? apr_pescape_hex(pool, mac, len, 0) : NULL;
}

const char *aip_form_token_make(const unsigned char key[AIP_FORM_KEY_BYTES], const char *user,
                                apr_time_t now, apr_pool_t *pool)
{
    const char *issued = apr_psprintf(pool, "%" APR_INT64_T_FMT, apr_time_sec(now));
    const char *mac = mac_of(key, user, issued, pool);
    return mac ? apr_pstrcat(pool, issued, "-", mac, NULL) : NULL;
}

aip_form_token_e aip_form_token_check(const unsigned char key[AIP_FORM_KEY_BYTES], const char *user,
                                      const char *token, apr_time_t now, apr_pool_t *pool)
{
    size_t digits = token ? strspn(token, "0123456789") : 0;
    if (!digits || digits > 12 || token[digits] != '-') {
        return AIP_FORM_TOKEN_BAD;
    }
    const char *issued = apr_pstrmemdup(pool, token, digits);
    const char *mac = mac_of(key, user, issued, pool), *given = token + digits + 1;
    if (!mac || strlen(given) != strlen(mac) || CRYPTO_memcmp(given, mac, strlen(mac)) != 0) {
        return AIP_FORM_TOKEN_BAD;
    }
    apr_time_t age = now - apr_time_from_sec(apr_atoi64(issued));
    return age > TOKEN_LIFE || age < -EARLY ? AIP_FORM_TOKEN_OLD : AIP_FORM_TOKEN_GOOD;
}

/* ---- where it comes from ---- */

bool aip_form_foreign(const char *site, const char *origin, const char *host)
{
    if (site) {
        return strcmp(site, "same-origin") != 0;
    }
    if (!origin) {
        return false;
    }
    const char *at = strstr(origin, "://");
    return !at || !host || strcasecmp(at + 3, host) != 0;
}
