/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TRACES_H
#define AIP_TRACES_H
/* Glue: the trace of a request, its spans, and the thread that exports them. */

#include "aip/account.h"
#include "aip/trace_export.h"

/** check_config, after aip_egress_prepare(): checks the AITraces directives of all servers; those
 * whose spans go the same way share one configuration. @return number of errors, each logged */
int aip_traces_prepare(apr_pool_t *pconf, server_rec *main_server);

/** child_init, after that of secrets: starts a thread for each of them. */
void aip_traces_child_init(apr_pool_t *pchild, server_rec *s);

/** A request begins: its context, unless AITraces is off. */
void aip_trace_start(aip_request_t *req);

/** Its account is closed: its spans are made and queued, if its trace is sampled and exported.
 * Never waits. */
void aip_trace_finish(const aip_request_t *req, const aip_account_t *account);

/** Adds traceparent and tracestate for the attempt under way, in the place of the client's, if
 * AITracesPropagate asks for it. @param fields  header fields, each ended by CRLF; NULL stays NULL
 */
const char *aip_trace_fields(const aip_request_t *req, const aip_target_t *target,
                             const char *fields);

/** The spans of a request of that server, see aip/otlp.h, are to be exported. Copied;
 * never waits. */
void aip_traces_push(const server_rec *s, aip_span_t data, int spans);

/** How many spans went where, since the server was started; shared by all children. */
aip_traces_counts_t *aip_traces_counts(void);

#endif
