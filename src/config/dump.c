/* SPDX-License-Identifier: Apache-2.0 */
/* `httpd -t -D DUMP_AI_GATEWAYS`: the gateways as httpd read them, as one line of JSON. aipctl
 * reads it, so that it sees the configuration exactly as the server does. Secrets are shown as
 * "***", unless the caller gave the descriptor of a pipe of its own in AIPCTL_FD. */
#include "aip/secrets.h"

#include <apr_env.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <http_core.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *strings(const apr_array_header_t *words)
{
    json_t *list = json_array();
    for (int i = 0; words && i < words->nelts; i++) {
        const char *word = APR_ARRAY_IDX(words, i, const char *);
        json_t *value = json_string(word);
        json_array_append_new(list, value ? value : json_string("(not UTF-8)"));
    }
    return list;
}

static bool holds_url(const aip_field_t *row)
{
    return row->place == AIP_IN_TARGET ? row->index == AIP_T_upstream_url
                                       : row->index == AIP_L_embeddings_model_options_upstream_url;
}

static const apr_array_header_t *shown_url(const apr_array_header_t *words, apr_pool_t *pool)
{
    apr_array_header_t *shown = apr_array_make(pool, 1, sizeof(const char *));
    APR_ARRAY_PUSH(shown, const char *) =
        aip_url_shown(APR_ARRAY_IDX(words, 0, const char *), pool);
    return shown;
}

/* For the caller's pipe: what requests would use. */
static const apr_array_header_t *resolved(const aip_field_t *row, const apr_array_header_t *words,
                                          apr_pool_t *pool)
{
    const char *text = APR_ARRAY_IDX(words, 0, const char *);
    const char *value = aip_secret_text(text, pool, NULL);
    if (!value) {
        fprintf(stderr, "%s: %s has no value\n", row->directive, aip_secret_missing(text, pool));
        return NULL;
    }
    apr_array_header_t *own = apr_array_make(pool, 1, sizeof(const char *));
    APR_ARRAY_PUSH(own, const char *) = value;
    return own;
}

/* Directive -> arguments, the defaults included; "set": the names of those that were written. */
static json_t *settings(const aip_field_t *table, int n, const void *fields,
                        const unsigned char *set, bool secrets, apr_pool_t *pool)
{
    json_t *values = json_object(), *written = json_array();
    for (int i = 0; i < n; i++) {
        const aip_field_t *row = &table[i];
        const apr_array_header_t *words = aip_field_text(row, fields, pool);
        bool hide = !secrets && row->flags & AIP_F_SECRET;
        if (words && !secrets && holds_url(row)) { /* its query may be a credential */
            words = shown_url(words, pool);
        }
        if (words && secrets && set[i] == AIP_SET_REFERENCE) {
            words = resolved(row, words, pool);
        }
        if (words) {
            json_object_set_new(values, row->directive,
                                hide ? json_pack("[s]", "***") : strings(words));
        }
        if (set[i]) {
            json_array_append_new(written, json_string(row->directive));
        }
    }
    return json_pack("{s:o, s:o}", "values", values, "set", written);
}

/* Of ServerName, else of the <VirtualHost> line. */
static int port_of(const server_rec *s)
{
    return s->port ? s->port : s->addrs ? s->addrs->host_port : 0;
}

static json_t *gateway_object(const aip_gateway_t *gateway, bool secrets, apr_pool_t *pool)
{
    const aip_targets_t *targets = gateway->conf->targets;
    json_t *list = json_array();
    for (int i = 0; i < targets->n; i++) {
        const aip_target_t *t = targets->list[i];
        json_array_append_new(
            list,
            json_pack(
                "{s:s, s:s, s:o}", "name", t->name, "url",
                apr_pstrcat(pool, t->endpoint->url.origin, t->endpoint->url.path, NULL), "settings",
                settings(aip_target_table, AIP_TARGET_COUNT, &t->f, t->f.set, secrets, pool)));
    }
    return json_pack("{s:s, s:i, s:s, s:s, s:o, s:o}", "server",
                     gateway->server->server_hostname ? gateway->server->server_hostname : "",
                     "port", port_of(gateway->server), "path", gateway->path, "where",
                     gateway->where, "settings",
                     settings(aip_location_table, AIP_LOCATION_COUNT, &gateway->conf->f,
                              gateway->conf->f.set, secrets, pool),
                     "targets", list);
}

/* The caller's pipe, or NULL: anything else could be a file that keeps the secrets. */
static FILE *callers_pipe(apr_pool_t *pool)
{
    char *text = NULL;
    struct stat info;
    if (apr_env_get(&text, "AIPCTL_FD", pool) != APR_SUCCESS) {
        return NULL;
    }
    int fd = (int)apr_atoi64(text);
    return fd > 2 && fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode) ? fdopen(fd, "w") : NULL;
}

void aip_config_dump(apr_pool_t *pconf, server_rec *s)
{
    (void)s;
    if (!ap_exists_config_define("DUMP_AI_GATEWAYS")) {
        return;
    }
    FILE *pipe = callers_pipe(pconf), *out = pipe ? pipe : stdout;
    json_t *list = json_array();
    if (pipe) {
        (void)aip_secrets_open_private(pconf);
    }
    for (int i = 0; i < aip_registry->gateways->nelts; i++) {
        json_array_append_new(
            list, gateway_object(&APR_ARRAY_IDX(aip_registry->gateways, i, aip_gateway_t),
                                 pipe != NULL, pconf));
    }
    json_t *all = json_pack("{s:s, s:o}", "version", AIP_VERSION, "gateways", list);
    json_dumpf(all, out, JSON_COMPACT);
    fputc('\n', out);
    fflush(out);
    json_decref(all);
    if (pipe) {
        fclose(pipe);
    }
}
