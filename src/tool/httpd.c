/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `httpd -t -D DUMP_AI_GATEWAYS` and reads what the module says. httpd is started with an
 * argument vector, never through a shell; what it writes is read from pipes, the credentials from
 * one that no other process has. The temporary folder goes away whatever happens: the signals that
 * would end aipctl wait until then. */
#include "tool.h"

#include <apr_strings.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { OUT, ERR, DOCUMENT, PIPES };

/* What httpd writes. */
typedef struct output_t {
    int from, to; /* the two ends of a pipe; -1: not open */
    char *data;
    size_t len, size;
} output_t;

static void close_end(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* @return false at the end */
static bool receive(output_t *o)
{
    if (o->size - o->len < 4096) {
        char *more = realloc(o->data, 2 * o->size + 16384);
        if (!more) {
            return false;
        }
        o->data = more;
        o->size = 2 * o->size + 16384;
    }
    ssize_t got = read(o->from, o->data + o->len, o->size - o->len - 1);
    o->len += got > 0 ? (size_t)got : 0;
    o->data[o->len] = '\0';
    return got > 0 || (got < 0 && errno == EINTR);
}

static void receive_all(output_t *outputs)
{
    for (;;) {
        struct pollfd polled[PIPES];
        int open = 0;
        for (int i = 0; i < PIPES; i++) {
            polled[i] = (struct pollfd){.fd = outputs[i].from, .events = POLLIN};
            open += outputs[i].from >= 0;
        }
        if (!open || (poll(polled, PIPES, -1) < 0 && errno != EINTR)) {
            return;
        }
        for (int i = 0; i < PIPES; i++) {
            if (polled[i].fd >= 0 && polled[i].revents && !receive(&outputs[i])) {
                close_end(&outputs[i].from);
            }
        }
    }
}

static const char *in_path(const char *name, apr_pool_t *pool)
{
    const char *path = getenv("PATH");
    char *state = NULL, *list = apr_pstrdup(pool, path ? path : "/usr/sbin:/usr/bin");
    for (char *dir = apr_strtok(list, ":", &state); dir; dir = apr_strtok(NULL, ":", &state)) {
        const char *file = apr_pstrcat(pool, dir, "/", name, NULL);
        if (access(file, X_OK) == 0) {
            return file;
        }
    }
    return NULL;
}

static const char *find_httpd(const aip_options_t *o, apr_pool_t *pool)
{
    if (o->httpd) {
        return o->httpd;
    }
    const char *found = access(AIP_HTTPD, X_OK) == 0 ? AIP_HTTPD : in_path("apache2", pool);
    return found ? found : in_path("httpd", pool);
}

static int start(const char *httpd, const char *conf, char **env, output_t *outputs, pid_t *pid)
{
    char *argv[] = {(char *)httpd, "-t", "-D", "DUMP_AI_GATEWAYS", "-f", (char *)conf, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, outputs[OUT].to, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, outputs[ERR].to, STDERR_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int error = posix_spawn(pid, httpd, &files, &attributes, argv, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error ? aip_tool_fail("cannot run %s: %s", httpd, strerror(error)) : AIP_EXIT_OK;
}

/* Only the document's pipe lives on in httpd by its number. */
static bool open_pipes(output_t *outputs, bool secrets)
{
    for (int i = 0; i < PIPES; i++) {
        int ends[2] = {-1, -1};
        if ((i != DOCUMENT || secrets) && pipe2(ends, O_CLOEXEC) < 0) {
            return false;
        }
        outputs[i] = (output_t){.from = ends[0], .to = ends[1]};
    }
    return !secrets || fcntl(outputs[DOCUMENT].to, F_SETFD, 0) == 0;
}

/* What httpd said, without the line that says nothing. */
static void show(const output_t *said)
{
    for (const char *line = said->data; line && *line;) {
        size_t len = strcspn(line, "\n");
        if (len != 9 || strncmp(line, "Syntax OK", 9) != 0) {
            fprintf(stderr, "%.*s\n", (int)len, line);
        }
        line += len + (line[len] == '\n');
    }
}

static int read_document(const aip_options_t *o, const char *httpd, int how,
                         const output_t *outputs, bool secrets, json_t **document)
{
    const char *text = secrets ? outputs[DOCUMENT].data : outputs[OUT].data;
    if (how != 0 || !secrets) {
        show(&outputs[ERR]);
    }
    if (how != 0) {
        return WIFSIGNALED(how)
                   ? aip_tool_fail("%s was ended by signal %d", httpd, WTERMSIG(how))
                   : aip_tool_fail("%s refuses %s; what it says stands above", httpd, o->conf);
    }
    for (; text && *text; text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL) {
        if (strncmp(text, "{\"version\"", 10) == 0) {
            *document = json_loadb(text, strcspn(text, "\n"), 0, NULL);
            return *document ? AIP_EXIT_OK : aip_tool_fail("cannot read what the module says");
        }
    }
    return aip_tool_fail(
        "%s reads %s, but mod_ai_proxy_adv says nothing about gateways: does it load "
        "the module, and one as new as aipctl?",
        httpd, o->conf);
}

static int run_httpd(const aip_options_t *o, const char *conf, bool secrets, json_t **document,
                     apr_pool_t *pool)
{
    output_t outputs[PIPES] = {{-1, -1, NULL, 0, 0}, {-1, -1, NULL, 0, 0}, {-1, -1, NULL, 0, 0}};
    apr_array_header_t *env = apr_array_make(pool, 64, sizeof(char *));
    const char *httpd = find_httpd(o, pool);
    pid_t pid;
    int how = 0, status = aip_envvars_read(o, env, pool);
    for (char **e = environ; *e; e++) {
        if (strncmp(*e, "AIPCTL_FD=", strlen("AIPCTL_FD=")) != 0) {
            APR_ARRAY_PUSH(env, char *) = *e;
        }
    }
    if (!httpd) {
        status = aip_tool_fail("no httpd was found; name it with --httpd");
    } else if (status == AIP_EXIT_OK && !open_pipes(outputs, secrets)) {
        status = aip_tool_fail("cannot make a pipe: %s", strerror(errno));
    }
    if (secrets) {
        APR_ARRAY_PUSH(env, char *) = apr_psprintf(pool, "AIPCTL_FD=%d", outputs[DOCUMENT].to);
    }
    APR_ARRAY_PUSH(env, char *) = NULL;
    if (status == AIP_EXIT_OK) {
        status = start(httpd, conf, (char **)(void *)env->elts, outputs, &pid);
    }
    for (int i = 0; i < PIPES; i++) {
        close_end(&outputs[i].to);
    }
    if (status == AIP_EXIT_OK) {
        receive_all(outputs);
        while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
        }
        status = read_document(o, httpd, how, outputs, secrets, document);
    }
    for (int i = 0; i < PIPES; i++) {
        close_end(&outputs[i].from);
        free(outputs[i].data);
    }
    return status;
}

static void remove_folder(const char *dir, apr_pool_t *pool)
{
    DIR *listed = opendir(dir);
    const struct dirent *entry;
    while (listed && (entry = readdir(listed))) {
        unlink(apr_pstrcat(pool, dir, "/", entry->d_name, NULL));
    }
    if (listed) {
        closedir(listed);
    }
    rmdir(dir);
}

int aip_httpd_dump(const aip_options_t *options, bool secrets, json_t **document, apr_pool_t *pool)
{
    const char *conf, *base = getenv("TMPDIR");
    char *dir = apr_pstrcat(pool, base && *base == '/' ? base : "/tmp", "/aipctl.XXXXXX", NULL);
    sigset_t ends, before;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGHUP);
    sigprocmask(SIG_BLOCK, &ends, &before);
    int status = AIP_EXIT_OK;
    if (!mkdtemp(dir)) {
        status = aip_tool_fail("cannot make a folder like %s: %s", dir, strerror(errno));
    } else {
        status = aip_wrapper_write(options, dir, &conf, pool);
        status = status ? status : run_httpd(options, conf, secrets, document, pool);
        remove_folder(dir, pool);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}
