/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_OBSERVE_H
#define AIP_OBSERVE_H
/* Glue: what operators see of a request. */

#include "aip/request.h"

/** open_logs: opens every AIStatisticsLog of the configuration. */
int aip_statistics_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/** log_transaction: writes the line of a request, if its target asks for one. */
int aip_statistics_write(request_rec *r);

#endif
