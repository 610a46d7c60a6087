/* SPDX-License-Identifier: Apache-2.0 */
/* What the HTTP/1.1 exchange makes of responses: framing, refusals, limits of size. Each response
 * is fed whole, byte by byte and in random pieces, and must come to the same. Time, writes and the
 * sink: test_http1_course.c. */

#include "http1_peer.h"

/* responses */

typedef struct response_row_t {
    const char *name;
    aip_span_t text;
    op_e end; /* what comes after the text: OP_NONE (kept open), OP_EOF, OP_RESET */
    aip_outcome_e outcome;
    int status; /* 0: on_head is not called */
    bool reusable;
    apr_off_t length;
    const char *body;
    bool whole_only; /* bytes after the end are seen only when they come with the last read */
} response_row_t;

/* clang-format off */
#define S(s) {(s), sizeof(s) - 1}
#define REFUSED(name, text) {name, S(text), OP_NONE, BAD, 0, false, 0, "", false}
#define GOOD(name, text, length, body) {name, S(text), OP_NONE, OK, 200, true, length, body, false}
#define CHUNKS(name, text, body) {name, S(CHUNKED text), OP_NONE, OK, 200, true, -1, body, false}
#define BADCHUNK(name, s, body) {name, S(CHUNKED s), OP_NONE, CUT, 200, false, -1, body, false}

static const response_row_t responses[] = {
    GOOD("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 5, "hello"),
    GOOD("length 0", "HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 0, ""),
    GOOD("no reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nab", 2, "ab"),
    GOOD("no reason, no space", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab", 2, "ab"),
    GOOD("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nab", 2, "ab"),
    GOOD("bytes above 0x7f", "HTTP/1.1 200 \xc3\xa9\r\nX: \xff\r\nContent-Length: 2\r\n\r\nab", 2,
         "ab"),
    GOOD("equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", 2,
         "ab"),
    GOOD("space after a length", "HTTP/1.1 200 OK\r\nContent-Length: 2 \t\r\n\r\nab", 2, "ab"),
    GOOD("space before a length", "HTTP/1.1 200 OK\r\nContent-Length: \t 2\r\n\r\nab", 2, "ab"),
    GOOD("empty value", "HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\n\r\nab", 2, "ab"),
    GOOD("1xx",
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n"
         "Content-Length: 9\r\n\r\n" "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 2, "ab"),
    GOOD("8 times 1xx",
         "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
         "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 2, "ab"),
    REFUSED("9 times 1xx",
            "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n"
            "\r\n"
            "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n"
            "\r\n" "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    REFUSED("101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    {"204", S("HTTP/1.1 204 No Content\r\n\r\n"), OP_NONE, OK, 204, true, 0, "", false},
    {"204, length 0", S("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"), OP_NONE, OK, 204,
     true, 0, "", false},
    {"204 with a length", S("HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n"), OP_NONE, OK, 204, false,
     0, "", false},
    {"204 with a body", S("HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\nab"), OP_NONE, OK, 204, false,
     0, "", true},
    {"204 chunked", S("HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n"), OP_NONE, OK, 204,
     false, 0, "", false},
    {"304 with a length", S("HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n"), OP_NONE, OK, 304, true,
     0, "", false},
    {"close", S("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"), OP_NONE, OK,
     200, false, 2, "ab", false},
    {"close in a list",
     S("HTTP/1.1 200 OK\r\nConnection: x ,\tCLOSE\r\nContent-Length: 2\r\n\r\nab"), OP_NONE, OK,
     200, false, 2, "ab", false},
    {"close in a second field",
     S("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\n"
     "Content-Length: 2\r\n\r\nab"), OP_NONE, OK, 200, false, 2, "ab", false},
    {"close as part of a word",
     S("HTTP/1.1 200 OK\r\nConnection: closed, enclose\r\nContent-Length: 2\r\n\r\nab"), OP_NONE,
     OK, 200, true, 2, "ab", false},
    {"1.0", S("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab"), OP_NONE, OK, 200, false, 2, "ab",
     false},
    {"1.0 keep-alive",
     S("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nab"), OP_NONE, OK,
     200, true, 2, "ab", false},
    {"1.0 chunked",
     S("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
     "0\r\n\r\n"), OP_NONE, OK, 200, false, -1, "ab", false},
    {"until close", S("HTTP/1.1 200 OK\r\n\r\nabc"), OP_EOF, OK, 200, false, -1, "abc", false},
    {"until close, empty", S("HTTP/1.1 200 OK\r\n\r\n"), OP_EOF, OK, 200, false, -1, "", false},
    {"until close, reset", S("HTTP/1.1 200 OK\r\n\r\nabc"), OP_RESET, CUT, 200, false, -1, "abc",
     false},
    {"error status", S("HTTP/1.1 999 X\r\nContent-Length: 1\r\n\r\na"), OP_NONE, OK, 999, true, 1,
     "a", false},
    {"more after the end", S("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n"),
     OP_NONE, OK, 200, false, 2, "ab", true},
    {"more after the last chunk", S(CHUNKED "0\r\n\r\n\r\n"), OP_NONE, OK, 200, false, -1, "",
     true},

    {"closed at once", {"", 0}, OP_EOF, DROP, 0, false, 0, "", true},
    {"reset at once", {"", 0}, OP_RESET, DROP, 0, false, 0, "", true},
    {"closed in the status line", S("HTTP/1.1 2"), OP_EOF, DROP, 0, false, 0, "", false},
    {"closed in the fields", S("HTTP/1.1 200 OK\r\nContent-Le"), OP_EOF, DROP, 0, false, 0, "",
     false},
    {"closed before the empty line", S("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), OP_EOF, DROP, 0,
     false, 0, "", false},
    {"closed after 1xx", S("HTTP/1.1 100 Continue\r\n\r\n"), OP_EOF, DROP, 0, false, 0, "", false},
    {"reset in the fields", S("HTTP/1.1 200 OK\r\nContent-Le"), OP_RESET, DROP, 0, false, 0, "",
     false},
    {"garbage without a line, closed", S("\x15\x03\x03\x00\x02\x02\x46"), OP_EOF, BAD, 0, false, 0,
     "", false},
    REFUSED("garbage without a line, kept open", "\x15\x03\x03\x00\x02\x02\x46"),
    REFUSED("HTTP/0.9", "<html>hello</html>\n"),
    REFUSED("another protocol", "SSH-2.0-x\r\n"),
    REFUSED("empty line first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("HTTP/2", "HTTP/2 200\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("HTTP/1.10", "HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("lower case", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("status 99", "HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("status 099", "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("status 2000", "HTTP/1.1 2000 X\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("status 2x0", "HTTP/1.1 2x0 X\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("status -20", "HTTP/1.1 -20 X\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("no status", "HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("two spaces", "HTTP/1.1  200 X\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("tab", "HTTP/1.1\t200 X\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("NUL in the reason", "HTTP/1.1 200 a\0b\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("CR in the reason", "HTTP/1.1 200 a\rb\r\nContent-Length: 0\r\n\r\n"),

    REFUSED("no colon", "HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("no name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
    REFUSED("space in the name", "HTTP/1.1 200 OK\r\nX Y: 0\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("NUL in the name", "HTTP/1.1 200 OK\r\nX\0Y: 0\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("folded with a tab", "HTTP/1.1 200 OK\r\nX: a\r\n\tb: c\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("folded first", "HTTP/1.1 200 OK\r\n Content-Length: 0\r\n\r\n"),
    REFUSED("NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("CR in a value",
            "HTTP/1.1 200 OK\r\nX: a\rContent-Length: 9\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("CR CR LF", "HTTP/1.1 200 OK\r\nX: a\r\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("empty line with CR CR LF", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\r\n"),
    REFUSED("DEL in a value", "HTTP/1.1 200 OK\r\nX: a\x7f\r\nContent-Length: 0\r\n\r\n"),
    REFUSED("bad field in 1xx", "HTTP/1.1 100 Continue\r\nnonsense\r\n\r\n"),

    REFUSED("chunked and length",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    REFUSED("length and chunked",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    REFUSED("identity and length",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello"),
    REFUSED("two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    REFUSED("list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
    REFUSED("length +5", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    REFUSED("length -5", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
    REFUSED("length 0x5", "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello"),
    REFUSED("length 5 5", "HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello"),
    REFUSED("length 5.0", "HTTP/1.1 200 OK\r\nContent-Length: 5.0\r\n\r\nhello"),
    REFUSED("length empty", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello"),
    REFUSED("length 2^63", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nhello"),
    REFUSED("length 2^64 + 5",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
    REFUSED("chunked twice",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    REFUSED("chunked in two fields",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
            "0\r\n\r\n"),
    REFUSED("gzip, chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    REFUSED("gzip and chunked in two fields",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            "\r\n"),
    REFUSED("xchunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    REFUSED("chunked;x", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    REFUSED("encoding empty", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    REFUSED("vertical tab before chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n"),

    CHUNKS("chunks", "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", "abcde"),
    CHUNKS("no chunk", "0\r\n\r\n", ""),
    CHUNKS("chunks with bare LF", "2\nab\n0\n\n", "ab"),
    CHUNKS("hex digits", "A\r\n0123456789\r\nb\r\n0123456789a\r\n00\r\n\r\n",
           "01234567890123456789a"),
    CHUNKS("zeros", "00000000000000000002\r\nab\r\n0\r\n\r\n", "ab"),
    CHUNKS("extension", "2;ext=1\r\nab\r\n0;x\r\n\r\n", "ab"),
    CHUNKS("spaces after a size", "2 \t\r\nab\r\n0 ;x=\"y\"\r\n\r\n", "ab"),
    CHUNKS("trailers", "2\r\nab\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n", "ab"),
    GOOD("encoding in upper case",
         "HTTP/1.1 200 OK\r\nTRANSFER-ENCODING:  Chunked \r\n\r\n2\r\nab\r\n0\r\n\r\n", -1, "ab"),
    BADCHUNK("size zz", "zz\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size empty", "\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size -1", "-1\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size +1", "+1\r\na\r\n0\r\n\r\n", ""),
    BADCHUNK("size 0x5", "0x5\r\nhello\r\n0\r\n\r\n", ""),
    BADCHUNK("size with a space first", " 2\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size 2 2", "2 2\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size 2g", "2g\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size of 20 digits", "FFFFFFFFFFFFFFFFFFFF\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size 2^63", "8000000000000000\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("size 2^64 + 2", "10000000000000002\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("CR in an extension", "2;a\rb\r\nab\r\n0\r\n\r\n", ""),
    BADCHUNK("no end of line after a chunk", "2\r\nabc\r\n0\r\n\r\n", "ab"),
    BADCHUNK("nothing between chunks", "2\r\nab2\r\ncd\r\n0\r\n\r\n", "ab"),
    BADCHUNK("CR without LF after a chunk", "2\r\nab\r0\r\n\r\n", "ab"),
    BADCHUNK("CR CR LF after a chunk", "2\r\nab\r\r\n0\r\n\r\n", "ab"),
    BADCHUNK("bad second size", "2\r\nab\r\nzz", "ab"),
    BADCHUNK("bad trailer", "2\r\nab\r\n0\r\nnonsense\r\n\r\n", "ab"),
    {"closed in a body", S("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), OP_EOF, CUT, 200,
     false, 5, "hell", false},
    {"closed before the body", S("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), OP_EOF, CUT, 200,
     false, 5, "", false},
    {"reset in a body", S("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), OP_RESET, CUT, 200,
     false, 5, "hell", false},
    {"closed in a chunk", S(CHUNKED "5\r\nhell"), OP_EOF, CUT, 200, false, -1, "hell", false},
    {"closed between chunks", S(CHUNKED "2\r\nab\r\n"), OP_EOF, CUT, 200, false, -1, "ab", false},
    {"closed before the last line", S(CHUNKED "2\r\nab\r\n0\r\n"), OP_EOF, CUT, 200, false, -1,
     "ab", false},
    {"closed in a size", S(CHUNKED "2\r\nab\r\n0"), OP_EOF, CUT, 200, false, -1, "ab", false},
};
/* clang-format on */

static void check_response(const response_row_t *row, unsigned seed)
{
    peer_t p = {.in = {{OP_BYTES, row->text.data, row->text.len, 0}}, .seed = seed};
    seen_t s = {0};
    aip_http1_result_t r;

    p.in[row->text.len > 0 ? 1 : 0].op = row->end;
    r = run(&p, &s, &usual);
    ck_assert_msg(r.outcome == row->outcome, "%s (seed %u): outcome %s, expected %s", row->name,
                  seed, aip_outcome_name(r.outcome), aip_outcome_name(row->outcome));
    ck_assert_msg(r.reusable == row->reusable, "%s (seed %u): reusable %d", row->name, seed,
                  r.reusable);
    ck_assert_msg(s.status == row->status, "%s (seed %u): status %d", row->name, seed, s.status);
    ck_assert_msg(s.heads == 0 || s.length == row->length, "%s: length %ld", row->name,
                  (long)s.length);
    ck_assert_msg(
        s.body_len == strlen(row->body) && (!s.body || !memcmp(s.body, row->body, s.body_len)),
        "%s (seed %u): body '%.*s'", row->name, seed, (int)s.body_len, s.body ? s.body : "");
    ck_assert_msg(r.received <= row->text.len && (r.outcome != OK || r.received == row->text.len),
                  "%s (seed %u): %lu bytes received", row->name, seed, (unsigned long)r.received);
    ck_assert_msg(p.now == START, "%s (seed %u): waited", row->name, seed);
    ck_assert_uint_eq(r.written, REQUEST_LEN);
}

START_TEST(test_response)
{
    const response_row_t *row = &responses[_i];

    check_response(row, 0);
    for (unsigned seed = 1; seed < 40 && !row->whole_only; seed++) {
        check_response(row, seed);
    }
}
END_TEST

/* Fields are reported in order, names as sent, values trimmed; those of 1xx and trailers are not.
 */
START_TEST(test_fields)
{
    peer_t p = {
        .in = {BYTES(
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.0 200 OK\r\nX-a: \t one two \r\n"
            "x-A:3\r\nSet-Cookie: c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: t\r\n\r\n")}};
    seen_t s = {0};
    static const char *const want[] = {"X-a", "one two",           "x-A",    "3", "Set-Cookie",
                                       "c",   "Transfer-Encoding", "chunked"};
    const apr_table_entry_t *e;

    run(&p, &s, &usual);
    ck_assert_int_eq(s.minor, 0);
    ck_assert_int_eq(s.fields, 4);
    e = (const apr_table_entry_t *)(const void *)apr_table_elts(s.headers)->elts;
    ck_assert_int_eq(apr_table_elts(s.headers)->nelts, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(e[i].key, want[2 * i]);
        ck_assert_str_eq(e[i].val, want[2 * i + 1]);
    }
}
END_TEST

/* limits of size */

typedef struct size_row_t {
    const char *name;
    bool trailer; /* the fields come as trailers */
    int fields;
    size_t line; /* length of each field line with CRLF */
    bool good;
} size_row_t;

/* clang-format off */
static const size_row_t sizes[] = {
    {"longest line", false, 1, AIP_HTTP1_LINE_MAX, true},
    {"longer line", false, 1, AIP_HTTP1_LINE_MAX + 1, false},
    {"most fields", false, AIP_HTTP1_FIELDS_MAX - 1, 20, true},
    {"more fields", false, AIP_HTTP1_FIELDS_MAX, 20, false},
    {"longest head", false, 16, (AIP_HTTP1_HEAD_MAX - 64) / 16, true},
    {"longer head", false, 16, AIP_HTTP1_HEAD_MAX / 16, false},
    {"longest trailer line", true, 1, AIP_HTTP1_LINE_MAX, true},
    {"longer trailer line", true, 1, AIP_HTTP1_LINE_MAX + 1, false},
    {"most trailers", true, AIP_HTTP1_FIELDS_MAX, 20, true},
    {"more trailers", true, AIP_HTTP1_FIELDS_MAX + 1, 20, false},
    {"longest trailers", true, 16, (AIP_HTTP1_HEAD_MAX - 64) / 16, true},
    {"longer trailers", true, 16, AIP_HTTP1_HEAD_MAX / 16, false},
};
/* clang-format on */

START_TEST(test_size)
{
    const size_row_t *row = &sizes[_i];
    size_t n = (size_t)row->fields * row->line;
    char *fields = apr_palloc(pool, n + 1), *text;

    memset(fields, 'x', n);
    fields[n] = '\0';
    for (size_t at = 0; at < n; at += row->line) {
        fields[at + 1] = ':';
        memcpy(fields + at + row->line - 2, "\r\n", 2);
    }
    text = row->trailer ? apr_pstrcat(pool, CHUNKED "0\r\n", fields, "\r\n", NULL)
                        : apr_pstrcat(pool, "HTTP/1.1 200 OK\r\n", fields,
                                      "Content-Length: 0\r\n\r\n", NULL);
    for (unsigned seed = 0; seed < 4; seed++) {
        response_row_t r = {row->name, {text, strlen(text)},  OP_NONE, OK,   200,
                            true,      row->trailer ? -1 : 0, "",      false};

        if (!row->good) {
            r.outcome = row->trailer ? CUT : BAD;
            r.reusable = false;
            r.status = row->trailer ? 200 : 0;
        }
        check_response(&r, seed);
    }
}
END_TEST

/* A body many times the buffer, by length and in chunks of many sizes, arrives unchanged. */
START_TEST(test_large_body)
{
    size_t n = 300000, at = 0, used = 0;
    char *body = apr_palloc(pool, n), *chunks = apr_palloc(pool, 3 * n);

    for (size_t i = 0; i < n; i++) {
        body[i] = (char)(i * 31 + i / 977);
    }
    used += (size_t)apr_snprintf(chunks, 200, CHUNKED);
    for (size_t k = 1; at < n; k = k * 2 + 3) {
        size_t len = k % 20011 < n - at ? k % 20011 : n - at;

        len = len ? len : 1;
        used += (size_t)apr_snprintf(chunks + used, 32, "%lx\r\n", (unsigned long)len);
        memcpy(chunks + used, body + at, len);
        memcpy(chunks + used + len, "\r\n", 2);
        used += len + 2;
        at += len;
    }
    memcpy(chunks + used, "0\r\n\r\n", 5);
    for (unsigned seed = 0; seed < 4; seed++) {
        peer_t plain = {.in = {BYTES("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"),
                               {OP_BYTES, body, n, 0}},
                        .seed = seed};
        peer_t chunked = {.in = {{OP_BYTES, chunks, used + 5, 0}}, .seed = seed};
        seen_t a = {0}, b = {0};

        ck_assert_int_eq(run(&plain, &a, &usual).outcome, OK);
        ck_assert(a.body_len == n && memcmp(a.body, body, n) == 0);
        ck_assert_int_eq(run(&chunked, &b, &usual).outcome, OK);
        ck_assert(b.body_len == n && memcmp(b.body, body, n) == 0);
    }
}
END_TEST

START_TEST(test_outcome_names)
{
    static const char *const names[] = {
        "ok",       "connect",       "connect-timeout",    "tls",
        "drop",     "write-timeout", "first-byte-timeout", "invalid-header",
        "body-cut", "idle-timeout",  "total-timeout",      "client-gone",
        "withheld", "stopped"};

    ck_assert_uint_eq(COUNT(names), AIP_OUTCOME_STOPPED + 1);
    for (size_t i = 0; i < COUNT(names); i++) {
        ck_assert_str_eq(aip_outcome_name((aip_outcome_e)i), names[i]);
    }
}
END_TEST

Suite *http1_suite(void);

Suite *http1_suite(void)
{
    Suite *suite = suite_create("http1");
    TCase *tc = tcase_create("responses");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_response, 0, ROWS(responses));
    tcase_add_test(tc, test_fields);
    tcase_add_loop_test(tc, test_size, 0, ROWS(sizes));
    tcase_add_test(tc, test_large_body);
    tcase_add_test(tc, test_outcome_names);
    suite_add_tcase(suite, tc);
    return suite;
}
