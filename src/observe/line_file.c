/* SPDX-License-Identifier: Apache-2.0 */
/* Lines into a file, and the thread that writes those that wait there for company. What waits is
 * written in one piece, so that lines of several children are never mixed. Nothing is allocated or
 * freed after the start, see line_queue.c. */
#include "line_file.h"

#include "../shared/background.h"

#include <http_log.h>
#include <pthread.h>
#include <sys/mman.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define COLLECT apr_time_from_sec(1)
#define IDLE apr_time_from_sec(3600)

struct aip_line_file_t {
    aip_line_sink_t sink;
    aip_background_t *background;
    pthread_mutex_t lock; /* of all below */
    char *buffer;         /* address space; memory as far as it was used */
    apr_size_t size, used;
    bool awake; /* the thread knows that something is there */
    bool ended; /* it does not look any more */
};

static apr_size_t count_lines(const char *data, apr_size_t len)
{
    apr_size_t n = 0;
    for (const char *p = data; (p = memchr(p, '\n', len - (apr_size_t)(p - data))); p++) {
        n++;
    }
    return n;
}

/* A line may have got in by half, when the disk was full or a child went away. Who comes at the
 * same moment may end it once more: an empty line does no harm. */
static bool mend(aip_line_pipe_t *shared, int fd)
{
    apr_uint32_t torn = atomic_load(&shared->torn);
    if (torn && write(fd, "\n", 1) != 1) {
        return false;
    }
    if (torn) {
        atomic_compare_exchange_strong(&shared->torn, &torn, 0);
    }
    return true;
}

static void drop(const aip_line_sink_t *sink, apr_size_t lines, int reason)
{
    atomic_fetch_add(sink->dropped, lines);
    if (aip_line_pipe_may_tell(sink->shared)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, APR_FROM_OS_ERROR(reason), sink->server,
                     "AIP0051: cannot write to AIStatisticsLog %s; lines are dropped, "
                     "%" APR_UINT64_T_FMT " so far",
                     sink->name, (apr_uint64_t)atomic_load(sink->dropped));
    }
}

static void write_lines(const aip_line_sink_t *sink, const char *data, apr_size_t len)
{
    apr_size_t done = 0;
    apr_ssize_t n = mend(sink->shared, sink->fd) ? 0 : -1;
    while (n >= 0 && done < len) {
        n = write(sink->fd, data + done, len - done);
        n = n < 0 && errno == EINTR ? 0 : n;
        done += n > 0 ? (apr_size_t)n : 0;
        if (n > 0 && data[done - 1] != '\n') {
            atomic_fetch_add(&sink->shared->torn, 1);
        }
    }
    if (n < 0) {
        drop(sink, count_lines(data + done, len - done), errno);
    }
}

/* Under the lock. */
static void flush(aip_line_file_t *file)
{
    if (file->used) {
        write_lines(&file->sink, file->buffer, file->used);
        file->used = 0;
    }
}

static void run(aip_background_t *background, void *baton)
{
    aip_line_file_t *file = baton;
    bool goes_on = true;
    while (goes_on) {
        goes_on = aip_background_wait(background, IDLE) && aip_background_wait(background, COLLECT);
        pthread_mutex_lock(&file->lock);
        flush(file);
        file->awake = false;
        file->ended = !goes_on; /* later ones are written at once */
        pthread_mutex_unlock(&file->lock);
    }
}

static void collect(aip_line_file_t *file, aip_span_t line, apr_size_t buffer)
{
    pthread_mutex_lock(&file->lock);
    apr_size_t room = buffer < file->size ? buffer : file->size;
    bool waits = line.len <= room && !file->ended;
    if (!waits || file->used + line.len > room) {
        flush(file);
    }
    if (waits) {
        memcpy(file->buffer + file->used, line.data, line.len);
        file->used += line.len;
    } else {
        write_lines(&file->sink, line.data, line.len);
    }
    bool wake = waits && !file->awake;
    file->awake = file->awake || wake;
    pthread_mutex_unlock(&file->lock);
    if (wake) {
        aip_background_wake(file->background);
    }
}

void aip_line_file_add(aip_line_file_t *file, aip_span_t line, apr_size_t buffer)
{
    if (file->background) {
        collect(file, line, buffer);
    } else {
        write_lines(&file->sink, line.data, line.len);
    }
}

aip_line_file_t *aip_line_file_start(const aip_line_sink_t *sink, apr_size_t most, apr_pool_t *pool)
{
    aip_line_file_t *file = apr_pcalloc(pool, sizeof *file);
    file->sink = *sink;
    if (!most) {
        return file;
    }
    file->size = most;
    file->buffer = mmap(NULL, most, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pthread_mutex_init(&file->lock, NULL);
    apr_status_t rv = file->buffer == MAP_FAILED
                          ? APR_FROM_OS_ERROR(errno)
                          : aip_background_start(&file->background, run, file, pool);
    if (rv != APR_SUCCESS) {
        file->background = NULL;
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, sink->server,
                     "AIP0054: no memory or thread for AIStatisticsLogBuffer in a child: "
                     "AIStatisticsLog %s gets each line at once",
                     sink->name);
    }
    return file;
}
