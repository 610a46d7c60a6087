/* SPDX-License-Identifier: Apache-2.0 */
/* Programs behind logs. httpd's own piped logs kill their program at a restart, with the lines that
 * it has not read and those that old children still write. These end when their input does. */
#include "log_pipe.h"

#include <ap_mpm.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <fcntl.h>
#include <http_log.h>
#include <unistd.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define PIPE_SIZE (256 * 1024) /* so that 64 KiB of lines find room in it */

static apr_status_t close_ends(void *data)
{
    aip_log_pipe_t *pipe = data;
    if (pipe->in >= 0) {
        close(pipe->in);
    }
    close(pipe->out);
    pipe->in = pipe->out = -1;
    return APR_SUCCESS;
}

static void tell_failure(apr_pool_t *pool, apr_status_t rv, const char *what)
{
    (void)pool;
    ap_log_error(APLOG_MARK, APLOG_ERR, rv, NULL,
                 "AIP0311: cannot start the program of AIStatisticsLog: %s", what);
}

static apr_status_t set_up(const aip_log_pipe_t *pipe, apr_procattr_t **attr, apr_pool_t *ptemp)
{
    apr_file_t *in = NULL;
    apr_os_file_t fd = pipe->in;
    apr_status_t rv = apr_os_file_put(&in, &fd, APR_FOPEN_READ, ptemp);
    rv = rv ? rv : apr_procattr_create(attr, ptemp);
    rv =
        rv ? rv : apr_procattr_cmdtype_set(*attr, pipe->shell ? APR_SHELLCMD_ENV : APR_PROGRAM_ENV);
    rv = rv ? rv : apr_procattr_child_in_set(*attr, in, NULL);
    rv = rv ? rv : apr_procattr_child_errfn_set(*attr, tell_failure);
    return rv ? rv : apr_procattr_error_check_set(*attr, 1);
}

static void maintain(int reason, void *data, int status);

static apr_status_t spawn(aip_log_pipe_t *pipe)
{
    apr_pool_t *ptemp;
    apr_procattr_t *attr = NULL;
    char **args = NULL;
    apr_pool_create(&ptemp, pipe->pool);
    apr_status_t rv = set_up(pipe, &attr, ptemp);
    if (rv == APR_SUCCESS && pipe->shell) {
        args = apr_pcalloc(ptemp, 2 * sizeof *args);
        args[0] = apr_pstrdup(ptemp, pipe->program);
    } else if (rv == APR_SUCCESS) {
        rv = apr_tokenize_to_argv(pipe->program, &args, ptemp) == APR_SUCCESS && args[0]
                 ? APR_SUCCESS
                 : APR_EINVAL;
    }
    rv = rv ? rv
            : apr_proc_create(&pipe->proc, args[0], (const char *const *)args, NULL, attr, ptemp);
    if (rv == APR_SUCCESS) {
        apr_proc_other_child_register(&pipe->proc, maintain, pipe, NULL, pipe->pool);
    }
    apr_pool_destroy(ptemp);
    return rv;
}

/* In the parent, when the program has ended, or is none of our children any more. */
static void maintain(int reason, void *data, int status)
{
    aip_log_pipe_t *pipe = data;
    int state = AP_MPMQ_STARTING;
    if (reason != APR_OC_REASON_DEATH && reason != APR_OC_REASON_LOST) {
        return;
    }
    apr_proc_other_child_unregister(pipe);
    if (ap_mpm_query(AP_MPMQ_MPM_STATE, &state) != APR_SUCCESS || state == AP_MPMQ_STOPPING) {
        return;
    }
    apr_status_t rv = spawn(pipe);
    ap_log_error(APLOG_MARK, APLOG_ERR, rv, pipe->server,
                 "AIP0312: the program of AIStatisticsLog, %s, ended with status %d; %s",
                 pipe->program, status, rv ? "it cannot be started again" : "started again");
}

aip_log_pipe_t *aip_log_pipe_open(const char *name, apr_pool_t *pool, server_rec *s,
                                  apr_status_t *rv)
{
    int ends[2];
    const char *program = name[1] == '|' ? name + 2 : name + 1;
    aip_log_pipe_t *pipe = apr_pcalloc(pool, sizeof *pipe);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        *rv = APR_FROM_OS_ERROR(errno);
        return NULL;
    }
    *pipe = (aip_log_pipe_t){.in = ends[0], .out = ends[1], .server = s, .pool = pool};
    pipe->shell = *program == '$';
    pipe->program = pipe->shell ? program + 1 : program;
    apr_pool_cleanup_register(pool, pipe, close_ends, apr_pool_cleanup_null);
    fcntl(pipe->out, F_SETFL, fcntl(pipe->out, F_GETFL) | O_NONBLOCK);
    (void)fcntl(pipe->out, F_SETPIPE_SZ, PIPE_SIZE); /* counts pages, filled or not */
    *rv = spawn(pipe);
    return *rv == APR_SUCCESS ? pipe : NULL;
}

void aip_log_pipe_child(aip_log_pipe_t *pipe)
{
    close(pipe->in);
    pipe->in = -1;
}
