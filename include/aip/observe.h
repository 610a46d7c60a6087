/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_OBSERVE_H
#define AIP_OBSERVE_H
/* Glue: what operators see of a request. */

#include "aip/request.h"

/** pre_config: lets the directive Mutex know of the lock of piped logs. */
int aip_statistics_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);

/** child_init: opens that lock in a child. */
void aip_statistics_init(apr_pool_t *pchild, server_rec *s);

/** open_logs: opens every AIStatisticsLog of the configuration. */
int aip_statistics_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/** log_transaction: writes the line of a request, if its target asks for one. */
int aip_statistics_write(request_rec *r);

/** SetHandler ai-status: the state of all targets as JSON; POST drains and resumes them. */
int aip_status_handler(request_rec *r);

#endif
