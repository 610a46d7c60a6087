/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command line of the mock upstream: opens the ports in the order given, says which ones they are,
 * then "ready", and runs the loop until SIGTERM. README.md documents the options.
 */
#include "mock.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

SSL_CTX *mock_tls_ctx;

static const char usage[] =
    "usage: mock [options] --port P [--port P ...]\n"
    "  --name NAME          name of the ports that follow (default mock)\n"
    "  --port P             listen on 127.0.0.1:P, 0 = any free port; may be repeated\n"
    "  --tls-port P         the same with TLS (needs --cert and --key)\n"
    "  --control-port P     a port for /__mock/ only, which behaviours do not touch\n"
    "  --blackhole-port P   a port whose connections are never established\n"
    "  --rcvbuf BYTES       receive buffer of the ports that follow\n"
    "  --cert FILE --key FILE  PEM certificate chain and key\n"
    "  --record N           keep the last N requests (default 20000, 0 = count only)\n"
    "  --pidfile FILE       write the process id there when ready\n";

typedef struct {
    const char *name;
    const char *cert;
    const char *key;
    const char *pidfile;
    int rcvbuf;
    mock_listener_t **tail;
} options_t;

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "mock: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    exit(2);
}

static long number(const char *opt, const char *value, long max)
{
    long n;

    if (!mock_parse_long(value, 0, max, &n)) {
        die(opt, "not a number in range");
    }
    return n;
}

static void add_listener(options_t *o, const char *opt, const char *value)
{
    mock_listener_t *l = mock_alloc(sizeof(*l));

    l->watch.fd = -1;
    l->port = (int)number(opt, value, 65535);
    l->name = o->name;
    l->rcvbuf = o->rcvbuf;
    l->tls = !strcmp(opt, "--tls-port");
    l->control = !strcmp(opt, "--control-port");
    *o->tail = l;
    o->tail = &l->next;
}

static void add_blackhole(const char *opt, const char *value)
{
    int port;

    if (!mock_blackhole_open((int)number(opt, value, 65535), &port)) {
        die("cannot open the black hole", value);
    }
    printf("blackhole-port %d\n", port);
}

static void read_option(options_t *o, const char *opt, const char *value)
{
    if (!strcmp(opt, "--port") || !strcmp(opt, "--tls-port") || !strcmp(opt, "--control-port")) {
        add_listener(o, opt, value);
    } else if (!strcmp(opt, "--blackhole-port")) {
        add_blackhole(opt, value);
    } else if (!strcmp(opt, "--name")) {
        o->name = value;
    } else if (!strcmp(opt, "--rcvbuf")) {
        o->rcvbuf = (int)number(opt, value, 1 << 30);
    } else if (!strcmp(opt, "--cert")) {
        o->cert = value;
    } else if (!strcmp(opt, "--key")) {
        o->key = value;
    } else if (!strcmp(opt, "--record")) {
        mock_record_limit = (unsigned long)number(opt, value, 10000000);
    } else if (!strcmp(opt, "--pidfile")) {
        o->pidfile = value;
    } else {
        fputs(usage, stderr);
        die("unknown option", opt);
    }
}

static void open_tls(const options_t *o)
{
    mock_tls_ctx = SSL_CTX_new(TLS_server_method());
    if (!mock_tls_ctx || !o->cert || !o->key ||
        SSL_CTX_use_certificate_chain_file(mock_tls_ctx, o->cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(mock_tls_ctx, o->key, SSL_FILETYPE_PEM) != 1) {
        die("--tls-port needs a readable --cert and --key", NULL);
    }
    SSL_CTX_set_mode(mock_tls_ctx,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void open_ports(const options_t *o)
{
    for (mock_listener_t *l = mock_listeners; l; l = l->next) {
        const char *why = NULL;

        if (l->tls && !mock_tls_ctx) {
            open_tls(o);
        }
        if (!mock_listener_open(l, &why)) {
            die("cannot listen", why);
        }
        printf("%s %d\n", l->control ? "control-port" : l->tls ? "tls-port" : "port", l->port);
    }
}

static void write_pidfile(const char *path)
{
    FILE *f = fopen(path, "w");

    if (!f || fprintf(f, "%ld\n", (long)getpid()) < 0 || fclose(f)) {
        die("cannot write the pid file", path);
    }
}

static void raise_descriptor_limit(void)
{
    struct rlimit r;

    if (!getrlimit(RLIMIT_NOFILE, &r)) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

int main(int argc, char **argv)
{
    options_t o = {.name = "mock", .tail = &mock_listeners};

    if (argc == 2 && !strcmp(argv[1], "--help")) {
        fputs(usage, stdout);
        return 0;
    }
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            die(argv[i], "value missing");
        }
        read_option(&o, argv[i], argv[i + 1]);
    }
    if (!mock_listeners) {
        fputs(usage, stderr);
        die("no port given", NULL);
    }
    raise_descriptor_limit();
    mock_loop_init();
    mock_vectors_init();
    open_ports(&o);
    if (o.pidfile) {
        write_pidfile(o.pidfile);
    }
    puts("ready");
    fflush(stdout);
    mock_loop_run(mock_conn_turn_end);
    if (o.pidfile) {
        unlink(o.pidfile);
    }
    return 0;
}
