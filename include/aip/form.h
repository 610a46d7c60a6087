/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_FORM_H
#define AIP_FORM_H
/* What a browser sends with a form of ours: its fields, the token that shows that we made it, and
 * where it comes from. */

#include "aip/aip.h"

/** Of the key that tokens are made with. */
#define AIP_FORM_KEY_BYTES 32

/**
 * The decoded value of a field of a form (application/x-www-form-urlencoded) or of a query; the
 * first one counts. Names are compared as they are written.
 * @param form  NULL: an empty one
 * @return NULL: there is none, or it cannot be decoded, or holds a NUL
 */
const char *aip_form_field(const char *form, const char *name, apr_pool_t *pool);

/**
 * A token for the forms of a page that is shown now: the time in seconds, '-', HMAC-SHA256 of time
 * and user in hex.
 * @param user  NULL: nobody is logged in
 * @return NULL: OpenSSL failed
 */
const char *aip_form_token_make(const unsigned char key[AIP_FORM_KEY_BYTES], const char *user,
                                apr_time_t now, apr_pool_t *pool);

typedef enum aip_form_token_e {
    AIP_FORM_TOKEN_GOOD,
    AIP_FORM_TOKEN_BAD, /**< not made with this key for this user */
    AIP_FORM_TOKEN_OLD  /**< made, but more than an hour ago, or in time to come */
} aip_form_token_e;

/** @param token  NULL: a bad one */
aip_form_token_e aip_form_token_check(const unsigned char key[AIP_FORM_KEY_BYTES], const char *user,
                                      const char *token, apr_time_t now, apr_pool_t *pool);

/**
 * Whether the browser says, or lets it be seen, that the form is another site's. Browsers that say
 * neither are left to the token. https://www.w3.org/TR/fetch-metadata/
 * @param site, origin, host  headers Sec-Fetch-Site, Origin, Host; NULL: not there
 */
bool aip_form_foreign(const char *site, const char *origin, const char *host);

#endif
