/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in and out of one connection, plain or TLS, never blocking. Called by conn.c and serve.c;
 * what to wait for next is left in c->want.
 */
#include "mock.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static mock_io_t tls_result(mock_conn_t *c, int rc)
{
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        c->want |= EPOLLIN;
        return IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        c->want |= EPOLLOUT;
        return IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return IO_EOF;
    default:
        ERR_clear_error();
        return IO_ERROR;
    }
}

mock_io_t mock_io_handshake(mock_conn_t *c)
{
    int rc;

    c->want = 0;
    ERR_clear_error();
    rc = SSL_accept(c->ssl);
    return rc == 1 ? IO_OK : tls_result(c, rc);
}

mock_io_t mock_io_read(mock_conn_t *c, size_t max)
{
    ssize_t n;

    mock_buf_reserve(&c->in, max);
    if (c->ssl) {
        int rc;

        ERR_clear_error();
        rc = SSL_read(c->ssl, c->in.data + c->in.len, (int)max);
        if (rc <= 0) {
            return tls_result(c, rc);
        }
        n = rc;
    } else {
        n = recv(c->watch.fd, c->in.data + c->in.len, max, 0);
        if (n <= 0) {
            return n == 0 ? IO_EOF : errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_ERROR;
        }
    }
    c->in.len += (size_t)n;
    return IO_OK;
}

mock_io_t mock_io_write(mock_conn_t *c, const char *data, size_t len, size_t *written)
{
    ssize_t n;

    *written = 0;
    if (c->ssl) {
        int rc;

        ERR_clear_error();
        rc = SSL_write(c->ssl, data, len > 0x1000000 ? 0x1000000 : (int)len);
        if (rc <= 0) {
            return tls_result(c, rc);
        }
        n = rc;
    } else {
        n = send(c->watch.fd, data, len, MSG_NOSIGNAL);
        if (n < 0) {
            c->want |= EPOLLOUT;
            return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_ERROR;
        }
    }
    *written = (size_t)n;
    return IO_OK;
}

void mock_io_close(mock_conn_t *c, bool reset, bool clean)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    if (c->ssl) {
        if (clean && !reset) {
            SSL_shutdown(c->ssl);
        }
        SSL_free(c->ssl);
        c->ssl = NULL;
        ERR_clear_error();
    }
    if (reset) {
        setsockopt(c->watch.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    }
    mock_loop_unwatch(&c->watch);
    close(c->watch.fd);
    c->watch.fd = -1;
}
