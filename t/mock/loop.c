/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of the mock: one epoll set and a binary heap of timers. main.c runs it;
 * connections and listeners register themselves. SIGTERM and SIGINT are only let in while epoll
 * waits, so none is lost.
 */
#include "mock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#define EVENTS_PER_TURN 256

static int epfd = -1;
static int64_t now_us;
static volatile sig_atomic_t stopping;
static mock_timer_t **heap;
static size_t heap_n;
static size_t heap_cap;

static int64_t clock_us(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void on_signal(int sig)
{
    (void)sig;
    stopping = 1;
}

void mock_loop_init(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigset_t set;

    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0) {
        perror("mock: epoll_create1");
        exit(1);
    }
    now_us = clock_us(CLOCK_MONOTONIC);
}

void mock_loop_watch(mock_watch_t *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    if (w->events == events) {
        return;
    }
    if (epoll_ctl(epfd, w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev) < 0) {
        perror("mock: epoll_ctl");
        exit(1);
    }
    w->events = events;
}

void mock_loop_unwatch(mock_watch_t *w)
{
    if (w->events) {
        epoll_ctl(epfd, EPOLL_CTL_DEL, w->fd, NULL);
        w->events = 0;
    }
}

int64_t mock_now_us(void)
{
    return now_us;
}

int64_t mock_wall_ms(void)
{
    return clock_us(CLOCK_REALTIME) / 1000;
}

static void heap_put(size_t i, mock_timer_t *t)
{
    heap[i] = t;
    t->slot = i + 1;
}

static void heap_up(size_t i, mock_timer_t *t)
{
    while (i > 0 && heap[(i - 1) / 2]->due_us > t->due_us) {
        heap_put(i, heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(i, t);
}

static void heap_down(size_t i, mock_timer_t *t)
{
    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid + 1 < heap_n && heap[kid + 1]->due_us < heap[kid]->due_us) {
            kid++;
        }
        if (kid >= heap_n || heap[kid]->due_us >= t->due_us) {
            break;
        }
        heap_put(i, heap[kid]);
        i = kid;
    }
    heap_put(i, t);
}

void mock_timer_cancel(mock_timer_t *t)
{
    size_t i = t->slot;

    if (!i) {
        return;
    }
    t->slot = 0;
    i--;
    heap_n--;
    if (i < heap_n) {
        mock_timer_t *last = heap[heap_n];

        if (i > 0 && heap[(i - 1) / 2]->due_us > last->due_us) {
            heap_up(i, last);
        } else {
            heap_down(i, last);
        }
    }
}

void mock_timer_set(mock_timer_t *t, int64_t ms)
{
    mock_timer_cancel(t);
    if (heap_n == heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 64;
        heap = mock_realloc(heap, heap_cap * sizeof(mock_timer_t *));
    }
    t->due_us = clock_us(CLOCK_MONOTONIC) + ms * 1000;
    heap_up(heap_n++, t);
}

static int next_timeout_ms(void)
{
    int64_t left;

    if (!heap_n) {
        return -1;
    }
    left = heap[0]->due_us - clock_us(CLOCK_MONOTONIC);
    return left <= 0 ? 0 : (int)((left + 999) / 1000);
}

static void fire_due_timers(void)
{
    /* Timers set by a callback for "now" wait for the next turn, so that input is looked at in
     * between. */
    int64_t limit = now_us;

    while (heap_n && heap[0]->due_us <= limit) {
        mock_timer_t *t = heap[0];

        mock_timer_cancel(t);
        t->on_fire(t);
    }
}

void mock_loop_run(void (*after_each_turn)(void))
{
    struct epoll_event ev[EVENTS_PER_TURN];
    sigset_t none;

    sigemptyset(&none);
    while (!stopping) {
        int n = epoll_pwait(epfd, ev, EVENTS_PER_TURN, next_timeout_ms(), &none);

        if (n < 0 && errno != EINTR) {
            perror("mock: epoll_pwait");
            exit(1);
        }
        now_us = clock_us(CLOCK_MONOTONIC);
        for (int i = 0; i < n; i++) {
            mock_watch_t *w = ev[i].data.ptr;

            w->on_event(w, ev[i].events);
        }
        fire_due_timers();
        after_each_turn();
    }
}
