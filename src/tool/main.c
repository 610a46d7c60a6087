/* SPDX-License-Identifier: Apache-2.0 */
/* aipctl: the table of commands, and what stands before and after one runs. */
#include "tool.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const aip_command_t aip_commands[] = {
    {"check", "CONF", "shows the gateways of a configuration: targets, routes, settings", 1u, 1,
     aip_run_check},
    {"route", "CONF LOCATION", "shows where each prompt of standard input would go, and why", 2u, 2,
     aip_run_route},
    {"calibrate", "CONF LOCATION LABELLED", "finds thresholds that fit labelled prompts", 4u, 3,
     aip_run_calibrate},
    {"embed", "CONF LOCATION", "prints the vectors of the lines of standard input", 8u, 2,
     aip_run_embed},
    {"apikey", "NAME [GROUP...]", "makes an API key and its line for AIApiKeyFile", 16u, -1,
     aip_run_apikey},
    {NULL, NULL, NULL, 0, 0, NULL},
};

static void say(const char *fmt, va_list args)
{
    fputs("aipctl: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int aip_tool_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    return AIP_EXIT_FAILED;
}

int aip_tool_misuse(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    return AIP_EXIT_USAGE;
}

const char *aip_tool_number(double value, apr_pool_t *pool)
{
    char text[32]; /* not apr_snprintf(), which writes .8 for 0.8 */
    snprintf(text, sizeof text, "%.10g", value);
    return apr_pstrdup(pool, text);
}

void aip_tool_put(aip_span_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        putchar(c < 0x20 || c == 0x7f ? ' ' : c);
    }
}

static void usage(FILE *out)
{
    fputs("usage: aipctl COMMAND [OPTION...] ARGUMENT...\n\n", out);
    for (const aip_command_t *c = aip_commands; c->name; c++) {
        fprintf(out, "  %-9s %-23s %s\n", c->name, c->arguments, c->help);
    }
    fputs("\n  aipctl COMMAND --help   the options of a command\n"
          "  aipctl --version        the version\n\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage. See aipctl(1).\n",
          out);
}

/* A file that we open must not become standard output, nor the pipe to httpd. */
static void open_standard_files(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
}

static int run(const aip_command_t *command, int argc, char **argv)
{
    apr_pool_t *pool;
    aip_options_t options;
    apr_pool_create(&pool, NULL);
    int status = aip_options_read(command, argc, argv, &options, pool);
    if (status == AIP_EXIT_OK && options.help) {
        aip_options_help(command);
    } else if (status == AIP_EXIT_OK) {
        status = command->run(&options, pool);
    }
    if (status == AIP_EXIT_USAGE) {
        fprintf(stderr, "usage: aipctl %s [OPTION...] %s\n", command->name, command->arguments);
    }
    apr_pool_destroy(pool);
    return status;
}

static int dispatch(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        usage(stdout);
        return AIP_EXIT_OK;
    }
    if (strcmp(word, "--version") == 0) {
        puts("aipctl " AIP_VERSION);
        return AIP_EXIT_OK;
    }
    for (const aip_command_t *c = aip_commands; c->name; c++) {
        if (strcmp(word, c->name) == 0) {
            return run(c, argc - 1, argv + 1);
        }
    }
    if (*word) {
        aip_tool_misuse("there is no %s '%s'", *word == '-' ? "option" : "command", word);
    }
    usage(stderr);
    return AIP_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    open_standard_files();
    if (apr_initialize() != APR_SUCCESS || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return aip_tool_fail("cannot initialise the libraries");
    }
    int status = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        status = aip_tool_fail("cannot write the output: %s", strerror(errno));
    }
    curl_global_cleanup();
    apr_terminate();
    return status;
}
