/* SPDX-License-Identifier: Apache-2.0 */
/* Where the lines of AIStatisticsLog go. Logs are opened before privileges are dropped. To a file a
 * line is one appending write, in the thread that has it; to a program, a FIFO or a terminal it
 * goes by way of a queue, since these may stop reading. */
#include "log_sink.h"

#include "../shared/line_queue.h"
#include "log_pipe.h"

#include "aip/observe.h"
#include "aip/state.h"

#include <apr_hash.h>
#include <apr_portable.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <http_config.h>
#include <http_log.h>
#include <sys/stat.h>
#include <util_mutex.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define MUTEX_TYPE "ai-statistics"

struct aip_log_sink_t {
    const char *name;
    apr_file_t *file;     /* NULL: a program */
    aip_log_pipe_t *pipe; /* NULL: a file */
    bool stream;          /* no regular file: by way of the queue */
    aip_line_sink_t line;
    aip_line_queue_t *queue;
};

static apr_hash_t *sinks; /* AIStatisticsLog -> aip_log_sink_t * */

int aip_statistics_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog, (void)ptemp;
    sinks = NULL;
    return ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0) == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
}

static void start_queue(aip_log_sink_t *sink, apr_pool_t *pchild, server_rec *s)
{
    apr_global_mutex_t **mutex = &sink->line.mutex;
    sink->line.dropped = &aip_shared_words()->statistics_dropped;
    apr_status_t rv = apr_global_mutex_child_init(mutex, apr_global_mutex_lockfile(*mutex), pchild);
    rv = rv ? rv : aip_line_queue_start(&sink->queue, &sink->line, pchild);
    if (sink->pipe) {
        aip_log_pipe_child(sink->pipe);
    }
    if (rv != APR_SUCCESS) {
        sink->queue = NULL;
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s,
                     "AIP0052: no lock or thread for AIStatisticsLog %s in a child: its lines are "
                     "dropped",
                     sink->name);
    }
}

void aip_statistics_init(apr_pool_t *pchild, server_rec *s)
{
    for (apr_hash_index_t *i = sinks ? apr_hash_first(pchild, sinks) : NULL; i;
         i = apr_hash_next(i)) {
        aip_log_sink_t *sink = apr_hash_this_val(i);
        if (sink->stream) {
            start_queue(sink, pchild, s);
        }
    }
}

static apr_status_t share(aip_log_sink_t *sink, apr_pool_t *pconf, server_rec *s)
{
    apr_shm_t *segment;
    apr_status_t rv = apr_shm_create(&segment, sizeof *sink->line.shared, NULL, pconf);
    sink->line.shared = rv ? NULL : apr_shm_baseaddr_get(segment);
    return rv ? rv
              : ap_global_mutex_create(&sink->line.mutex, NULL, MUTEX_TYPE,
                                       apr_psprintf(pconf, "%u", apr_hash_count(sinks)), s, pconf,
                                       0);
}

static apr_status_t open_file(aip_log_sink_t *sink, apr_pool_t *pconf)
{
    struct stat st;
    const char *path = ap_server_root_relative(pconf, sink->name);
    apr_status_t rv =
        apr_file_open(&sink->file, path ? path : sink->name,
                      APR_FOPEN_WRITE | APR_FOPEN_APPEND | APR_FOPEN_CREATE | APR_FOPEN_LARGEFILE,
                      APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD, pconf);
    rv = rv ? rv : apr_os_file_get(&sink->line.fd, sink->file);
    if (rv == APR_SUCCESS && fstat(sink->line.fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        fcntl(sink->line.fd, F_SETFL, fcntl(sink->line.fd, F_GETFL) | O_NONBLOCK);
        sink->stream = true;
    }
    return rv;
}

static apr_status_t open_sink(aip_log_sink_t *sink, apr_pool_t *pconf, server_rec *s)
{
    apr_status_t rv;
    if (*sink->name == '|') {
        sink->pipe = aip_log_pipe_open(sink->name, pconf, s, &rv);
        sink->line.fd = sink->pipe ? sink->pipe->out : -1;
        sink->stream = true;
    } else {
        rv = open_file(sink, pconf);
    }
    rv = rv == APR_SUCCESS && sink->stream ? share(sink, pconf, s) : rv;
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AIP0050: cannot open AIStatisticsLog %s",
                     sink->name);
    }
    return rv;
}

int aip_statistics_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog, (void)ptemp;
    sinks = apr_hash_make(pconf);
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        const char *name = section->dir->f.statistics_log;
        if (name && !apr_hash_get(sinks, name, APR_HASH_KEY_STRING)) {
            aip_log_sink_t *sink = apr_pcalloc(pconf, sizeof *sink);
            *sink = (aip_log_sink_t){.name = name, .line = {.name = name, .server = s}};
            apr_hash_set(sinks, name, APR_HASH_KEY_STRING, sink);
            if (open_sink(sink, pconf, s) != APR_SUCCESS) {
                return HTTP_INTERNAL_SERVER_ERROR;
            }
        }
    }
    return OK;
}

aip_log_sink_t *aip_log_sink_get(const char *name)
{
    return name && sinks ? apr_hash_get(sinks, name, APR_HASH_KEY_STRING) : NULL;
}

void aip_log_sink_write(aip_log_sink_t *sink, aip_span_t line, const request_rec *r)
{
    if (sink->stream) {
        if (sink->queue) {
            aip_line_queue_add(sink->queue, line);
        }
        return;
    }
    apr_status_t rv = apr_file_write_full(sink->file, line.data, line.len, NULL);
    if (rv != APR_SUCCESS) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, r, "AIP0051: cannot write to AIStatisticsLog");
    }
}

apr_uint64_t aip_statistics_dropped(void)
{
    return atomic_load(&aip_shared_words()->statistics_dropped);
}
