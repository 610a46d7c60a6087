/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TEMPLATE_H
#define AIP_TEMPLATE_H
/* Kong's templates in an upstream URL: $(headers.NAME), $(query_params.NAME) and
 * $(uri_captures.NAME). What a client puts in stays in its place: a part of a host name, or of a
 * segment of the path or of the query. Where the URL may lead is AIEgressAllow's to say. */

#include "aip/error.h"

/** Whether a text holds the beginning of a template. */
bool aip_template_in(const char *text);

/** The value of a source for one request; NULL: there is none. */
typedef const char *aip_template_look_up_t(void *baton, const char *source, const char *key);

/** NULL, or what is wrong with the templates of a URL, to follow it in a sentence. */
const char *aip_template_error(const char *url, apr_pool_t *pool);

/** A URL of the same form, for checks that need one: every template is "x". */
const char *aip_template_sample(const char *url, apr_pool_t *pool);

/** Fills in. Errors: 400, a source is missing or its value cannot stand where it is to go. */
apr_status_t aip_template_expand(const char *url, aip_template_look_up_t *look_up, void *baton,
                                 const char **expanded, apr_pool_t *pool, aip_error_t *err);

#endif
