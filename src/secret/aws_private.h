/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_AWS_PRIVATE_H
#define AIP_AWS_PRIVATE_H
/* The sources of AWS credentials, one function each; aws.c says in which order. */

#include "identity_private.h"

/** Credentials and how long they hold. */
typedef struct aip_aws_got_t {
    aip_aws_keys_t keys;
    apr_interval_time_t lifetime;
} aip_aws_got_t;

/** Whether the parts of credentials have the form that such parts have: they go into headers. */
bool aip_aws_keys_ok(const aip_aws_keys_t *keys);

/** Reads credentials from a JSON object {AccessKeyId, SecretAccessKey, `token_name`, Expiration},
 * and wipes them there. */
apr_status_t aip_aws_read_keys(const json_t *object, const char *token_name, const char *service,
                               aip_aws_got_t *got, apr_pool_t *pool, aip_error_t *err);

/** The container's, where the environment names an endpoint. @param found  out: it does */
apr_status_t aip_aws_from_container(bool *found, const aip_identity_net_t *net, aip_aws_got_t *got,
                                    apr_pool_t *pool, aip_error_t *err);

/** The instance's (IMDSv2). */
apr_status_t aip_aws_from_instance(const aip_identity_net_t *net, aip_aws_got_t *got,
                                   apr_pool_t *pool, aip_error_t *err);

/** sts:AssumeRole, signed with the credentials in `got`, which it replaces. */
apr_status_t aip_aws_assume_role(const aip_aws_conf_t *conf, const aip_identity_net_t *net,
                                 aip_aws_got_t *got, apr_pool_t *pool, aip_error_t *err);

/** sts:AssumeRoleWithWebIdentity, where the environment names role and file. */
apr_status_t aip_aws_from_web_identity(const aip_aws_conf_t *conf, bool *found,
                                       const aip_identity_net_t *net, aip_aws_got_t *got,
                                       apr_pool_t *pool, aip_error_t *err);

#endif
