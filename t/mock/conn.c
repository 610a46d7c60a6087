/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection's life: accept, events of its socket and timer, close. serve.c does what lies
 * between. A connection that ends is only marked; it is freed when the turn of the loop is over, so
 * that events of the same turn never meet freed memory. Called by loop.c.
 */
#include "mock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define READ_SIZE 16384
#define READ_AHEAD_MAX                                                                             \
    (256 * 1024) /* taken from a client that sends while it is being answered                      \
                  */
#define ACCEPTS_PER_TURN 64

static mock_conn_t *conns;
static mock_conn_t *dead;
static uint64_t last_id;

unsigned mock_conn_waiting;

void mock_conn_want(mock_conn_t *c)
{
    if (c->state != CONN_DEAD) {
        mock_loop_watch(&c->watch, c->want | EPOLLRDHUP);
    }
}

void mock_conn_kill(mock_conn_t *c, bool reset, bool clean)
{
    if (c->state == CONN_DEAD) {
        return;
    }
    mock_conn_waiting -= c->state == CONN_WAITING;
    c->state = CONN_DEAD;
    mock_timer_cancel(&c->timer);
    mock_io_close(c, reset, clean);
    if (!c->control) {
        c->listener->open--;
        mock_event_count(c->listener, MOCK_EV_CLOSED);
    }
    if (c->prev) {
        c->prev->next = c->next;
    } else {
        conns = c->next;
    }
    if (c->next) {
        c->next->prev = c->prev;
    }
    c->next = dead;
    dead = c;
}

/* The client closed, or the socket failed. */
void mock_conn_gone(mock_conn_t *c)
{
    mock_record_t *r = c->rec ? mock_record_find(c->rec) : NULL;
    bool open_request = c->rec && c->state != CONN_LINGER;

    if (open_request && r) {
        if (!r->complete) {
            mock_record_body(c->rec, mock_serve_body(c), false);
        }
        r->closed_early = true;
        r->closed_after_us = mock_now_us() - r->head_us;
    }
    if (open_request) {
        mock_event_count(c->listener, MOCK_EV_EARLY_CLOSE);
    }
    mock_conn_kill(c, false, false);
}

static size_t read_size(const mock_conn_t *c)
{
    size_t want = READ_SIZE;

    if (c->state == CONN_READ_BODY && c->act && c->act->slow_read) {
        return (size_t)c->act->slow_read_bytes;
    }
    if (c->state == CONN_READ_BODY && !c->head.chunked) {
        size_t left = c->head.head_len + c->head.length - c->in.len;

        want = left > want ? left : want;
    }
    return want < 1024 * 1024 ? want : 1024 * 1024;
}

static void readable(mock_conn_t *c)
{
    mock_io_t rc;

    do {
        if ((c->state == CONN_ANSWER || c->state == CONN_WAITING) && c->in.len > READ_AHEAD_MAX) {
            c->want &= ~(uint32_t)EPOLLIN;
            mock_conn_want(c);
            return;
        }
        rc = mock_io_read(c, read_size(c));
        if (rc == IO_EOF || rc == IO_ERROR) {
            mock_conn_gone(c);
            return;
        }
        if (c->state == CONN_LINGER) {
            c->in.len = 0;
        }
        if (c->state == CONN_READ_BODY && c->act && c->act->slow_read) {
            c->want = 0;
            mock_conn_want(c);
            mock_timer_set(&c->timer, c->act->slow_read_interval_ms);
        }
        mock_serve_progress(c);
    } while (rc == IO_OK && c->state != CONN_DEAD && c->ssl && (c->want & EPOLLIN) &&
             SSL_pending(c->ssl) > 0);
}

static void handshake(mock_conn_t *c)
{
    mock_io_t rc = mock_io_handshake(c);

    if (rc == IO_OK) {
        mock_serve_next(c);
    } else if (rc == IO_AGAIN) {
        mock_conn_want(c);
    } else {
        mock_conn_kill(c, false, false);
    }
}

static void on_event(mock_watch_t *w, uint32_t events)
{
    mock_conn_t *c = (mock_conn_t *)(void *)w;

    if (c->state == CONN_DEAD) {
        return;
    }
    if (c->state == CONN_HANDSHAKE) {
        handshake(c);
        return;
    }
    if (c->state == CONN_ANSWER && (events & EPOLLOUT)) {
        mock_serve_plan(c);
        mock_serve_progress(c);
    }
    if (c->state != CONN_DEAD && (events & EPOLLIN) && (c->want & EPOLLIN)) {
        readable(c);
    } else if (c->state != CONN_DEAD && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
        mock_conn_gone(c);
    }
}

static void on_timer(mock_timer_t *t)
{
    mock_conn_t *c = (mock_conn_t *)(void *)((char *)t - offsetof(mock_conn_t, timer));

    switch (c->state) {
    case CONN_STALLED:
        c->state = CONN_READ_BODY;
        c->want = EPOLLIN;
        mock_conn_want(c);
        break;
    case CONN_READ_BODY:
        c->want = EPOLLIN;
        readable(c);
        mock_conn_want(c);
        break;
    case CONN_ANSWER:
        mock_serve_plan(c);
        break;
    case CONN_WAITING:
        mock_control_wait_timeout(c);
        mock_serve_answer(c);
        break;
    case CONN_LINGER:
    case CONN_HANDSHAKE:
    case CONN_READ_HEAD:
        mock_conn_kill(c, false, false);
        break;
    case CONN_DEAD:
        break;
    }
    mock_serve_progress(c);
}

static void conn_new(mock_listener_t *l, int fd, mock_do_t *act)
{
    mock_conn_t *c = mock_alloc(sizeof(*c));
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->watch.on_event = on_event;
    c->watch.fd = fd;
    c->timer.on_fire = on_timer;
    c->listener = l;
    c->id = ++last_id;
    c->act = act;
    c->next = conns;
    if (conns) {
        conns->prev = c;
    }
    conns = c;
    if (act) {
        c->state = CONN_STALLED;
        mock_conn_want(c);
    } else if (l->tls) {
        c->ssl = SSL_new(mock_tls_ctx);
        SSL_set_fd(c->ssl, fd);
        c->state = CONN_HANDSHAKE;
        handshake(c);
    } else {
        c->state = CONN_READ_HEAD;
        c->want = EPOLLIN;
        mock_conn_want(c);
    }
}

void mock_conn_accept(mock_watch_t *w, uint32_t events)
{
    mock_listener_t *l = (mock_listener_t *)(void *)w;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(l->watch.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        mock_do_t *act;

        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                perror("mock: accept");
            }
            return;
        }
        l->open++;
        mock_event_count(l, MOCK_EV_OPENED);
        act = l->control ? NULL : mock_behave_match_accept(l->port);
        conn_new(l, fd, act);
        if (act && act->accept_close) {
            mock_conn_kill(conns, act->reset, false);
        }
    }
}

void mock_conn_close_idle(int port, bool reset, bool all)
{
    mock_conn_t *next;

    for (mock_conn_t *c = conns; c; c = next) {
        next = c->next;
        if (!c->control && (!port || c->listener->port == port) &&
            (all || (c->state == CONN_READ_HEAD && !c->in.len))) {
            mock_conn_kill(c, reset, true);
        }
    }
}

static void answer_waiters(void)
{
    mock_conn_t *next;

    for (mock_conn_t *c = conns; c && mock_conn_waiting; c = next) {
        next = c->next;
        if (c->state == CONN_WAITING && mock_control_wait_done(c)) {
            mock_timer_cancel(&c->timer);
            mock_serve_answer(c);
            mock_serve_progress(c);
        }
    }
}

void mock_conn_turn_end(void)
{
    if (mock_events_dirty) {
        mock_events_dirty = false;
        answer_waiters();
    }
    while (dead) {
        mock_conn_t *next = dead->next;

        mock_do_release(dead->act);
        mock_buf_free(&dead->in);
        mock_buf_free(&dead->chunk_body);
        mock_plan_free(&dead->plan);
        free(dead);
        dead = next;
    }
}
