/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_OBSERVE_H
#define AIP_OBSERVE_H
/* Glue: what operators see of a request. */

#include "aip/account.h"

/** pre_config: lets the directive Mutex know of the locks of logs that are no files. */
int aip_statistics_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);

/** post_config: writes what logs and traces say of each target. After aip_endpoints_define(). */
void aip_fragments_make(apr_pool_t *pconf);

/** child_init: opens those locks in a child and starts the threads that write. */
void aip_statistics_init(apr_pool_t *pchild, server_rec *s);

/** open_logs: opens every AIStatisticsLog of the configuration. */
int aip_statistics_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/** log_transaction: writes the line of a request, if its target asks for one, or if it had none and
 * some target of its gateway does. */
int aip_statistics_write(request_rec *r);

/** AILogRedact: compiles the last pattern of the list. @param replacement  NULL: the default
 * @return NULL or why it is none */
const char *aip_redact_compile(cmd_parms *cmd, const apr_array_header_t *patterns,
                               const char *replacement);

/** The environment of a finished request: AI_TARGET and its kin, for LogFormat and CustomLog. */
void aip_environment_set(const aip_request_t *req, const aip_account_t *account);

/** Lines that no program took in time, of all children; outlives graceful restarts. */
apr_uint64_t aip_statistics_dropped(void);

/** SetHandler ai-metrics: the books of all targets as Prometheus or OpenMetrics text. */
int aip_metrics_handler(request_rec *r);

/** Notes a finished request in the books of the status page. */
void aip_history_note(const aip_request_t *req, const aip_account_t *account);

/** SetHandler ai-status: the state of all gateways as a page or as JSON; POST drains and resumes
 * targets, and shows where a prompt would go. */
int aip_status_handler(request_rec *r);

/** post_config: makes the key of the page's forms, which outlives graceful restarts. */
apr_status_t aip_status_open(void);

/** Optional hook of mod_status: a row for each target. */
int aip_status_rows(request_rec *r, int flags);

/** The reason of a decision with what is worth knowing of it: "match", "match,cached",
 * "sticky,store_error" ... */
const char *aip_reason_text(const aip_request_t *req);

/** A number as JSON spells it, for messages: apr_psprintf("%g") leaves out the zero of 0.5. */
const char *aip_real_text(double value, apr_pool_t *pool);

/** "off", "miss", "hit", "shared". */
const char *aip_cache_state_name(aip_cache_state_e state);

/** The threshold that holds for a target (NULL: the location's), or NULL. */
const double *aip_explain_threshold(const aip_request_t *req, const aip_target_t *target);

/** X-LLM-Route-Scores, when AIExplain asks for it. */
void aip_explain_headers(const aip_request_t *req);

/** All that is known of a dry run. @param err  why there are no candidates; status 0: there are
 * New reference. */
struct json_t *aip_explain_document(const aip_request_t *req, const aip_error_t *err);

/** The answer to a dry run. @param err  why there are no candidates; status 0: there are
 * @return OK */
int aip_explain_dry_run(const aip_request_t *req, const aip_error_t *err);

/** pre_config hook: the items %{...}^AI of mod_log_config, if that is loaded. */
int aip_log_items_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);

#endif
