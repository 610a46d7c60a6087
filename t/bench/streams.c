/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of many event streams at once, for t/bench/compare: opens N connections, posts the same
 * chat on each and reads until every stream has ended. A stream is right when its status is 200,
 * its numbered pieces come in order and without a gap, [DONE] follows and the message ends
 * properly. One thread, epoll.
 *
 *   streams --port P --path /x --streams N --events E --body FILE [--header "Name: value"]
 *           [--timeout SECONDS]
 *
 * Prints "open" as soon as every stream has had its first piece, then
 * FIGURES right wrong first_p50_us first_p99_us last_us, then up to five lines that say what was
 * wrong. Exit status 2 when it could not measure.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define CONNECTING_MAX 256 /* under way at once: a listen queue is not what is measured */

typedef enum { PART_HEAD, PART_SIZE, PART_DATA, PART_DATA_END, PART_TRAILER, PART_PLAIN } part_t;

typedef struct {
    int fd;
    part_t part;
    bool connected;
    bool chunked;
    bool done_seen;
    bool ended;
    long status;
    size_t left; /* of the chunk */
    size_t sent;
    long next; /* number of the piece that has to come */
    int64_t begin_us;
    int64_t first_us;
    size_t line_len; /* of a head or chunk line */
    size_t event_len;
    const char *wrong;
    char line[LINE_MAX_BYTES];
    char event[LINE_MAX_BYTES];
} stream_t;

static struct {
    int port;
    const char *path;
    size_t n;
    long events;
    const char *body_file;
    long timeout;
    char headers[8192];
} opt = {.path = "/", .timeout = 60};

static stream_t *streams;
static char *request;
static size_t request_len;
static int poller;
static size_t opened;
static size_t connecting;
static size_t started; /* had their first piece */
static size_t over;

static void fail(const char *what)
{
    fprintf(stderr, "streams: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void finish(stream_t *s, const char *wrong)
{
    if (!wrong && s->status != 200) {
        wrong = "the status is not 200";
    } else if (!wrong && s->next != opt.events) {
        wrong = "events are missing";
    } else if (!wrong && !s->done_seen) {
        wrong = "no [DONE]";
    }
    s->wrong = wrong;
    s->ended = true;
    connecting -= !s->connected;
    close(s->fd);
    over++;
}

/* One line of the event stream, without its end. False: the stream is wrong. */
static bool event_line(stream_t *s)
{
    static const char member[] = "\"content\":";
    const char *at;

    s->event[s->event_len] = '\0';
    if (strncmp(s->event, "data:", 5) != 0) {
        return true;
    }
    if (strstr(s->event, "[DONE]")) {
        s->done_seen = true;
        return true;
    }
    at = strstr(s->event, member);
    if (!at) {
        return true;
    }
    at += sizeof(member) - 1;
    at += strspn(at, " ");
    if (*at++ != '"' || *at < '0' || *at > '9') {
        return true; /* the role, or a piece without text */
    }
    if (s->done_seen || strtol(at, NULL, 10) != s->next) {
        return false;
    }
    if (s->next++ == 0) {
        s->first_us = now_us() - s->begin_us;
        if (++started == opt.n) {
            puts("open");
            fflush(stdout);
        }
    }
    return true;
}

/* Data of the stream. False: it is wrong. */
static bool take_data(stream_t *s, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') {
            if (!event_line(s)) {
                return false;
            }
            s->event_len = 0;
        } else if (p[i] != '\r' && s->event_len < LINE_MAX_BYTES - 1) {
            s->event[s->event_len++] = p[i];
        }
    }
    return true;
}

/* A line of the head, of chunk sizes or trailers is complete. True: the message is at its end. */
static bool framing_line(stream_t *s)
{
    static const char coding[] = "transfer-encoding: chunked";

    s->line[s->line_len] = '\0';
    switch (s->part) {
    case PART_HEAD:
        if (!strncmp(s->line, "HTTP/1.", 7) && s->line_len > 9) {
            s->status = strtol(s->line + 9, NULL, 10);
        } else if (!strncasecmp(s->line, coding, sizeof(coding) - 1)) {
            s->chunked = true;
        } else if (!s->line_len) {
            s->part = s->chunked ? PART_SIZE : PART_PLAIN;
        }
        break;
    case PART_SIZE:
        s->left = strtoul(s->line, NULL, 16);
        s->part = s->left ? PART_DATA : PART_TRAILER;
        break;
    case PART_DATA_END:
        s->part = PART_SIZE;
        break;
    case PART_TRAILER:
        return !s->line_len;
    case PART_DATA:
    case PART_PLAIN:
        break;
    }
    s->line_len = 0;
    return false;
}

static void take(stream_t *s, const char *p, size_t n)
{
    while (n) {
        if (s->part == PART_DATA || s->part == PART_PLAIN) {
            size_t here = s->part == PART_DATA && s->left < n ? s->left : n;

            if (!take_data(s, p, here)) {
                finish(s, "an event out of order");
                return;
            }
            p += here;
            n -= here;
            if (s->part == PART_DATA && !(s->left -= here)) {
                s->part = PART_DATA_END;
            }
            continue;
        }
        n--;
        if (*p == '\n') {
            if (framing_line(s)) {
                finish(s, NULL);
                return;
            }
        } else if (*p != '\r' && s->line_len < LINE_MAX_BYTES - 1) {
            s->line[s->line_len++] = *p;
        }
        p++;
    }
}

static void readable(stream_t *s)
{
    static char bytes[65536];

    while (!s->ended) {
        ssize_t n = recv(s->fd, bytes, sizeof(bytes), 0);

        if (n > 0) {
            take(s, bytes, (size_t)n);
        } else if (n == 0) {
            finish(s, s->part == PART_PLAIN ? NULL : "closed before its end");
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            finish(s, "the connection broke");
        }
    }
}

static void writable(stream_t *s)
{
    struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = s}};

    if (!s->connected) {
        int error = 0;
        socklen_t len = sizeof(error);

        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            finish(s, "no connection");
            return;
        }
        s->connected = true;
        connecting--;
    }
    while (s->sent < request_len) {
        ssize_t n = send(s->fd, request + s->sent, request_len - s->sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            finish(s, "the request could not be sent");
            return;
        }
        s->sent += (size_t)n;
    }
    if (epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &ev)) {
        fail("epoll_ctl");
    }
}

static void open_one(stream_t *s)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data = {.ptr = s}};
    int on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        fail("socket");
    }
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    s->begin_us = now_us();
    connecting++;
    opened++;
    if (connect(s->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS) {
        finish(s, "no connection");
    } else if (epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &ev)) {
        fail("epoll_ctl");
    }
}

static void run(void)
{
    int64_t deadline = now_us() + opt.timeout * 1000000;
    struct epoll_event got[512];

    while (over < opt.n && now_us() < deadline) {
        int n;

        while (opened < opt.n && connecting < CONNECTING_MAX) {
            open_one(&streams[opened]);
        }
        n = epoll_wait(poller, got, 512, 100);
        for (int i = 0; i < n; i++) {
            stream_t *s = got[i].data.ptr;

            if (!s->ended && (!s->connected || s->sent < request_len)) {
                writable(s);
            }
            if (!s->ended && s->connected && (got[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
                readable(s);
            }
        }
    }
    for (size_t i = 0; i < opened; i++) {
        if (!streams[i].ended) {
            finish(&streams[i], "not ended in time");
        }
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void report(int64_t begin)
{
    int64_t *first = calloc(opt.n, sizeof(*first));
    size_t n = 0;
    size_t right = 0;
    int said = 0;

    if (!first) {
        fail("memory");
    }
    for (size_t i = 0; i < opt.n; i++) {
        right += streams[i].ended && !streams[i].wrong;
        if (streams[i].first_us) {
            first[n++] = streams[i].first_us;
        }
    }
    qsort(first, n, sizeof(*first), by_value);
    printf("FIGURES %zu %zu %lld %lld %lld\n", right, opt.n - right,
           n ? (long long)first[n / 2] : 0LL, n ? (long long)first[n * 99 / 100] : 0LL,
           (long long)(now_us() - begin));
    for (size_t i = 0; i < opt.n && said < 5; i++) {
        if (streams[i].wrong) {
            printf("stream %zu: %s (status %ld, %ld events)\n", i, streams[i].wrong,
                   streams[i].status, streams[i].next);
            said++;
        }
    }
    free(first);
}

static void make_request(void)
{
    FILE *f = fopen(opt.body_file, "rb");
    char *body = malloc(1 << 20);
    size_t len;
    int head;

    request = malloc((1 << 20) + 16384);
    if (!f || !body || !request) {
        fail(opt.body_file);
    }
    len = fread(body, 1, 1 << 20, f);
    fclose(f);
    head = snprintf(request, 16384,
                    "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                    "Content-Length: %zu\r\n%s\r\n",
                    opt.path, opt.port, len, opt.headers);
    memcpy(request + head, body, len);
    request_len = (size_t)head + len;
    free(body);
}

static void add_header(const char *line)
{
    size_t len = strlen(opt.headers);

    snprintf(opt.headers + len, sizeof(opt.headers) - len, "%s\r\n", line);
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {{"port", 1, NULL, 'p'},    {"path", 1, NULL, 'u'},
                                          {"streams", 1, NULL, 'n'}, {"events", 1, NULL, 'e'},
                                          {"body", 1, NULL, 'b'},    {"header", 1, NULL, 'h'},
                                          {"timeout", 1, NULL, 't'}, {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'p':
            opt.port = (int)strtol(optarg, NULL, 10);
            break;
        case 'u':
            opt.path = optarg;
            break;
        case 'n':
            opt.n = strtoul(optarg, NULL, 10);
            break;
        case 'e':
            opt.events = strtol(optarg, NULL, 10);
            break;
        case 'b':
            opt.body_file = optarg;
            break;
        case 'h':
            add_header(optarg);
            break;
        case 't':
            opt.timeout = strtol(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    int64_t begin;

    read_options(argc, argv);
    if (opt.port <= 0 || !opt.n || opt.events <= 0 || !opt.body_file) {
        fprintf(stderr, "streams: --port, --streams, --events and --body are needed\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < opt.n + 16) {
        fprintf(stderr, "streams: %zu streams need more open files than are allowed (ulimit -n)\n",
                opt.n);
        return 2;
    }
    make_request();
    streams = calloc(opt.n, sizeof(*streams));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!streams || poller < 0) {
        fail("start");
    }
    begin = now_us();
    run();
    report(begin);
    return 0;
}
