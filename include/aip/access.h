/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ACCESS_H
#define AIP_ACCESS_H
/* Glue: who a client is and what it may use. API keys are checked in httpd's access phase, for
 * whatever handles the request; rules (AIAcls*) in the gateway's handler, before the body is read,
 * and per target when the chat is known. */

#include "aip/acl.h"
#include "aip/request.h"

/** What the check of an API key found; lives in the request's pool. */
typedef struct aip_access_t {
    const request_rec *r;       /**< whose this is: internal redirects share a pool */
    const char *consumer;       /**< NULL: no known key was given */
    apr_array_header_t *groups; /**< const char *, of the key */
    const char *key;            /**< as the client sent it */
    aip_error_t error;          /**< what the client is told when consumer is NULL */
} aip_access_t;

/** Whether a section names a file: "none" is the word for "no file". */
bool aip_access_names_file(const char *value);

/** Opens the file of AIApiKeyFile or AIAclsGroupFile while the configuration is read.
 * @return NULL or an error */
const char *aip_access_open(cmd_parms *cmd, int index, const char *value);

/** check_access and check_access_ex: httpd runs only one of them where Satisfy Any is in force.
 * @return DECLINED: no key is asked for, or the key is known and r->user is its consumer */
int aip_hook_check_access(request_rec *r);

/** check_authn: who came with a key needs no other credential. */
int aip_hook_check_authn(request_rec *r);

/** The check of this request, or NULL when its section asks for no key. */
const aip_access_t *aip_access_of(const request_rec *r);

/** Whether a value of the client's is, or holds, an API key of the gateway: such a value must not
 * reach a provider. */
bool aip_access_is_key(const request_rec *r, const char *value);

/** A header of the client, for a provider: NULL when it is not there or holds an API key of the
 * gateway. */
const char *aip_access_client_header(const request_rec *r, const char *name);

/** AIAcls* that need no target. Fills req->facts. @return APR_SUCCESS or an error in `err` */
apr_status_t aip_acls_check(aip_request_t *req, aip_error_t *err);

/** The same for a handler that is no gateway. @return whether the request may go on */
bool aip_acls_permit(request_rec *r);

/** Whether AIAcls* bar a target from this request, which is logged. */
bool aip_acls_bar(const aip_request_t *req, const aip_target_t *target);

#endif
