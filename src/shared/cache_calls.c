/* SPDX-License-Identifier: Apache-2.0 */
/* A few threads of each child make the calls; requests wait for them, but not for ever. Threads,
 * mutex and conditions live as long as the process and are never destroyed: a thread may hang in a
 * provider, and prefork ends a child from inside whatever it waits for. */
#include "cache_calls.h"

#include "aip/router.h"
#include "aip/signals.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#define THREADS 8
#define THREADS_MAX 32 /* those included that hang */
#define JOBS 64

typedef enum job_state_e { JOB_FREE, JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_DROPPED } job_state_e;

typedef struct job_t {
    job_state_e state;
    pthread_cond_t done;
    aip_cache_call_t call;
    unsigned char key[64];
    unsigned len;
    apr_status_t rv;
    apr_uint64_t ticket; /* its place in the queue */
    apr_time_t started;
    unsigned char data[AIP_CACHE_VALUE_MAX];
} job_t;

static struct {
    pthread_mutex_t mutex; /* all that follows, but for the data of a running job */
    pthread_cond_t queued;
    int threads;
    apr_uint64_t tickets;
    job_t jobs[JOBS];
} calls = {.mutex = PTHREAD_MUTEX_INITIALIZER, .queued = PTHREAD_COND_INITIALIZER};

static job_t *find_free(void)
{
    for (int i = 0; i < JOBS; i++) {
        if (calls.jobs[i].state == JOB_FREE) {
            return &calls.jobs[i];
        }
    }
    return NULL;
}

static job_t *oldest_queued(void)
{
    job_t *oldest = NULL;
    for (int i = 0; i < JOBS; i++) {
        job_t *job = &calls.jobs[i];
        if (job->state == JOB_QUEUED && (!oldest || job->ticket < oldest->ticket)) {
            oldest = job;
        }
    }
    return oldest;
}

static apr_status_t carry_out(job_t *job, apr_pool_t *pool)
{
    const aip_cache_call_t *c = &job->call;
    return c->store ? c->provider->store(c->instance, c->server, job->key, c->key_len, c->expiry,
                                         job->data, job->len, pool)
                    : c->provider->retrieve(c->instance, c->server, job->key, c->key_len, job->data,
                                            &job->len, pool);
}

static void *run(void *data)
{
    apr_pool_t *pool;
    apr_pool_create(&pool, data); /* clearing the other one would end its allocator's mutex */
    pthread_mutex_lock(&calls.mutex);
    for (;;) {
        job_t *job = oldest_queued();
        if (!job) {
            pthread_cond_wait(&calls.queued, &calls.mutex);
            continue;
        }
        job->state = JOB_RUNNING;
        job->started = apr_time_now();
        pthread_mutex_unlock(&calls.mutex);
        job->rv = carry_out(job, pool);
        apr_pool_clear(pool);
        pthread_mutex_lock(&calls.mutex);
        job->state = job->state == JOB_DROPPED ? JOB_FREE : JOB_DONE;
        pthread_cond_signal(&job->done);
    }
    return NULL;
}

/* Under the mutex. */
static apr_status_t start_thread(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    apr_pool_t *pool;
    sigset_t before;
    apr_status_t rv = aip_pool_create_locked(&pool, NULL);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    aip_signals_block(&before);
    rv = pthread_create(&thread, &attributes, run, pool);
    aip_signals_restore(&before);
    pthread_attr_destroy(&attributes);
    calls.threads += rv == APR_SUCCESS;
    return rv;
}

apr_status_t aip_cache_calls_init(void)
{
    apr_status_t rv = APR_SUCCESS;
    for (int i = 0; i < JOBS; i++) {
        pthread_cond_init(&calls.jobs[i].done, NULL);
    }
    pthread_mutex_lock(&calls.mutex);
    for (int i = 0; rv == APR_SUCCESS && i < THREADS; i++) {
        rv = start_thread();
    }
    pthread_mutex_unlock(&calls.mutex);
    return calls.threads ? APR_SUCCESS : rv; /* some will do */
}

static struct timespec after(apr_interval_time_t limit)
{
    apr_time_t end = apr_time_now() + limit;
    return (struct timespec){.tv_sec = apr_time_sec(end), .tv_nsec = apr_time_usec(end) * 1000};
}

/* Under the mutex. Whoever waits for the job drops it when its time is over. A job that was not
 * begun, or only lately, says nothing about the cache. */
static apr_status_t wait_for(job_t *job, apr_interval_time_t limit)
{
    struct timespec end = after(limit);
    int rc = 0;
    while (job->state != JOB_DONE && rc == 0) {
        rc = pthread_cond_timedwait(&job->done, &calls.mutex, &end);
    }
    if (job->state == JOB_DONE) {
        return job->rv;
    }
    bool dawdles = job->state == JOB_RUNNING && apr_time_now() - job->started >= limit / 2;
    if (job->state == JOB_QUEUED) {
        job->state = JOB_FREE;
        return APR_EBUSY;
    }
    job->state = JOB_DROPPED;
    if (dawdles && calls.threads < THREADS_MAX) {
        (void)start_thread(); /* this one may hang for ever */
    }
    return dawdles ? APR_TIMEUP : APR_EBUSY;
}

apr_status_t aip_cache_call(const aip_cache_call_t *call, void *data, unsigned *len,
                            apr_interval_time_t limit)
{
    apr_status_t rv = APR_EBUSY;
    if (*len > AIP_CACHE_VALUE_MAX || call->key_len > sizeof calls.jobs[0].key) {
        return APR_EINVAL;
    }
    pthread_mutex_lock(&calls.mutex);
    job_t *job = find_free();
    if (job) {
        job->call = *call;
        job->len = *len;
        memcpy(job->key, call->key, call->key_len);
        if (call->store) {
            memcpy(job->data, data, *len);
        }
        job->ticket = calls.tickets++;
        job->state = JOB_QUEUED;
        pthread_cond_signal(&calls.queued);
        rv = wait_for(job, limit);
        if (rv == APR_SUCCESS && !call->store) {
            memcpy(data, job->data, job->len);
            *len = job->len;
        }
        job->state = job->state == JOB_DONE ? JOB_FREE : job->state;
    }
    pthread_mutex_unlock(&calls.mutex);
    return rv;
}
