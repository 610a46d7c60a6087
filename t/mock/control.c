/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control interface below /__mock/ (README.md lists it): scripting, records, counters, waiting
 * for events, closing connections and ports. Called by serve.c; its requests are neither recorded
 * nor counted.
 */
#include "mock.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define PREFIX "/__mock/"

typedef struct {
    const char *method;
    const char *name;
    json_t *(*handle)(const mock_request_t *q, json_t *body, long *status);
} route_t;

bool mock_control_is(mock_slice_t path)
{
    return path.len >= strlen(PREFIX) && !memcmp(path.p, PREFIX, strlen(PREFIX));
}

static json_t *failure(long *status, const char *why)
{
    *status = 400;
    return json_pack("{s:s}", "error", why);
}

static json_t *success(void)
{
    return json_pack("{s:b}", "ok", 1);
}

static int query_port(const mock_request_t *q)
{
    long port = mock_query_long(q->target, "port", 0);

    return port > 0 && port < 65536 ? (int)port : 0;
}

static json_t *do_behave(const mock_request_t *q, json_t *body, long *status)
{
    char why[256] = "the body is not JSON";

    (void)q;
    return body && mock_behave_add(body, why, sizeof(why)) ? success() : failure(status, why);
}

static json_t *do_reset(const mock_request_t *q, json_t *body, long *status)
{
    (void)q;
    (void)body;
    (void)status;
    mock_behave_reset();
    mock_record_reset();
    return success();
}

static json_t *do_requests(const mock_request_t *q, json_t *body, long *status)
{
    long after = mock_query_long(q->target, "after", 0);

    (void)body;
    (void)status;
    return mock_record_list(query_port(q), after > 0 ? (uint64_t)after : 0);
}

static json_t *do_count(const mock_request_t *q, json_t *body, long *status)
{
    (void)q;
    (void)body;
    (void)status;
    return mock_record_counts();
}

static json_t *do_connections(const mock_request_t *q, json_t *body, long *status)
{
    (void)q;
    (void)body;
    (void)status;
    return mock_record_connections();
}

static json_t *do_close(const mock_request_t *q, json_t *body, long *status)
{
    int port = 0;
    int reset = 0;
    int all = 0;
    json_error_t err;

    (void)q;
    if (json_unpack_ex(body, &err, JSON_STRICT, "{s?i,s?b,s?b}", "port", &port, "reset", &reset,
                       "all", &all)) {
        return failure(status, err.text);
    }
    mock_conn_close_idle(port, reset, all);
    return success();
}

static json_t *do_port(const mock_request_t *q, json_t *body, long *status)
{
    int port;
    int on;
    const char *why = NULL;
    json_error_t err;
    mock_listener_t *l;

    (void)q;
    if (json_unpack_ex(body, &err, JSON_STRICT, "{s:i,s:b}", "port", &port, "listen", &on)) {
        return failure(status, err.text);
    }
    l = mock_listener_find(port);
    if (!l || l->control) {
        return failure(status, "not a port that can be closed");
    }
    if (!on) {
        mock_listener_close(l);
    } else if (!mock_listener_open(l, &why)) {
        return failure(status, why);
    }
    return success();
}

static const route_t routes[] = {
    {"POST", "behave", do_behave},    {"POST", "reset", do_reset},
    {"GET", "requests", do_requests}, {"GET", "count", do_count},
    {"POST", "close", do_close},      {"GET", "connections", do_connections},
    {"POST", "port", do_port},
};

static bool slice_eq(mock_slice_t s, const char *word)
{
    return s.len == strlen(word) && !memcmp(s.p, word, s.len);
}

static unsigned long event_total(mock_event_t ev, int port)
{
    unsigned long n = 0;

    for (const mock_listener_t *l = mock_listeners; l; l = l->next) {
        if (!l->control && (!port || l->port == port)) {
            n += l->count[ev];
        }
    }
    return n;
}

static void wait_answer(mock_conn_t *c, long status)
{
    json_t *o = json_pack("{s:b,s:I}", "ok", status == 200, "count",
                          (json_int_t)event_total(c->wait.event, c->wait.port));

    mock_answer_json(&c->plan, status, o, true);
}

bool mock_control_wait_done(mock_conn_t *c)
{
    if (event_total(c->wait.event, c->wait.port) < c->wait.count) {
        return false;
    }
    wait_answer(c, 200);
    return true;
}

void mock_control_wait_timeout(mock_conn_t *c)
{
    wait_answer(c, 504);
}

/* Long poll: answered when the event was counted so often since the reset, or with 504 when the
 * time is up. */
static void start_wait(mock_conn_t *c, const mock_request_t *q)
{
    mock_slice_t name = mock_query_value(q->target, "event");
    long count = mock_query_long(q->target, "count", 1);
    long timeout = mock_query_long(q->target, "timeout_ms", 5000);
    int ev = 0;
    long status;

    while (ev < MOCK_EV_N && !slice_eq(name, mock_event_names[ev])) {
        ev++;
    }
    if (ev == MOCK_EV_N || count < 0 || timeout < 0) {
        json_t *o = failure(&status, "event must be opened, closed, head, request, answered or "
                                     "early_close; count and timeout_ms not negative");

        mock_answer_json(&c->plan, 400, o, q->keep_alive);
        return;
    }
    c->wait.event = (mock_event_t)ev;
    c->wait.count = (unsigned long)count;
    c->wait.port = query_port(q);
    if (!mock_control_wait_done(c)) {
        c->state = CONN_WAITING;
        c->want = EPOLLIN;
        mock_timer_set(&c->timer, timeout);
    }
}

void mock_control_handle(mock_conn_t *c, const mock_request_t *q)
{
    mock_slice_t path = mock_target_path(q->target);
    long status = 200;
    json_t *answer = NULL;
    json_t *body;

    path.p += path.len < strlen(PREFIX) ? path.len : strlen(PREFIX);
    path.len -= path.len < strlen(PREFIX) ? path.len : strlen(PREFIX);
    if (slice_eq(path, "wait") && slice_eq(q->method, "GET")) {
        start_wait(c, q);
        return;
    }
    body = q->body.len ? json_loadb(q->body.p, q->body.len, JSON_ALLOW_NUL, NULL) : json_object();
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]) && !answer; i++) {
        if (slice_eq(path, routes[i].name) && slice_eq(q->method, routes[i].method)) {
            answer = routes[i].handle(q, body, &status);
        }
    }
    if (!answer) {
        answer = failure(&status, "no such control path or method");
        status = 404;
    }
    json_decref(body);
    mock_answer_json(&c->plan, status, answer, q->keep_alive);
}
