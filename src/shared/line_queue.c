/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of lines and the thread that empties it into a pipe. No memory is allocated or freed after
 * the start: prefork ends a child, and waits for the thread, from inside a signal handler that may
 * have interrupted malloc(). */
#include "line_queue.h"

#include "background.h"

#include <ap_mpm.h>
#include <http_log.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define MIB ((apr_size_t)1 << 20)
#define KEEP MIB /* memory that an empty ring holds on to */
#define FLUSH apr_time_from_sec(3)
#define NAP_MAX apr_time_from_msec(32)
#define PIPE_POLL 100 /* milliseconds */
#define UNREAD 65536  /* bytes in the pipe: what rotatelogs and its like take with one read */
#define ROOM_NAP apr_time_from_msec(1)
#define TELL_EVERY 60

/* Of a child with threads, and of one of many. */
static const struct {
    apr_size_t ring; /* address space; one line may fill it */
    apr_size_t most; /* of lines that wait */
} threaded = {32 * MIB, 4 * MIB}, preforked = {8 * MIB, MIB};

struct aip_line_queue_t {
    aip_line_sink_t sink;
    aip_background_t *background;
    pthread_mutex_t lock; /* of all below */
    char *ring;
    apr_size_t size, most;
    apr_uint64_t head, tail; /* bytes put in and taken out since the ring was last empty */
    apr_uint64_t high;
    apr_time_t deadline; /* the thread's own: when it gives up; 0: not asked to end */
};

/* A record: its length, then the line. */
typedef struct record_t {
    apr_uint32_t len;
    struct iovec part[2];
} record_t;

static void copy_in(aip_line_queue_t *queue, const void *data, apr_size_t len)
{
    apr_size_t at = queue->head % queue->size,
               first = queue->size - at < len ? queue->size - at : len;
    memcpy(queue->ring + at, data, first);
    memcpy(queue->ring, (const char *)data + first, len - first);
    queue->head += len;
    queue->high = queue->head > queue->high ? queue->head : queue->high;
}

bool aip_line_pipe_may_tell(aip_line_pipe_t *pipe)
{
    apr_int64_t now = apr_time_sec(apr_time_now());
    apr_int64_t last = atomic_load(&pipe->told_at);
    return now - last >= TELL_EVERY && atomic_compare_exchange_strong(&pipe->told_at, &last, now);
}

static void tell(const aip_line_queue_t *queue, const char *why)
{
    if (aip_line_pipe_may_tell(queue->sink.shared)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, queue->sink.server,
                     "AIP0310: AIStatisticsLog %s: %s; lines are dropped, %" APR_UINT64_T_FMT
                     " so far",
                     queue->sink.name, why, (apr_uint64_t)atomic_load(queue->sink.dropped));
    }
}

static void drop(const aip_line_queue_t *queue, apr_uint64_t n, const char *why)
{
    atomic_fetch_add(queue->sink.dropped, n);
    tell(queue, why);
}

bool aip_line_queue_add(aip_line_queue_t *queue, aip_span_t line)
{
    apr_uint32_t len = (apr_uint32_t)line.len;
    apr_size_t need = line.len + sizeof len;
    pthread_mutex_lock(&queue->lock);
    apr_size_t used = (apr_size_t)(queue->head - queue->tail);
    bool taken = line.len < queue->size && need <= queue->size - used &&
                 (!used || used + need <= queue->most);
    if (taken) {
        copy_in(queue, &len, sizeof len);
        copy_in(queue, line.data, line.len);
    }
    pthread_mutex_unlock(&queue->lock);
    if (taken && !used) {
        aip_background_wake(queue->background);
    } else if (!taken) {
        drop(queue, 1,
             line.len < queue->size ? "the program does not read fast enough"
                                    : "a line is too long");
    }
    return taken;
}

/* The oldest record. What it points to stays as it is until it is removed. */
static bool peek(aip_line_queue_t *queue, record_t *record)
{
    pthread_mutex_lock(&queue->lock);
    bool there = queue->head != queue->tail;
    apr_uint64_t tail = queue->tail;
    pthread_mutex_unlock(&queue->lock);
    if (!there) {
        return false;
    }
    for (apr_size_t i = 0; i < sizeof record->len; i++) {
        ((char *)&record->len)[i] = queue->ring[(tail + i) % queue->size];
    }
    apr_size_t at = (tail + sizeof record->len) % queue->size;
    apr_size_t first = queue->size - at < record->len ? queue->size - at : record->len;
    record->part[0] = (struct iovec){queue->ring + at, first};
    record->part[1] = (struct iovec){queue->ring, record->len - first};
    return true;
}

static void remove_first(aip_line_queue_t *queue, const record_t *record)
{
    pthread_mutex_lock(&queue->lock);
    queue->tail += sizeof record->len + record->len;
    if (queue->tail == queue->head) {
        if (queue->high > KEEP) {
            madvise(queue->ring + KEEP, queue->size - KEEP, MADV_DONTNEED);
        }
        queue->tail = queue->head = queue->high = 0;
    }
    pthread_mutex_unlock(&queue->lock);
}

/* Whether the child has waited long enough for its end. */
static bool is_over(aip_line_queue_t *queue)
{
    if (!aip_is_stopping(aip_background_stop(queue->background))) {
        return false;
    }
    queue->deadline = queue->deadline ? queue->deadline : apr_time_now() + FLUSH;
    return apr_time_now() >= queue->deadline;
}

static bool lock_pipe(aip_line_queue_t *queue)
{
    for (apr_interval_time_t nap = 500;; nap = nap < NAP_MAX ? 2 * nap : nap) {
        apr_status_t rv = apr_global_mutex_trylock(queue->sink.mutex);
        if (!APR_STATUS_IS_EBUSY(rv)) {
            return rv == APR_SUCCESS;
        }
        if (is_over(queue)) {
            return false;
        }
        apr_sleep(nap);
    }
}

static void skip(record_t *record, apr_size_t n)
{
    for (int i = 0; i < 2; i++) {
        apr_size_t some = n < record->part[i].iov_len ? n : record->part[i].iov_len;
        record->part[i].iov_base = (char *)record->part[i].iov_base + some;
        record->part[i].iov_len -= some;
        n -= some;
    }
}

/* A child that went away in the middle of a line has left it without an end. */
static apr_ssize_t mend(const aip_line_queue_t *queue)
{
    apr_ssize_t n = atomic_load(&queue->sink.shared->torn) ? write(queue->sink.fd, "\n", 1) : 1;
    if (n == 1) {
        atomic_store(&queue->sink.shared->torn, 0);
    }
    return n;
}

/* Whether one read of the program would take what is in the pipe and this line as well: else it may
 * take the line in two parts, and rotatelogs put them into two files. A line that no read takes as
 * a whole does not wait: under load the shorter ones of other children would always be before it.
 */
static bool has_room(const aip_line_queue_t *queue, apr_size_t len)
{
    int unread = 0;
    return len + 1 > UNREAD || ioctl(queue->sink.fd, FIONREAD, &unread) != 0 ||
           (apr_size_t)unread + len + 1 <= UNREAD;
}

typedef enum written_e { WRITTEN, BUSY, BROKEN } written_e;

/* Under the lock: as much as the pipe takes now. */
static written_e write_some(aip_line_queue_t *queue, record_t *record, bool *begun)
{
    if (!*begun && !has_room(queue, record->len)) {
        return BUSY;
    }
    while (record->part[0].iov_len + record->part[1].iov_len) {
        apr_ssize_t n = *begun ? 1 : mend(queue);
        n = n < 0 ? n : writev(queue->sink.fd, record->part, 2);
        if (n < 0 && errno != EINTR) {
            return errno == EAGAIN || errno == EWOULDBLOCK ? BUSY : BROKEN;
        }
        if (n > 0) {
            *begun = true;
            skip(record, (apr_size_t)n);
        }
    }
    return WRITTEN;
}

/* The pipe is locked while a line is half written, but not while it takes nothing at all.
 * @return false: the time is over */
static bool write_record(aip_line_queue_t *queue, record_t record)
{
    struct pollfd pipe = {.fd = queue->sink.fd, .events = POLLOUT};
    bool begun = false;
    written_e done = BUSY;
    while (done == BUSY) {
        if (!begun && !lock_pipe(queue)) {
            return false;
        }
        done = write_some(queue, &record, &begun);
        bool over = done == BUSY && is_over(queue);
        if (begun && done != WRITTEN && (over || done == BROKEN)) {
            atomic_store(&queue->sink.shared->torn, 1);
        }
        if (!begun || done != BUSY || over) {
            apr_global_mutex_unlock(queue->sink.mutex);
        }
        if (over) {
            return false;
        }
        if (done == BUSY && poll(&pipe, 1, PIPE_POLL) == 1 && !begun) {
            apr_sleep(ROOM_NAP);
        }
    }
    if (done == BROKEN) {
        drop(queue, 1, "the program is gone");
    }
    return true;
}

static bool drain(aip_line_queue_t *queue)
{
    record_t record;
    while (peek(queue, &record)) {
        if (!write_record(queue, record)) {
            return false;
        }
        remove_first(queue, &record);
    }
    return true;
}

static void run(aip_background_t *background, void *baton)
{
    aip_line_queue_t *queue = baton;
    record_t record;
    apr_uint64_t left = 0;
    queue->background = background;
    while (drain(queue) && aip_background_wait(background, apr_time_from_sec(60))) {
    }
    if (!drain(queue)) {
        for (; peek(queue, &record); left++) {
            remove_first(queue, &record);
        }
        atomic_store(&queue->sink.shared->told_at, 0);
        drop(queue, left, "a child ended while the program did not read");
    }
}

apr_status_t aip_line_queue_start(aip_line_queue_t **queue_, const aip_line_sink_t *sink,
                                  apr_pool_t *pool)
{
    int threads = 0;
    aip_line_queue_t *queue = apr_pcalloc(pool, sizeof *queue);
    queue->sink = *sink;
    pthread_mutex_init(&queue->lock, NULL);
    ap_mpm_query(AP_MPMQ_IS_THREADED, &threads);
    queue->size = threads ? threaded.ring : preforked.ring;
    queue->most = threads ? threaded.most : preforked.most;
    queue->ring = mmap(NULL, queue->size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (queue->ring == MAP_FAILED) {
        return APR_FROM_OS_ERROR(errno);
    }
    *queue_ = queue;
    return aip_background_start(&queue->background, run, queue, pool);
}
