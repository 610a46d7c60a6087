/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SECRETS_H
#define AIP_SECRETS_H
/* Glue: the store of secrets in memory that all children share. */

#include "aip/config.h"
#include "aip/secret.h"

/**
 * post_config: gives the secrets their memory, which outlives graceful restarts, and fetches them
 * for the first time. Errors: no memory, or AISecretsRequired and a secret without a value.
 */
apr_status_t aip_secrets_open(apr_pool_t *pconf, server_rec *s);

/** post_config, when it is to come once more: the same, if AISecretsRequired says so. */
apr_status_t aip_secrets_first_look(apr_pool_t *pconf, server_rec *s);

/** child_init: starts the thread that refreshes them. */
void aip_secrets_child_init(apr_pool_t *pchild, server_rec *s);

/** For a process that never serves: fetches all of them into memory of its own. */
apr_status_t aip_secrets_open_private(apr_pool_t *pool);

#endif
