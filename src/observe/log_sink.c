/* SPDX-License-Identifier: Apache-2.0 */
/* Where the lines of AIStatisticsLog go. Logs are opened before privileges are dropped. To a
 * program, a FIFO or a terminal a line goes by way of a queue, since these may stop reading. */
#include "log_sink.h"

#include "../shared/line_queue.h"
#include "line_file.h"
#include "log_pipe.h"

#include "aip/observe.h"
#include "aip/state.h"

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
#define LOOK_AGAIN apr_time_from_msec(10)

struct aip_log_sink_t {
    const char *name;
    aip_log_pipe_t *pipe; /* NULL: a file */
    bool stream;          /* no regular file: by way of the queue */
    aip_line_sink_t line;
    aip_line_queue_t *queue;    /* in a child: of a stream */
    aip_line_file_t *line_file; /* in a child: of a file */
};

/* A value of AIStatisticsLog, known by its address, and what it means. */
typedef struct named_t {
    const char *name;
    aip_log_sink_t *sink;
} named_t;

static apr_array_header_t *sinks; /* of aip_log_sink_t * */
static apr_array_header_t *names; /* of named_t */
static apr_size_t most;           /* the largest AIStatisticsLogBuffer of the configuration */

int aip_statistics_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog, (void)ptemp;
    sinks = names = NULL;
    return ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0) == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
}

static void start_queue(aip_log_sink_t *sink, apr_pool_t *pchild, server_rec *s)
{
    apr_global_mutex_t **mutex = &sink->line.mutex;
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
    for (int i = 0; sinks && i < sinks->nelts; i++) {
        aip_log_sink_t *sink = APR_ARRAY_IDX(sinks, i, aip_log_sink_t *);
        sink->line.dropped = &aip_shared_words()->statistics_dropped;
        if (sink->stream) {
            start_queue(sink, pchild, s);
        } else {
            sink->line_file = aip_line_file_start(&sink->line, most, pchild);
        }
    }
}

static apr_status_t share(aip_log_sink_t *sink, apr_pool_t *pconf, server_rec *s)
{
    apr_shm_t *segment;
    apr_status_t rv = apr_shm_create(&segment, sizeof *sink->line.shared, NULL, pconf);
    sink->line.shared = rv ? NULL : apr_shm_baseaddr_get(segment);
    return rv || !sink->stream ? rv
                               : ap_global_mutex_create(&sink->line.mutex, NULL, MUTEX_TYPE,
                                                        apr_itoa(pconf, sinks->nelts), s, pconf, 0);
}

static const char *path_of(const aip_log_sink_t *sink, apr_pool_t *pool)
{
    const char *path = ap_server_root_relative(pool, sink->name);
    return path ? path : sink->name;
}

/* Whether a file ends in the middle of a line, such as one that filled the disk: seen twice, since
 * a child of before may be about to write the rest. */
static bool ends_torn(const char *path)
{
    struct stat st;
    char last = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 2 && fd >= 0 && last != '\n'; i++) {
        apr_sleep(i * LOOK_AGAIN);
        if (fstat(fd, &st) != 0 || pread(fd, &last, 1, st.st_size - 1) != 1) {
            last = '\n'; /* it is empty */
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0 && last != '\n';
}

static apr_status_t open_file(aip_log_sink_t *sink, apr_pool_t *pconf)
{
    struct stat st;
    apr_file_t *file;
    apr_status_t rv =
        apr_file_open(&file, path_of(sink, pconf),
                      APR_FOPEN_WRITE | APR_FOPEN_APPEND | APR_FOPEN_CREATE | APR_FOPEN_LARGEFILE,
                      APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD, pconf);
    rv = rv ? rv : apr_os_file_get(&sink->line.fd, file);
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
    rv = rv ? rv : share(sink, pconf, s);
    if (rv == APR_SUCCESS && !sink->stream) {
        sink->line.shared->torn = ends_torn(path_of(sink, pconf));
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AIP0050: cannot open AIStatisticsLog %s",
                     sink->name);
    }
    return rv;
}

aip_log_sink_t *aip_log_sink_get(const char *name)
{
    for (int i = 0; name && names && i < names->nelts; i++) {
        const named_t *named = &APR_ARRAY_IDX(names, i, named_t);
        if (named->name == name) {
            return named->sink;
        }
    }
    return NULL;
}

static aip_log_sink_t *find(const char *name)
{
    for (int i = 0; i < sinks->nelts; i++) {
        aip_log_sink_t *sink = APR_ARRAY_IDX(sinks, i, aip_log_sink_t *);
        if (strcmp(sink->name, name) == 0) {
            return sink;
        }
    }
    return NULL;
}

static apr_status_t open_log(const char *name, apr_pool_t *pconf, server_rec *s)
{
    apr_status_t rv = APR_SUCCESS;
    aip_log_sink_t *sink = find(name);
    if (!sink) {
        sink = apr_pcalloc(pconf, sizeof *sink);
        *sink = (aip_log_sink_t){.name = name, .line = {.name = name, .server = s}};
        APR_ARRAY_PUSH(sinks, aip_log_sink_t *) = sink;
        rv = open_sink(sink, pconf, s);
    }
    APR_ARRAY_PUSH(names, named_t) = (named_t){name, sink};
    return rv;
}

int aip_statistics_open(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog, (void)ptemp;
    most = 0;
    sinks = apr_array_make(pconf, 4, sizeof(aip_log_sink_t *));
    names = apr_array_make(pconf, 4, sizeof(named_t));
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        const aip_location_fields_t *f = &section->dir->f;
        apr_size_t buffer = (apr_size_t)f->statistics_log_buffer;
        most = buffer > most ? buffer : most;
        if (f->statistics_log && open_log(f->statistics_log, pconf, s) != APR_SUCCESS) {
            return HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return OK;
}

void aip_log_sink_write(aip_log_sink_t *sink, aip_span_t line, apr_size_t buffer)
{
    if (!sink->stream) {
        aip_line_file_add(sink->line_file, line, buffer);
    } else if (sink->queue) {
        aip_line_queue_add(sink->queue, line);
    }
}

apr_uint64_t aip_statistics_dropped(void)
{
    return atomic_load(&aip_shared_words()->statistics_dropped);
}
