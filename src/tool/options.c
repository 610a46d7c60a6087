/* SPDX-License-Identifier: Apache-2.0 */
/* The options of all commands, as one table: what is read and what --help says come from it. */
#include "tool.h"

#include <apr_strings.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK = 1, ROUTE = 2, CALIBRATE = 4, EMBED = 8, LOCATED = 14, ALL = 15, APIKEY = 16 };

/** How an option's value is read. */
typedef enum kind_e { TEXT, FLAG, DEFINE, FORMAT, INPUT, LAYOUT, GOAL, SHARE, LIMIT, SEED } kind_e;

/* With `at` the member that a text, flag, number or layout goes to. */
#define AT(member) offsetof(aip_options_t, member)

static const struct {
    const char *name, *value;
    kind_e kind;
    size_t at;
    unsigned commands;
    const char *help;
} table[] = {
    {"goal", "accuracy", GOAL, 0, CALIBRATE, "as many prompts right as possible (the default)"},
    {"max-false-positives", "X", LIMIT, AT(max_false_positives), CALIBRATE,
     "at most the share X (0 to 1) of the prompts labelled - goes to a target"},
    {"max-share", "TARGET=X", SHARE, AT(max_share), CALIBRATE,
     "at most the share X of all prompts goes to the route of TARGET"},
    {"holdout", "X", LIMIT, AT(holdout), CALIBRATE,
     "share of each label's prompts that only judges the result (0.3)"},
    {"seed", "N", SEED, 0, CALIBRATE, "chooses which prompts those are (1)"},
    {"server", "NAME:PORT", TEXT, AT(server), LOCATED,
     "virtual host, or FILE:LINE, when several have the LOCATION"},
    {"input", "lines|jsonl", INPUT, 0, LOCATED, "one prompt a line, or one JSON value a line"},
    {"json", NULL, FLAG, AT(json), CHECK | ROUTE | CALIBRATE, "print JSON"},
    {"format", "json|f32le", FORMAT, 0, EMBED, "JSON arrays (the default), or raw float32"},
    {"cache", "DIR", TEXT, AT(cache), LOCATED,
     "keeps vectors of a remote embedder ($XDG_CACHE_HOME/aipctl)"},
    {"no-cache", NULL, FLAG, AT(no_cache), LOCATED, "keeps nothing and reads nothing kept"},
    {"progress", NULL, FLAG, AT(progress), LOCATED, "show progress though stderr is no terminal"},
    {"httpd", "PATH", TEXT, AT(httpd), ALL, "the httpd that reads CONF"},
    {"module", "PATH", TEXT, AT(module), ALL, "mod_ai_proxy_adv.so for a fragment"},
    {"modules", "DIR", TEXT, AT(modules), ALL, "httpd's own modules for a fragment"},
    {"root", "DIR", TEXT, AT(root), ALL, "ServerRoot, when CONF does not say it"},
    {"envvars", "FILE", TEXT, AT(envvars), ALL,
     "variables for httpd, [export] NAME=VALUE (envvars beside CONF or one folder up)"},
    {"define", "NAME[=VALUE]", DEFINE, 0, ALL, "as Define NAME VALUE before CONF; repeatable"},
    {"fragment", NULL, LAYOUT, AIP_LAYOUT_FRAGMENT, ALL,
     "CONF is to be included by a server's configuration"},
    {"whole", NULL, LAYOUT, AIP_LAYOUT_WHOLE, ALL, "CONF is a server's configuration"},
    {"stdin", NULL, FLAG, AT(from_stdin), APIKEY,
     "the line for a key that exists already, read from standard input"},
    {"help", NULL, FLAG, AT(help), ALL | APIKEY, "this text"},
};
enum { N_OPTIONS = sizeof table / sizeof *table, FIRST_ID = 256 };

void aip_options_help(const aip_command_t *command)
{
    printf("usage: aipctl %s [OPTION...] %s\n%s\n\n", command->name, command->arguments,
           command->help);
    for (int i = 0; i < N_OPTIONS; i++) {
        if (table[i].commands & command->bit) {
            char shown[64];
            snprintf(shown, sizeof shown, "--%s%s%s", table[i].name, table[i].value ? " " : "",
                     table[i].value ? table[i].value : "");
            printf("  %-25s %s\n", shown, table[i].help);
        }
    }
    puts("\nExit status: 0 done, 1 failed, 2 wrong usage. See aipctl(1).");
}

static bool read_share(const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end); /* a word of argv: it is terminated */
    return end != text && !*end && errno == 0 && *value >= 0 && *value <= 1;
}

static int take_seed(aip_options_t *o, const char *text)
{
    char *end;
    errno = 0;
    apr_int64_t n = apr_strtoi64(text, &end, 10);
    o->seed = (apr_uint64_t)n;
    return end == text || *end || errno || n < 0
               ? aip_tool_misuse("--seed: '%s' must be a whole number, 0 or more", text)
               : AIP_EXIT_OK;
}

static int take_share(aip_options_t *o, const char *text)
{
    const char *equals = strrchr(text, '=');
    double share;
    o->max_share = text;
    return equals && equals != text && read_share(equals + 1, &share)
               ? AIP_EXIT_OK
               : aip_tool_misuse("--max-share: '%s' must be TARGET=X with X from 0 to 1", text);
}

/* One of two words. */
static int take_word(const char *option, const char *text, const char *one, const char *other,
                     bool *is_other)
{
    *is_other = strcmp(text, other) == 0;
    return *is_other || strcmp(text, one) == 0
               ? AIP_EXIT_OK
               : aip_tool_misuse("--%s: '%s' must be %s or %s", option, text, one, other);
}

static int take(aip_options_t *o, int i, const char *value)
{
    void *member = (char *)o + table[i].at;
    bool other;
    int status = AIP_EXIT_OK;
    switch (table[i].kind) {
    case TEXT:
        *(const char **)member = value;
        break;
    case FLAG:
        *(bool *)member = true;
        break;
    case DEFINE:
        APR_ARRAY_PUSH(o->defines, const char *) = value;
        break;
    case FORMAT:
        return take_word("format", value, "json", "f32le", &o->f32le);
    case INPUT:
        status = take_word("input", value, "lines", "jsonl", &other);
        o->input = other ? AIP_INPUT_JSONL : AIP_INPUT_LINES;
        break;
    case LAYOUT:
        o->layout = (aip_layout_e)table[i].at;
        break;
    case GOAL:
        return strcmp(value, "accuracy") == 0
                   ? AIP_EXIT_OK
                   : aip_tool_misuse("--goal: '%s' must be accuracy; other goals are "
                                     "--max-false-positives and --max-share",
                                     value);
    case SHARE:
        return take_share(o, value);
    case LIMIT:
        return read_share(value, member)
                   ? AIP_EXIT_OK
                   : aip_tool_misuse("--%s: '%s' must be a number from 0 to 1", table[i].name,
                                     value);
    case SEED:
        return take_seed(o, value);
    }
    return status;
}

static int find_option(const char *name)
{
    for (int i = 0; i < N_OPTIONS; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int read_options(const aip_command_t *command, int argc, char **argv, aip_options_t *o)
{
    struct option known[N_OPTIONS + 1] = {{0}};
    int n = 0, id;
    for (int i = 0; i < N_OPTIONS; i++) {
        if (table[i].commands & command->bit) {
            known[n++] =
                (struct option){table[i].name, table[i].value ? required_argument : no_argument,
                                NULL, FIRST_ID + i};
        }
    }
    optind = 1;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":D:h", known, NULL)) != -1) {
        const char *word = argv[optind - 1];
        if (id == '?') {
            return aip_tool_misuse("%s: %s has no such option", word, command->name);
        }
        if (id == ':') {
            return aip_tool_misuse("%s needs a value", word);
        }
        int i = id == 'D' ? find_option("define") : id == 'h' ? find_option("help") : id - FIRST_ID;
        if (!(table[i].commands & command->bit)) {
            return aip_tool_misuse("-%c: %s has no such option", id, command->name);
        }
        int status = take(o, i, optarg);
        if (status != AIP_EXIT_OK) {
            return status;
        }
    }
    return AIP_EXIT_OK;
}

int aip_options_read(const aip_command_t *command, int argc, char **argv, aip_options_t *options,
                     apr_pool_t *pool)
{
    *options = (aip_options_t){.holdout = 0.3,
                               .seed = 1,
                               .max_false_positives = -1,
                               .defines = apr_array_make(pool, 4, sizeof(const char *))};
    int status = read_options(command, argc, argv, options), n = argc - optind;
    if (status != AIP_EXIT_OK || options->help) {
        return status;
    }
    if (command->words < 0 ? n < -command->words : n != command->words) {
        return aip_tool_misuse("%s takes %s", command->name, command->arguments);
    }
    if (options->max_share && options->max_false_positives >= 0) {
        return aip_tool_misuse("--max-share and --max-false-positives are two goals; give one");
    }
    if (options->holdout >= 1) {
        return aip_tool_misuse("--holdout 1 leaves no prompt to find thresholds with");
    }
    if (options->cache && options->no_cache) {
        return aip_tool_misuse("--cache and --no-cache contradict each other");
    }
    options->words = argv + optind;
    options->n_words = n;
    options->conf = argv[optind];
    options->location = n > 1 ? argv[optind + 1] : NULL;
    options->file = n > 2 ? argv[optind + 2] : NULL;
    return AIP_EXIT_OK;
}
