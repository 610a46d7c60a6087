/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_MASK_H
#define AIP_MASK_H
/* Finds secrets in text that goes to somebody else, and puts as many asterisks in their place, so
 * that lengths stay what they were announced to be. Used by one request's thread. */

#include "aip/aip.h"

/** Shorter ones are left alone: too much else would look like them. */
#define AIP_MASK_MIN 8

typedef struct aip_mask_t aip_mask_t;

/**
 * @param secrets  n texts, of which some may be NULL; each is looked for as it is, as it is spelled
 * in a JSON string, and percent-encoded
 * @return NULL: there is nothing to look for
 */
aip_mask_t *aip_mask_create(const char *const *secrets, int n, apr_pool_t *pool);

/** The part of a header value that is the secret: what follows a scheme ("Bearer x"), or all of it.
 */
const char *aip_mask_of_header(const char *value);

/** A whole text, in place. @return whether something was found */
bool aip_mask_text(const aip_mask_t *mask, char *text, size_t len);

/** A text that comes in pieces of at most AIP_MASK_PIECE bytes. @return what can be passed on now,
 * valid until the next call; the rest is kept back, because a secret may begin in it */
aip_span_t aip_mask_feed(aip_mask_t *mask, const char *data, size_t len);
#define AIP_MASK_PIECE 16384

/** The end of it. @return what was kept back */
aip_span_t aip_mask_rest(aip_mask_t *mask);

#endif
