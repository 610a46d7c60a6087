/* SPDX-License-Identifier: Apache-2.0 */
/* The queue between request threads and the exporter of a child. A push holds the lock while it
 * copies some hundred bytes, and gives up at once when there is no room. Requests share a batch,
 * and a batch is used again: no memory goes from one thread's heap to another's with each request.
 * A batch is not of the heap, since a prefork child may end while its main thread is in malloc().
 */
#include "aip/trace_export.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

struct aip_trace_queue_t {
    pthread_mutex_t lock; /* of all below */
    aip_trace_batch_t *first, *last;
    aip_trace_batch_t *spare; /* of the usual length; NULL: none */
    size_t bytes;             /* the usual length */
    int n, limit;             /* requests */
};

aip_trace_queue_t *aip_trace_queue_create(int limit, size_t bytes, apr_pool_t *pool)
{
    aip_trace_queue_t *queue = apr_pcalloc(pool, sizeof *queue);
    queue->limit = limit;
    queue->bytes = bytes;
    return pthread_mutex_init(&queue->lock, NULL) == 0 ? queue : NULL;
}

static int half(const aip_trace_queue_t *queue)
{
    return (queue->limit + 1) / 2;
}

static size_t size_of(size_t room)
{
    return sizeof(aip_trace_batch_t) + AIP_TRACE_HEAD + room;
}

/* One with room for so much; NULL: there is no memory. */
static aip_trace_batch_t *empty_batch(aip_trace_queue_t *queue, size_t len)
{
    aip_trace_batch_t *batch = NULL;
    size_t room = len > queue->bytes ? len : queue->bytes;
    if (room == queue->bytes) {
        batch = queue->spare;
        queue->spare = NULL;
    }
    if (!batch) {
        void *memory =
            mmap(NULL, size_of(room), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        batch = memory == MAP_FAILED ? NULL : memory;
    }
    if (batch) {
        *batch = (aip_trace_batch_t){.room = room};
    }
    return batch;
}

/* The last batch, or a new one that is the last now. */
static aip_trace_batch_t *batch_for(aip_trace_queue_t *queue, size_t len)
{
    aip_trace_batch_t *last = queue->last;
    if (last && len <= last->room - last->len) {
        return last;
    }
    aip_trace_batch_t *batch = empty_batch(queue, len);
    if (batch) {
        *(last ? &last->next : &queue->first) = batch;
        queue->last = batch;
    }
    return batch;
}

aip_trace_queued_e aip_trace_queue_push(aip_trace_queue_t *queue, aip_span_t data, int spans)
{
    pthread_mutex_lock(&queue->lock);
    aip_trace_batch_t *batch = queue->n < queue->limit ? batch_for(queue, data.len) : NULL;
    bool wake = batch && ++queue->n == half(queue);
    if (batch) {
        memcpy(batch->data + AIP_TRACE_HEAD + batch->len, data.data, data.len);
        batch->len += data.len;
        batch->spans += spans;
        batch->requests++;
    }
    pthread_mutex_unlock(&queue->lock);
    return !batch ? AIP_TRACE_FULL : wake ? AIP_TRACE_QUEUED_WAKE : AIP_TRACE_QUEUED;
}

aip_trace_batch_t *aip_trace_queue_take(aip_trace_queue_t *queue)
{
    pthread_mutex_lock(&queue->lock);
    aip_trace_batch_t *batch = queue->first;
    if (batch) {
        queue->n -= batch->requests;
        queue->first = batch->next;
        queue->last = queue->first ? queue->last : NULL;
    }
    pthread_mutex_unlock(&queue->lock);
    return batch;
}

void aip_trace_queue_give_back(aip_trace_queue_t *queue, aip_trace_batch_t *batch)
{
    pthread_mutex_lock(&queue->lock);
    if (!queue->spare && batch->room == queue->bytes) {
        queue->spare = batch;
        batch = NULL;
    }
    pthread_mutex_unlock(&queue->lock);
    if (batch) {
        munmap(batch, size_of(batch->room));
    }
}

bool aip_trace_queue_pressed(aip_trace_queue_t *queue)
{
    pthread_mutex_lock(&queue->lock);
    bool pressed = queue->n >= half(queue);
    pthread_mutex_unlock(&queue->lock);
    return pressed;
}
