/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_PROVIDER_H
#define AIP_PROVIDER_H
/* Providers of chat models that speak OpenAI's dialect: where their endpoint is and what they do
 * differently. One row of facts each. Pure. */

#include "aip/fields.h"

/** An endpoint's URL, taken apart. */
typedef struct aip_url_t {
    const char *full; /**< as configured */
    bool tls;
    const char *host; /**< without the brackets of an IPv6 address */
    int port;
    const char *origin;    /**< scheme://host:port, key of a connection pool */
    const char *authority; /**< for the Host header: the port only when it is not the scheme's */
    const char *path;      /**< begins with '/', no query */
    const char *query;     /**< without '?', or NULL */
    const char *template; /**< the text with templates that a request fills in; the rest is a sample
                             of it; NULL: none */
} aip_url_t;

/** Takes an absolute http or https URL apart; no user, no fragment, no white space or control
 * bytes.
 * @param error  out on failure: what is wrong with it */
apr_status_t aip_url_parse(const char *text, aip_url_t *url, apr_pool_t *pool, const char **error);

/** Whether a text is a port that can be connected to: 1 to 65535, digits alone. */
bool aip_port_ok(const char *text);

/** The text of a URL that may be wrong, for messages: a user and a password read "***". */
const char *aip_url_shown(const char *text, apr_pool_t *pool);

/** Percent-encodes all but the unreserved characters of RFC 3986. */
const char *aip_url_encode(const char *text, apr_pool_t *pool);

/** A value as it stands in somebody's query, for another query: what would end it there, or the
 * request line, or has no place in a URL at all is percent-encoded; escapes stay. */
const char *aip_url_requery(const char *value, apr_pool_t *pool);

typedef struct aip_provider_t {
    const char *name;
    const char *origin; /**< "https://api.example.com", a %s takes the instance; NULL: upstream_url
                           is required */
    const char *path;   /**< of chat completions; a %s takes the deployment */
    bool drop_stream_options; /**< rejects the member stream_options */
    bool api_version;         /**< takes the query parameter api-version */
} aip_provider_t;

/** The row of a word of AIModelProvider. */
const aip_provider_t *aip_provider_find(const char *name);

/** The endpoint of a target whose fields are complete, or an error that names the directive that is
 * missing or wrong. The provider's api-version is not in url->query: see aip_provider_t. */
apr_status_t aip_provider_url(const aip_provider_t *provider, const aip_target_fields_t *fields,
                              aip_url_t *url, apr_pool_t *pool, const char **error);

/** Cross-field rules of one target, in Kong's order. @return NULL or a sentence */
const char *aip_target_check(const aip_target_fields_t *fields, apr_pool_t *pool);

/** Whether `value` can be sent as a header value: no control bytes but tab. */
bool aip_header_value_ok(const char *value);

/** Whether `name` is a header name (RFC 9110 token) that a credential may have: none that frames or
 * routes the request. */
bool aip_header_name_ok(const char *name);

/** Whether a credential in the body may have that name: a further member, none that the gateway
 * writes, and nothing that needs escaping. */
bool aip_body_name_ok(const char *name);

/** Whether a credential can be a string of the body: it is UTF-8. */
bool aip_body_value_ok(const char *value, apr_pool_t *pool);

#endif
