/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_IDENTITY_PRIVATE_H
#define AIP_IDENTITY_PRIVATE_H
/* What the files of cloud identities share: one request to a token service, what is read of its
 * JSON, and refusals that show no answer. */

#include "aip/identity.h"

#include <jansson.h>

/** A request to a service; zeroed members are left out. */
typedef struct aip_ask_t {
    const char *service; /**< for messages: "the metadata server" */
    const char *url, *method;
    const char *const *headers; /**< ended by NULL */
    const char *form;           /**< body of a POST, application/x-www-form-urlencoded */
    bool local;                 /**< of this machine or link: no proxy */
} aip_ask_t;

/** Sets err and returns APR_EGENERAL. */
apr_status_t aip_identity_fail(aip_error_t *err, apr_pool_t *pool, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** One request. @param answer  out: body of an answer with status 200; wipe it with
 * aip_identity_wipe() */
apr_status_t aip_identity_ask(const aip_ask_t *ask, const aip_identity_net_t *net,
                              aip_span_t *answer, apr_pool_t *pool, aip_error_t *err);

/** The same where the answer is a JSON object. @param root  out: json_decref() it */
apr_status_t aip_identity_ask_json(const aip_ask_t *ask, const aip_identity_net_t *net,
                                   json_t **root, apr_pool_t *pool, aip_error_t *err);

/** One request whose answer is an OAuth token (RFC 6749, 5.1). */
apr_status_t aip_identity_ask_token(const aip_ask_t *ask, const aip_identity_net_t *net,
                                    aip_token_t *token, apr_pool_t *pool, aip_error_t *err);

/** Bytes that came from a pool and held a secret. */
void aip_identity_wipe(aip_span_t secret);

/** The text of a string, wiped in jansson's memory before the last reference goes. */
void aip_identity_wipe_json(json_t *string);

/** A file with a token: at most AIP_TOKEN_MAX bytes, white space around it dropped. */
apr_status_t aip_identity_token_file(const char *path, const char *what, const char **text,
                                     apr_pool_t *pool, aip_error_t *err);

/** A variable of the environment that is there and not empty, else NULL. */
const char *aip_identity_env(const char *name);

/** The base with what follows, without a '/' twice. */
const char *aip_identity_join(const char *base, const char *path, apr_pool_t *pool);

/** Whether `host` is an address of the loopback network or localhost. */
bool aip_identity_loopback(const char *host);

/** Seconds from now until `end` (seconds since 1970) as a lifetime; 0 or less: it is over. */
apr_interval_time_t aip_identity_until(double end);

/** A lifetime of `seconds`, at most a day. */
apr_interval_time_t aip_identity_lifetime(double seconds);

/** Value of a JSON number, or of a string that holds a plain number. */
bool aip_identity_number(const json_t *value, double *out);

#endif
