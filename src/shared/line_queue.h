/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_SHARED_LINE_QUEUE_H
#define AIP_SRC_SHARED_LINE_QUEUE_H
/* Private to the glue: lines on their way into a pipe. Whoever has a line puts it into memory and
 * goes on; one thread of each child writes them. Lines of all children are whole and in one piece.
 * What does not fit is dropped and counted. */

#include "aip/aip.h"

#include <apr_global_mutex.h>
#include <httpd.h>
#include <stdatomic.h>

/** What all children have in common about one pipe or file; in shared memory. */
typedef struct aip_line_pipe_t {
    _Atomic(apr_uint32_t) torn;   /**< not 0: the last line has no end; of a pipe: written under the
                                     lock */
    _Atomic(apr_int64_t) told_at; /**< seconds: last message about dropped lines */
} aip_line_pipe_t;

typedef struct aip_line_sink_t {
    const char *name; /**< for messages */
    int fd;           /**< does not block */
    apr_global_mutex_t *mutex;
    aip_line_pipe_t *shared;
    _Atomic(apr_uint64_t) *dropped; /**< shared: lines, counted up */
    server_rec *server;
} aip_line_sink_t;

/** Whether to log that lines are dropped: once a minute, of all children together. Takes note. */
bool aip_line_pipe_may_tell(aip_line_pipe_t *pipe);

typedef struct aip_line_queue_t aip_line_queue_t;

/** In a child: starts the thread. When `pool` (the child's) is destroyed, what is there is still
 * written, for at most three seconds. */
apr_status_t aip_line_queue_start(aip_line_queue_t **queue, const aip_line_sink_t *sink,
                                  apr_pool_t *pool);

/** Takes a copy of a line, its newline included. From any thread, with all signals blocked; does
 * not wait for the pipe. @return false: dropped */
bool aip_line_queue_add(aip_line_queue_t *queue, aip_span_t line);

#endif
