/* SPDX-License-Identifier: Apache-2.0 */
/* A background thread of a child, woken and ended through an eventfd. */
#include "background.h"

#include <apr_errno.h>
#include <apr_thread_proc.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOK apr_time_from_msec(2)

struct aip_background_t {
    int event;
    volatile apr_uint32_t stop, ended;
    apr_thread_t *thread;
    void (*run)(aip_background_t *background, void *baton);
    void *baton;
};

static void *APR_THREAD_FUNC enter(apr_thread_t *thread, void *data)
{
    aip_background_t *background = data;
    (void)thread;
    background->run(background, background->baton);
    __atomic_store_n(&background->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void tell(aip_background_t *background)
{
    __atomic_store_n(&background->stop, 1, __ATOMIC_RELEASE);
    aip_background_wake(background);
}

static apr_status_t end(void *data)
{
    aip_background_t *background = data;
    apr_status_t rv;
    tell(background);
    apr_thread_join(&rv, background->thread);
    close(background->event);
    return APR_SUCCESS;
}

static apr_status_t end_or_leave(void *data)
{
    aip_background_t *background = data;
    apr_time_t until = apr_time_now() + AIP_BACKGROUND_GRACE;
    tell(background);
    while (!__atomic_load_n(&background->ended, __ATOMIC_ACQUIRE)) {
        if (apr_time_now() >= until) {
            return APR_SUCCESS;
        }
        apr_sleep(LOOK);
    }
    return end(background);
}

static apr_status_t start(aip_background_t **background_,
                          void (*run)(aip_background_t *background, void *baton), void *baton,
                          apr_pool_t *pool, apr_pool_t *owner, apr_status_t (*at_end)(void *data))
{
    aip_background_t *background = apr_pcalloc(pool, sizeof *background);
    sigset_t all, before;
    *background = (aip_background_t){
        .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .run = run, .baton = baton};
    if (background->event < 0) {
        return APR_FROM_OS_ERROR(errno);
    }
    *background_ = background;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* httpd's own threads take the signals */
    apr_status_t rv = apr_thread_create(&background->thread, NULL, enter, background, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rv != APR_SUCCESS) {
        close(background->event);
        *background_ = NULL;
        return rv;
    }
    apr_pool_pre_cleanup_register(owner, background, at_end);
    return APR_SUCCESS;
}

apr_status_t aip_background_start(aip_background_t **background,
                                  void (*run)(aip_background_t *background, void *baton),
                                  void *baton, apr_pool_t *pool)
{
    return start(background, run, baton, pool, pool, end);
}

apr_status_t aip_background_start_loose(aip_background_t **background,
                                        void (*run)(aip_background_t *background, void *baton),
                                        void *baton, apr_pool_t *pool, apr_pool_t *pchild)
{
    return start(background, run, baton, pool, pchild, end_or_leave);
}

bool aip_background_wait(aip_background_t *background, apr_interval_time_t limit)
{
    struct pollfd fd = {.fd = background->event, .events = POLLIN};
    eventfd_t count;
    if (!__atomic_load_n(&background->stop, __ATOMIC_ACQUIRE) &&
        poll(&fd, 1, (int)((limit + 999) / 1000)) > 0) {
        (void)eventfd_read(background->event, &count);
    }
    return !__atomic_load_n(&background->stop, __ATOMIC_ACQUIRE);
}

void aip_background_wake(const aip_background_t *background)
{
    (void)eventfd_write(background->event, 1);
}

const volatile apr_uint32_t *aip_background_stop(const aip_background_t *background)
{
    return &background->stop;
}
