/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_LOG_PIPE_H
#define AIP_SRC_OBSERVE_LOG_PIPE_H
/* Private to src/observe: a program behind a log, as CustomLog has them. */

#include <httpd.h>
#include <stdbool.h>

typedef struct aip_log_pipe_t {
    int in, out; /**< ends of the pipe; `out` is written to and does not block */
    const char *program;
    bool shell;
    server_rec *server;
    apr_pool_t *pool;
    apr_proc_t proc;
} aip_log_pipe_t;

/**
 * Starts a program, in the parent. It is started again when it ends, and does not lose what is in
 * the pipe then. It is not killed when the configuration ends, but reads the end of its input when
 * the last child of that configuration has gone.
 * @param name  "|program", "||program" or "|$command"
 * @param pool  of the configuration
 * @return NULL: `*rv` says why
 */
aip_log_pipe_t *aip_log_pipe_open(const char *name, apr_pool_t *pool, server_rec *s,
                                  apr_status_t *rv);

/** In a child: only the parent and the program read. */
void aip_log_pipe_child(aip_log_pipe_t *pipe);

#endif
