/* SPDX-License-Identifier: Apache-2.0 */
/* The queue between request threads and the exporter of a child. A push holds the lock for a few
 * instructions, allocates before it, and gives up at once when there is no room. */
#include "aip/trace_export.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct aip_trace_queue_t {
    pthread_mutex_t lock;
    aip_trace_item_t *first, **end;
    int n, limit;
};

aip_trace_queue_t *aip_trace_queue_create(int limit, apr_pool_t *pool)
{
    aip_trace_queue_t *queue = apr_pcalloc(pool, sizeof *queue);
    queue->limit = limit;
    queue->end = &queue->first;
    return pthread_mutex_init(&queue->lock, NULL) == 0 ? queue : NULL;
}

static bool holds(aip_trace_queue_t *queue, int n)
{
    pthread_mutex_lock(&queue->lock);
    bool result = queue->n >= n;
    pthread_mutex_unlock(&queue->lock);
    return result;
}

static int half(const aip_trace_queue_t *queue)
{
    return (queue->limit + 1) / 2;
}

aip_trace_queued_e aip_trace_queue_push(aip_trace_queue_t *queue, aip_span_t data, int spans)
{
    aip_trace_item_t *item = holds(queue, queue->limit) ? NULL : malloc(sizeof *item + data.len);
    if (!item) {
        return AIP_TRACE_FULL;
    }
    *item = (aip_trace_item_t){.spans = spans, .len = data.len};
    memcpy(item->data, data.data, data.len);
    pthread_mutex_lock(&queue->lock);
    bool room = queue->n < queue->limit;
    bool wake = room && ++queue->n == half(queue);
    if (room) {
        *queue->end = item;
        queue->end = &item->next;
    }
    pthread_mutex_unlock(&queue->lock);
    if (!room) {
        free(item);
    }
    return !room ? AIP_TRACE_FULL : wake ? AIP_TRACE_QUEUED_WAKE : AIP_TRACE_QUEUED;
}

aip_trace_item_t *aip_trace_queue_take(aip_trace_queue_t *queue, size_t bytes)
{
    size_t sum = 0;
    pthread_mutex_lock(&queue->lock);
    aip_trace_item_t *list = queue->first, **end = &queue->first;
    while (*end && (end == &queue->first || sum + (*end)->len <= bytes)) {
        sum += (*end)->len;
        end = &(*end)->next;
        queue->n--;
    }
    if (list) {
        aip_trace_item_t *rest = *end;
        *end = NULL;
        queue->first = rest;
        queue->end = rest ? queue->end : &queue->first;
    }
    pthread_mutex_unlock(&queue->lock);
    return list;
}

bool aip_trace_queue_pressed(aip_trace_queue_t *queue)
{
    return holds(queue, half(queue));
}
