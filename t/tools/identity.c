/* SPDX-License-Identifier: Apache-2.0 */
/* Asks for a token or for AWS credentials as the gateway would, and prints how long they are and
 * how many seconds they hold, never the token itself unless --show is given.
 *
 *   identity [--show] [--timeout=SECONDS] gcp|azure|aws [MEMBER=VALUE ...]
 *
 * MEMBER is one of aip_gcp_conf_t, aip_azure_conf_t or aip_aws_conf_t; MEMBER=@FILE reads a file.
 * Exit status 1: it failed, the reason is on stderr; 2: wrong usage. */

#include "aip/identity.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <curl/curl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct member_t {
    const char *cloud, *name;
    size_t offset;
} member_t;

/* clang-format off */
#define MEMBER(cloud, member) {#cloud, #member, offsetof(aip_##cloud##_conf_t, member)}
/* clang-format on */
static const member_t members[] = {
    MEMBER(gcp, service_account_json),
    MEMBER(gcp, oauth_token_url),
    MEMBER(gcp, metadata_url),
    MEMBER(azure, tenant_id),
    MEMBER(azure, client_id),
    MEMBER(azure, client_secret),
    MEMBER(azure, scope),
    MEMBER(azure, authority),
    MEMBER(azure, metadata_url),
    MEMBER(aws, access_key),
    MEMBER(aws, secret_key),
    MEMBER(aws, region),
    MEMBER(aws, assume_role_arn),
    MEMBER(aws, role_session_name),
    MEMBER(aws, sts_endpoint_url),
};

static apr_pool_t *pool;

static void usage(const char *what)
{
    fprintf(stderr,
            "identity: %s\nusage: identity [--show] [--timeout=SECONDS] gcp|azure|aws "
            "[MEMBER=VALUE|MEMBER=@FILE ...]\n",
            what);
    exit(2);
}

static const char *contents(const char *path)
{
    char *data = apr_pcalloc(pool, 65537);
    FILE *file = fopen(path, "r");
    if (!file) {
        usage(path);
    }
    data[fread(data, 1, 65536, file)] = '\0';
    fclose(file);
    return data;
}

/* All configurations are structs of `const char *`. */
static void set_member(const char *cloud, const char *arg, void *conf)
{
    const char *equals = strchr(arg, '=');
    for (size_t i = 0; equals && i < sizeof members / sizeof *members; i++) {
        const member_t *m = &members[i];
        if (strcmp(m->cloud, cloud) == 0 && strlen(m->name) == (size_t)(equals - arg) &&
            strncmp(m->name, arg, strlen(m->name)) == 0) {
            const char *value = equals[1] == '@' ? contents(equals + 2) : equals + 1;
            memcpy((char *)conf + m->offset, &value, sizeof value);
            return;
        }
    }
    usage(arg);
}

static void print(const char *name, const char *value, bool show)
{
    printf("%s_length=%zu\n", name, value ? strlen(value) : (size_t)0);
    if (show && value) {
        printf("%s=%s\n", name, value);
    }
}

typedef union conf_t {
    aip_gcp_conf_t gcp;
    aip_azure_conf_t azure;
    aip_aws_conf_t aws;
} conf_t;

static apr_status_t run(const char *cloud, const conf_t *conf, const aip_identity_net_t *net,
                        bool show, aip_error_t *err)
{
    aip_token_t token = {0};
    aip_aws_keys_t keys = {0};
    bool aws = strcmp(cloud, "aws") == 0;
    apr_status_t rv = aws ? aip_aws_credentials(&conf->aws, net, &keys, &token.lifetime, pool, err)
                      : strcmp(cloud, "gcp") == 0
                          ? aip_gcp_token(&conf->gcp, net, &token, pool, err)
                          : aip_azure_token(&conf->azure, net, &token, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (aws) {
        print("access_key", keys.access_key, show);
        print("secret_key", keys.secret_key, show);
    }
    print("token", aws ? keys.token : token.text, show);
    printf("lifetime=%" APR_TIME_T_FMT "\n", apr_time_sec(token.lifetime));
    return APR_SUCCESS;
}

int main(int argc, char **argv)
{
    conf_t conf = {0};
    aip_error_t err = {0};
    aip_identity_net_t net = {.timeout = apr_time_from_sec(10)};
    bool show = false;
    int i = 1;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--show") == 0) {
            show = true;
        } else if (strncmp(argv[i], "--timeout=", 10) == 0) {
            net.timeout = apr_time_from_sec(strtol(argv[i] + 10, NULL, 10));
        } else {
            usage(argv[i]);
        }
    }
    const char *cloud = i < argc ? argv[i++] : "";
    if (strcmp(cloud, "gcp") != 0 && strcmp(cloud, "azure") != 0 && strcmp(cloud, "aws") != 0) {
        usage("which cloud?");
    }
    for (; i < argc; i++) {
        set_member(cloud, argv[i], &conf);
    }
    if (run(cloud, &conf, &net, show, &err) != APR_SUCCESS) {
        fprintf(stderr, "identity: %s\n", err.message);
        return 1;
    }
    return 0;
}
