/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_LINE_FILE_H
#define AIP_SRC_OBSERVE_LINE_FILE_H
/* Private to src/observe: lines on their way into a file that all children append to. Each is
 * written at once by the thread that has it, or collected with others of its child for a second at
 * most. */

#include "../shared/line_queue.h"

typedef struct aip_line_file_t aip_line_file_t;

/**
 * In a child.
 * @param sink  a file opened to append; its mutex is not used
 * @param most  the largest `buffer` that there will be, bytes
 * @param pool  the child's: when it is destroyed, what was collected is written
 */
aip_line_file_t *aip_line_file_start(const aip_line_sink_t *sink, apr_size_t most,
                                     apr_pool_t *pool);

/**
 * Writes or collects a line, its newline included. From any thread, with all signals blocked.
 * @param buffer  bytes that may wait, this line among them; 0: none
 */
void aip_line_file_add(aip_line_file_t *file, aip_span_t line, apr_size_t buffer);

#endif
