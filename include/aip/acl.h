/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ACL_H
#define AIP_ACL_H
/* Rules of AIAclsAllow and AIAclsDeny: parsed while the configuration is read, evaluated for
 * requests and targets. A rule is one line; its conditions are ANDed, the values of a condition and
 * the rules of a list are ORed, and a rule that denies wins. Rules are read-only after the start:
 * any number of threads may evaluate them. */

#include "aip/aip.h"

#include <apr_network_io.h>
#include <apr_tables.h>

typedef enum aip_acl_type_e {
    AIP_ACL_CONSUMER,
    AIP_ACL_CONSUMER_GROUP,
    AIP_ACL_HEADER,
    AIP_ACL_IP,
    AIP_ACL_MODEL,   /**< a fact of a target */
    AIP_ACL_PATH,    /**< exact, or a prefix when it ends with '*' */
    AIP_ACL_PROVIDER /**< a fact of a target */
} aip_acl_type_e;

typedef struct aip_acl_condition_t {
    aip_acl_type_e type;
    const char *name;           /**< of the header, else NULL */
    apr_array_header_t *values; /**< const char *; apr_ipsubnet_t * for AIP_ACL_IP */
} aip_acl_condition_t;

typedef struct aip_acl_rule_t {
    apr_array_header_t *conditions; /**< aip_acl_condition_t */
    const char *text;               /**< as it would be written */
    const char *where;              /**< "file:line", or NULL */
    bool of_target;                 /**< some condition is about a target */
} aip_acl_rule_t;

/** What is known of a request. Members that are NULL match nothing. */
typedef struct aip_acl_facts_t {
    const char *consumer;
    const apr_array_header_t *groups; /**< const char * */
    const apr_table_t *headers;
    apr_sockaddr_t *address;
    const char *path;
    const char *model, *provider; /**< of the target that is looked at */
} aip_acl_facts_t;

/** The outcome of a look-up. */
typedef struct aip_acl_verdict_t {
    bool denied;
    const aip_acl_rule_t *rule; /**< that denies; NULL: no rule allows */
} aip_acl_verdict_t;

/**
 * Makes a rule of the arguments of its directive, each TYPE=VALUE[,VALUE...]; "\," stands for a
 * comma, "\\" for a backslash.
 * @param providers  the words that a provider may be, separated by '|'
 * @return NULL: `error` is a sentence that names the argument
 */
aip_acl_rule_t *aip_acl_parse(int argc, char *const argv[], const char *providers, apr_pool_t *pool,
                              const char **error);

/** Whether some rule of the lists (aip_acl_rule_t *, or NULL) is about targets. */
bool aip_acls_of_target(const apr_array_header_t *allow, const apr_array_header_t *deny);

/** Before a target is known: denied are requests that a rule without a condition about targets
 * denies, and those for which no rule allows any target. */
aip_acl_verdict_t aip_acls_request(const apr_array_header_t *allow, const apr_array_header_t *deny,
                                   const aip_acl_facts_t *facts);

/** For the target in `facts`, after aip_acls_request() has not denied. */
aip_acl_verdict_t aip_acls_target(const apr_array_header_t *allow, const apr_array_header_t *deny,
                                  const aip_acl_facts_t *facts);

#endif
