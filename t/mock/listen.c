/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets, on 127.0.0.1 only: opened at start, closed and opened again by POST
 * /__mock/port, and one kind that never accepts. Called by main.c and control.c.
 */
#include "mock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096

mock_listener_t *mock_listeners;

mock_listener_t *mock_listener_find(int port)
{
    mock_listener_t *l = mock_listeners;

    while (l && l->port != port) {
        l = l->next;
    }
    return l;
}

static int bind_local(int *port, int rcvbuf, int backlog)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t len = sizeof(sa);
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (rcvbuf) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
    }
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, backlog) ||
        getsockname(fd, (struct sockaddr *)&sa, &len)) {
        close(fd);
        return -1;
    }
    *port = ntohs(sa.sin_port);
    return fd;
}

bool mock_listener_open(mock_listener_t *l, const char **why)
{
    if (l->watch.fd >= 0) {
        return true;
    }
    l->watch.fd = bind_local(&l->port, l->rcvbuf, BACKLOG);
    if (l->watch.fd < 0) {
        *why = strerror(errno);
        return false;
    }
    l->watch.on_event = mock_conn_accept;
    mock_loop_watch(&l->watch, EPOLLIN);
    return true;
}

void mock_listener_close(mock_listener_t *l)
{
    if (l->watch.fd >= 0) {
        mock_loop_unwatch(&l->watch);
        close(l->watch.fd);
        l->watch.fd = -1;
    }
}

bool mock_blackhole_open(int port, int *chosen)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};

    *chosen = port;
    if (bind_local(chosen, 0, 0) < 0) {
        return false;
    }
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sa.sin_port = htons((uint16_t)*chosen);
    /* A backlog of 0 holds one connection: these fill it and stay, later SYNs are dropped. */
    for (int i = 0; i < 3; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0 || (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) && errno != EINPROGRESS)) {
            return false;
        }
    }
    return true;
}
