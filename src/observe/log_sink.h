/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_LOG_SINK_H
#define AIP_SRC_OBSERVE_LOG_SINK_H
/* Private to src/observe: files and programs that take lines. */

#include "aip/aip.h"

#include <httpd.h>

typedef struct aip_log_sink_t aip_log_sink_t;

/** That of a value of AIStatisticsLog, by its address, not its text; NULL: there is none. */
aip_log_sink_t *aip_log_sink_get(const char *name);

/**
 * Writes one line, its newline included, or has it written. With all signals blocked.
 * @param buffer  AIStatisticsLogBuffer of the request
 */
void aip_log_sink_write(aip_log_sink_t *sink, aip_span_t line, apr_size_t buffer);

#endif
