/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared types of the programmable mock upstream (README.md tells what it does and how to script
 * it). One process, one thread, one epoll loop: nothing here is thread-safe and nothing needs to
 * be. Memory that runs out ends the process: a mock that limps on would make tests lie.
 */
#ifndef MOCK_H
#define MOCK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem, accept4 */
#endif

#include <jansson.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- util.c: growable byte buffer, checked allocation ---- */

typedef struct {
    char *data;
    size_t len;
    size_t cap;
} mock_buf_t;

void *mock_alloc(size_t size); /* zeroed */
void *mock_realloc(void *p, size_t size);
void mock_buf_reserve(mock_buf_t *b, size_t extra);
void mock_buf_add(mock_buf_t *b, const void *data, size_t len);
void mock_buf_str(mock_buf_t *b, const char *s);
void mock_buf_printf(mock_buf_t *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mock_buf_consume(mock_buf_t *b, size_t n); /* drops the first n bytes */
void mock_buf_free(mock_buf_t *b);
void mock_buf_base64(mock_buf_t *b, const void *data, size_t len);
bool mock_base64_decode(mock_buf_t *b, const char *text, size_t len);
uint64_t mock_fnv1a64(const void *data, size_t len);
bool mock_parse_long(const char *s, long min, long max, long *out); /* whole string, decimal */

/* ---- loop.c: epoll, timers ---- */

typedef struct mock_watch_s {
    void (*on_event)(struct mock_watch_s *w, uint32_t events);
    int fd;
    uint32_t events;
} mock_watch_t;

typedef struct mock_timer_s {
    void (*on_fire)(struct mock_timer_s *t);
    int64_t due_us;
    size_t slot; /* place in the heap + 1, 0 = not armed */
} mock_timer_t;

void mock_loop_init(void);
void mock_loop_watch(mock_watch_t *w,
                     uint32_t events); /* add, change or (0 for the first time) add idle */
void mock_loop_unwatch(mock_watch_t *w);
void mock_loop_run(void (*after_each_turn)(void)); /* until SIGTERM or SIGINT */
int64_t mock_now_us(void);                         /* monotonic, of the current turn */
int64_t mock_wall_ms(void);
void mock_timer_set(mock_timer_t *t, int64_t ms);
void mock_timer_cancel(mock_timer_t *t);

/* ---- http.c: strict HTTP/1.1 request parser, no I/O ---- */

typedef enum { MOCK_HTTP_MORE, MOCK_HTTP_DONE, MOCK_HTTP_BAD } mock_http_rc_t;

typedef struct {
    size_t method_len; /* the method starts at offset 0 of the head */
    size_t target_off;
    size_t target_len;
    size_t head_len; /* with the empty line */
    size_t length;   /* Content-Length, 0 when absent */
    bool has_length;
    bool chunked;
    bool keep_alive;
    bool expect;
} mock_head_t;

typedef struct {
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER } state;
    size_t left;
} mock_chunks_t;

typedef struct {
    const char *p;
    size_t len;
} mock_slice_t;

/* `scanned` remembers how far an incomplete head was searched, set it to 0 for a new request. */
mock_http_rc_t mock_http_head(const char *data, size_t len, size_t *scanned, mock_head_t *h,
                              const char **why);
mock_http_rc_t mock_http_chunks(mock_chunks_t *c, const char *data, size_t len, size_t *used,
                                mock_buf_t *out, const char **why);
/* Walks the header lines: start with *pos = 0; false at the end. */
bool mock_http_header_next(const char *head, size_t head_len, size_t *pos, mock_slice_t *name,
                           mock_slice_t *value);
long mock_query_long(mock_slice_t target, const char *name, long fallback);
mock_slice_t mock_query_value(mock_slice_t target, const char *name);
mock_slice_t mock_target_path(mock_slice_t target); /* without the query */

/* ---- scan.c: the few members of a chat body that the mock answers by ---- */

typedef struct {
    mock_slice_t model; /* inside of the JSON string, still escaped; len 0 when absent */
    bool stream;
    bool include_usage;
} mock_chat_t;

void mock_scan_chat(const char *body, size_t len, mock_chat_t *chat);

/* ---- listener and counters (main.c, record.c) ---- */

typedef enum {
    MOCK_EV_OPENED,
    MOCK_EV_CLOSED,
    MOCK_EV_HEAD,
    MOCK_EV_REQUEST,
    MOCK_EV_ANSWERED,
    MOCK_EV_EARLY_CLOSE,
    MOCK_EV_N
} mock_event_t;

typedef struct mock_listener_s {
    mock_watch_t watch;
    struct mock_listener_s *next;
    const char *name;
    int port;
    int rcvbuf; /* 0 = system default */
    bool tls;
    bool control;
    long open; /* connections open now */
    unsigned long count[MOCK_EV_N];
} mock_listener_t;

extern mock_listener_t *mock_listeners;
extern SSL_CTX *mock_tls_ctx;

mock_listener_t *mock_listener_find(int port);
bool mock_listener_open(mock_listener_t *l, const char **why); /* picks the port when it is 0 */
void mock_listener_close(mock_listener_t *l);
bool mock_blackhole_open(int port,
                         int *chosen); /* SYNs are dropped: its backlog is full for good */

/* ---- behave.c: scripted behaviours ---- */

typedef struct {
    json_t *root; /* owns everything below */
    int refs;
    long status; /* 0 = 200 */
    json_t *reason;
    json_t *headers; /* array of [name, value] */
    json_t *body;
    json_t *content_type; /* string, or null for none */
    json_t *content;      /* text of the assistant */
    json_t *model;
    json_t *usage; /* object, or null for none */
    json_t *interim;
    json_t *raw;
    json_t *raw_base64;
    mock_buf_t raw_bytes; /* raw or raw_base64, decoded; used when has_raw */
    bool has_raw;
    long body_size;
    long delay_ms;
    long head_delay_ms;
    long cut_after_bytes; /* -1 = off, as the next ones */
    long stall_after_bytes;
    long keepalive_limit;
    long silent_close_ms;
    long error_event;
    json_t *no_read; /* true, or milliseconds */
    bool chunked;
    bool until_close;
    bool no_framing;
    bool reset;
    bool drop_before_head;
    bool hang;
    bool hang_after_head;
    bool close;
    bool early;
    bool echo;
    bool accept_close;
    bool accept_hang;
    json_t *stream; /* present: an SSE stream whatever the request asked for */
    json_t *stream_events;
    json_t *stream_end; /* done | none | cut */
    long stream_auto;
    long stream_interval_ms;
    long stream_split_bytes;
    bool stream_crlf;
    json_t *trickle;
    long trickle_bytes;
    long trickle_interval_ms;
    bool trickle_head;
    bool trickle_forever;
    json_t *slow_read;
    long slow_read_bytes;
    long slow_read_interval_ms;
} mock_do_t;

extern const mock_do_t mock_do_default;

/* Takes one behaviour object or an array of them; on failure `why` says what is wrong, nothing is
 * queued. */
bool mock_behave_add(json_t *spec, char *why, size_t why_size);
void mock_behave_reset(void);
size_t mock_behave_left(void);
/* Both return a reference (mock_do_release) or NULL. `model` NULL: rows that name a model do not
 * match. */
mock_do_t *mock_behave_match(int port, mock_slice_t path, const mock_slice_t *model,
                             mock_slice_t head, unsigned conn_request);
mock_do_t *mock_behave_match_accept(int port);
mock_do_t *mock_behave_by_model(mock_slice_t model); /* "mock-..." */
void mock_do_release(mock_do_t *d);

/* ---- plan.c: what is sent when, as a list of steps that a connection carries out ---- */

typedef enum {
    STEP_SEND,
    STEP_WAIT,
    STEP_HANG,
    STEP_CLOSE,
    STEP_RESET,
    STEP_REPEAT
} mock_step_kind_t;

typedef struct {
    mock_step_kind_t kind;
    size_t a; /* SEND: offset in out; WAIT: ms; REPEAT: index of the step to go back to */
    size_t len;
} mock_step_t;

typedef struct {
    mock_buf_t out;
    mock_step_t *steps;
    size_t n;
    size_t cap;
    size_t at;   /* current step */
    size_t sent; /* bytes of the current SEND that are out */
} mock_plan_t;

void mock_plan_reset(mock_plan_t *p);
void mock_plan_free(mock_plan_t *p);
void mock_plan_send(mock_plan_t *p, const void *data, size_t len); /* joins with a SEND before it */
void mock_plan_wait(mock_plan_t *p, long ms);                      /* nothing for 0 */
void mock_plan_step(mock_plan_t *p, mock_step_kind_t kind, size_t a);

/* ---- answer.c, openai.c, embed.c: from request and behaviour to a plan ---- */

typedef struct {
    const mock_listener_t *listener;
    const char *head;
    size_t head_len;
    mock_slice_t method;
    mock_slice_t target;
    mock_slice_t body;
    mock_chat_t chat;
    uint64_t seq;
    unsigned conn_request; /* 1 = first request of its connection */
    bool keep_alive;
} mock_request_t;

/* A body in the making: its bytes and the places where the sender pauses or begins a new chunk. */
typedef struct {
    mock_buf_t bytes;
    struct mock_piece_s {
        size_t end;
        long wait_ms; /* after this piece */
    } * pieces;
    size_t n;
    size_t cap;
    const char *content_type;
    long status;
} mock_body_t;

void mock_body_piece(mock_body_t *b,
                     long wait_ms); /* everything since the last piece becomes one */
void mock_answer_build(mock_plan_t *plan, const mock_request_t *q, const mock_do_t *d);
void mock_answer_json(mock_plan_t *plan, long status, json_t *body,
                      bool keep_alive); /* takes body */
json_t *mock_request_json(const char *head, size_t head_len,
                          mock_slice_t body); /* method, path ... */

void mock_openai_chat(mock_body_t *b, const mock_request_t *q, const mock_do_t *d);
void mock_openai_stream(mock_body_t *b, const mock_request_t *q, const mock_do_t *d);
void mock_openai_models(mock_body_t *b);
void mock_openai_error(mock_body_t *b, long status, const char *message);
void mock_embed_answer(mock_body_t *b, const mock_request_t *q);
/* Milliseconds before the answer that a "stub-..." model asks for; -1 = never answer. */
long mock_embed_delay(mock_slice_t model);

/* ---- vectors.c, vectors_table.c: fixed vectors, no model ---- */

typedef struct {
    const char *topic; /* name of a topic, "*" = the same distance from every topic */
    double distance;   /* cosine distance from the topic's axis */
    const char *text;
} mock_vector_row_t;

extern const char *const mock_topics[]; /* index = axis */
extern const size_t mock_topics_n;
extern const mock_vector_row_t mock_vector_rows[];
extern const size_t mock_vector_rows_n;

void mock_vectors_init(void);
/* Fills v[dims], unit length. The same text and dims always give the same vector, on every machine.
 */
void mock_vector_of(const char *text, size_t len, float *v, size_t dims);

/* ---- record.c: what was received, counters, waiters ---- */

typedef struct {
    uint64_t seq;
    const mock_listener_t *listener;
    uint64_t conn_id;
    unsigned conn_request;
    int64_t wall_ms;
    int64_t head_us;
    char *data; /* head, then body */
    size_t head_len;
    size_t body_len;
    const char *malformed; /* static text or NULL */
    bool complete;
    bool answered;
    bool closed_early;
    int64_t closed_after_us;
    int64_t answered_after_us;
} mock_record_t;

extern unsigned long mock_record_limit; /* records kept; 0 = count only */

/* Returns the sequence number (from 1); find() returns NULL for what was dropped or never kept. */
uint64_t mock_record_add(const mock_listener_t *l, uint64_t conn_id, unsigned conn_request,
                         mock_slice_t head);
mock_record_t *mock_record_find(uint64_t seq);
void mock_record_body(uint64_t seq, mock_slice_t body, bool complete);
void mock_record_reset(void);
json_t *mock_record_list(int port, uint64_t after);
json_t *mock_record_counts(void);
json_t *mock_record_connections(void);
void mock_event_count(mock_listener_t *l, mock_event_t ev);
extern const char *const mock_event_names[MOCK_EV_N];
extern bool mock_events_dirty; /* an event was counted since the waiters were last looked at */

/* ---- conn.c, serve.c, io.c: connections ---- */

typedef enum {
    CONN_HANDSHAKE,
    CONN_READ_HEAD,
    CONN_READ_BODY,
    CONN_STALLED, /* behaviour says not to read */
    CONN_ANSWER,
    CONN_WAITING, /* control long-poll */
    CONN_LINGER,  /* write side shut, rest of the input is thrown away */
    CONN_DEAD
} mock_conn_state_t;

typedef struct mock_conn_s {
    mock_watch_t watch; /* first member: the callbacks cast back */
    mock_timer_t timer;
    mock_listener_t *listener;
    struct mock_conn_s *prev;
    struct mock_conn_s *next;
    SSL *ssl;
    mock_conn_state_t state;
    uint64_t id;
    unsigned requests;
    uint64_t rec; /* sequence number of the current request's record, 0 = none */
    mock_buf_t in;
    size_t scanned;
    mock_head_t head;
    mock_chunks_t chunks;
    size_t chunks_at; /* how much of `in` the chunk decoder has used */
    mock_buf_t chunk_body;
    mock_do_t *act;
    mock_plan_t plan;
    uint32_t want;     /* EPOLLIN | EPOLLOUT as the state wants them */
    bool body_pending; /* `early`: the answer goes first, the body is read after it */
    bool control;
    bool eof;
    struct {
        mock_event_t event;
        int port;
        unsigned long count;
    } wait;
} mock_conn_t;

typedef enum { IO_OK, IO_AGAIN, IO_EOF, IO_ERROR } mock_io_t;

mock_io_t mock_io_handshake(mock_conn_t *c);
mock_io_t mock_io_read(mock_conn_t *c, size_t max); /* appends to c->in */
mock_io_t mock_io_write(mock_conn_t *c, const char *data, size_t len, size_t *written);
void mock_io_close(mock_conn_t *c, bool reset, bool clean);

extern unsigned mock_conn_waiting; /* connections in CONN_WAITING */
void mock_conn_accept(mock_watch_t *w, uint32_t events);
void mock_conn_want(mock_conn_t *c); /* c->want goes to the event loop */
void mock_conn_kill(mock_conn_t *c, bool reset, bool clean);
void mock_conn_gone(mock_conn_t *c); /* the client closed, or the socket failed */
void mock_conn_close_idle(int port, bool reset, bool all);
void mock_conn_turn_end(void); /* frees dead connections, answers waiters */

mock_slice_t mock_serve_body(const mock_conn_t *c); /* as far as it is here */
void mock_serve_next(mock_conn_t *c);               /* ready for the next request */
void mock_serve_progress(mock_conn_t *c);           /* goes as far as the bytes at hand allow */
void mock_serve_plan(mock_conn_t *c);               /* goes on with c->plan */
void mock_serve_answer(mock_conn_t *c);             /* carries out c->plan from its start */

/* ---- control.c ---- */

bool mock_control_is(mock_slice_t path);
void mock_control_handle(mock_conn_t *c, const mock_request_t *q);
bool mock_control_wait_done(
    mock_conn_t *c); /* builds the answer when the awaited count is reached */
void mock_control_wait_timeout(mock_conn_t *c);

#endif
