/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TOOL_H
#define AIP_TOOL_H
/* aipctl, the operator's command line: what its files share. One thread, one pool that lives as
 * long as the process; functions that return int return an exit status and have said on stderr what
 * is wrong when it is not 0. No secret is ever written: the credentials come from httpd through a
 * pipe and go to the embeddings provider only. */

#include "aip/gateway.h"

#include <jansson.h>

enum { AIP_EXIT_OK, AIP_EXIT_FAILED, AIP_EXIT_USAGE };

typedef enum aip_layout_e { AIP_LAYOUT_AUTO, AIP_LAYOUT_FRAGMENT, AIP_LAYOUT_WHOLE } aip_layout_e;
typedef enum aip_input_e { AIP_INPUT_AUTO, AIP_INPUT_LINES, AIP_INPUT_JSONL } aip_input_e;

/** The words of the command line. */
typedef struct aip_options_t {
    const char *conf, *location, *file;
    char **words; /**< all of them, n_words */
    int n_words;
    const char *httpd, *module, *modules, *root, *envvars, *server, *cache;
    apr_array_header_t *defines; /**< const char *: NAME or NAME=VALUE */
    aip_layout_e layout;
    aip_input_e input;
    bool json, progress, no_cache, f32le, help, from_stdin;
    double holdout;
    apr_uint64_t seed;
    double max_false_positives; /**< -1: not given */
    const char *max_share;      /**< TARGET=X, or NULL */
} aip_options_t;

typedef struct aip_command_t {
    const char *name, *arguments, *help;
    unsigned bit; /**< of the commands an option belongs to */
    int words;    /**< after the command and its options; -N: N or more */
    int (*run)(const aip_options_t *options, apr_pool_t *pool);
} aip_command_t;

extern const aip_command_t aip_commands[];

/** Writes "aipctl: ..." to stderr. @return AIP_EXIT_FAILED */
int aip_tool_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** The same for a mistake on the command line. @return AIP_EXIT_USAGE */
int aip_tool_misuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** A number with as many digits as it needs, for instance in a directive. */
const char *aip_tool_number(double value, apr_pool_t *pool);

/** Writes text to stdout, control characters as spaces, so that it stays in its line. */
void aip_tool_put(aip_span_t text);

/** Reads the words after a command's name. */
int aip_options_read(const aip_command_t *command, int argc, char **argv, aip_options_t *options,
                     apr_pool_t *pool);
void aip_options_help(const aip_command_t *command);

/** Lets httpd read the configuration. @param secrets  with credentials, else "***" in their place
 * @param document  out: what src/config/dump.c wrote; the caller's */
int aip_httpd_dump(const aip_options_t *options, bool secrets, json_t **document, apr_pool_t *pool);

/** Adds the variables of the file that --envvars names, or of an envvars near CONF, which are not
 * in the environment already. @param env  char *, NAME=VALUE */
int aip_envvars_read(const aip_options_t *options, apr_array_header_t *env, apr_pool_t *pool);

/** Writes the configuration that httpd is given, into `dir`. @return 0, or an exit status */
int aip_wrapper_write(const aip_options_t *options, const char *dir, const char **path,
                      apr_pool_t *pool);

/** A gateway of the document, in the core's terms. */
typedef struct aip_tool_gateway_t {
    const json_t *json; /**< borrowed from the document */
    const char *server, *path, *where;
    int port, n;
    aip_location_fields_t f;
    const char **names; /**< of its targets */
    const aip_target_fields_t **targets;
    aip_routes_t *routes;
    aip_route_rules_t rules;
    int ambiguous; /**< target that AIRouteOnAmbiguous names, or -1 */
} aip_tool_gateway_t;

/** @param redacted  leave out values that are "***" */
int aip_gateway_read(const json_t *json, bool redacted, aip_tool_gateway_t *gateway,
                     apr_pool_t *pool);

/** The gateway that LOCATION and --server name. */
int aip_gateway_find(const json_t *document, const aip_options_t *options,
                     aip_tool_gateway_t *gateway, apr_pool_t *pool);

/** A route's name for people: that of its first target. */
const char *aip_gateway_route_name(const aip_tool_gateway_t *gateway, int route);

/** Index of the route of a target, by its name, or by its description; -2: there is none. */
int aip_gateway_route_of(const aip_tool_gateway_t *gateway, aip_span_t label);

/** Where a prompt goes whose nearest eligible route is `first`; -1: to no target. */
int aip_gateway_outcome(const aip_tool_gateway_t *gateway, const float *distances, int first,
                        apr_pool_t *pool);

typedef struct aip_line_t {
    int number; /**< in its file, from 1 */
    aip_span_t label, text;
} aip_line_t;

/** Lines of a file: aip_line_t. Without text they are left out, unless `keep_empty`. */
typedef struct aip_lines_t {
    const char *name; /**< for messages */
    bool labelled, keep_empty;
    aip_input_e input;
    apr_array_header_t *list;
} aip_lines_t;

/** @param path  NULL or "-": standard input */
int aip_lines_read(aip_lines_t *lines, const char *path, apr_pool_t *pool);

/** A gateway's embedder, ready. */
typedef struct aip_tool_embedder_t {
    const aip_tool_gateway_t *gateway;
    aip_embedder_conf_t conf;
    aip_metric_e metric;
    const char *cache_dir;
    bool progress;
    aip_references_t refs; /**< of the routes' texts, made when first needed */
} aip_tool_embedder_t;

int aip_embedder_open(aip_tool_embedder_t *embedder, const aip_options_t *options,
                      const aip_tool_gateway_t *gateway, apr_pool_t *pool);

/** Vectors as delivered: float[n * dims]; all zero for a text that has no word the local model
 * knows, and for an empty one. */
int aip_embedder_embed(aip_tool_embedder_t *embedder, const aip_span_t *texts, int n,
                       float *vectors, apr_pool_t *pool);

/** Distances of prompts to all routes, as the server has them: float[n * routes->n]. INFINITY:
 * none, because the prompt has no known word, or the route is the catch-all. */
int aip_embedder_distances(aip_tool_embedder_t *embedder, const aip_span_t *prompts, int n,
                           float *distances, apr_pool_t *pool);

/** The text that the server makes of a prompt: cut to AIRoutePromptMaxBytes. */
int aip_prompt_text(const aip_tool_gateway_t *gateway, aip_span_t prompt, aip_span_t *text,
                    apr_pool_t *pool);

int aip_run_check(const aip_options_t *options, apr_pool_t *pool);
int aip_run_route(const aip_options_t *options, apr_pool_t *pool);
int aip_run_calibrate(const aip_options_t *options, apr_pool_t *pool);
int aip_run_embed(const aip_options_t *options, apr_pool_t *pool);
int aip_run_apikey(const aip_options_t *options, apr_pool_t *pool);

#endif
