/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials of AWS: in which order sources are asked, and the ones that need no network. Order
 * and variables are those of Amazon's SDKs.
 * https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html */
#include "aws_private.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define PROFILES_MAX (256u << 10)

const char *aip_aws_region(const char *region)
{
    region = region ? region : aip_identity_env("AWS_REGION");
    return region ? region : aip_identity_env("AWS_DEFAULT_REGION");
}

bool aip_aws_region_ok(const char *region)
{
    size_t len = strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return len > 0 && len <= 32 && !region[len] && *region != '-';
}

const char *aip_aws_domain(const char *region)
{
    return strncmp(region, "cn-", 3) == 0 ? "amazonaws.com.cn" : "amazonaws.com";
}

bool aip_aws_session_name_ok(const char *name)
{
    size_t len = 0;
    for (; name[len]; len++) {
        if (!apr_isalnum(name[len]) && !strchr("_+=,.@-", name[len])) {
            return false;
        }
    }
    return len >= 2 && len <= 64;
}

bool aip_aws_keys_ok(const aip_aws_keys_t *keys)
{
    size_t len = 0;
    for (; keys->access_key && keys->access_key[len]; len++) {
        if (!apr_isalnum(keys->access_key[len]) && !strchr("-_.", keys->access_key[len])) {
            return false;
        }
    }
    return len > 0 && len <= 256 && aip_token_ok(keys->secret_key) &&
           strlen(keys->secret_key) <= AIP_SIGV4_SECRET_MAX &&
           (!keys->token || aip_token_ok(keys->token));
}

static bool digits(const char *text, int n, int *value)
{
    *value = 0;
    for (int i = 0; i < n; i++) {
        if (!apr_isdigit(text[i])) {
            return false;
        }
        *value = *value * 10 + (text[i] - '0');
    }
    return true;
}

/* "2026-10-21T12:34:56Z", with or without a fraction. @param seconds  since 1970 */
static bool read_time(const char *text, double *seconds)
{
    apr_time_exp_t t = {0};
    apr_time_t when;
    if (strlen(text) < 20 || text[4] != '-' || text[7] != '-' || text[10] != 'T' ||
        text[13] != ':' || text[16] != ':' || !digits(text, 4, &t.tm_year) ||
        !digits(text + 5, 2, &t.tm_mon) || !digits(text + 8, 2, &t.tm_mday) ||
        !digits(text + 11, 2, &t.tm_hour) || !digits(text + 14, 2, &t.tm_min) ||
        !digits(text + 17, 2, &t.tm_sec)) {
        return false;
    }
    const char *rest = text + 19;
    rest += *rest == '.' ? 1 + strspn(rest + 1, "0123456789") : 0;
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    if (strcmp(rest, "Z") != 0 || t.tm_year < 70 || t.tm_mon < 0 || t.tm_mon > 11 ||
        t.tm_mday < 1 || t.tm_mday > 31 || t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 60 ||
        apr_time_exp_gmt_get(&when, &t) != APR_SUCCESS) {
        return false;
    }
    *seconds = (double)apr_time_sec(when);
    return true;
}

/* STS says seconds, metadata services a time. */
static const char *read_expiration(const json_t *value, apr_interval_time_t *lifetime)
{
    double end;
    *lifetime = 0;
    if (!value || json_is_null(value)) {
        return NULL;
    }
    if (json_is_string(value) ? !read_time(json_string_value(value), &end)
                              : !aip_identity_number(value, &end)) {
        return "with an Expiration that is no time";
    }
    *lifetime = aip_identity_until(end);
    return *lifetime > 0 ? NULL : "with credentials that have expired";
}

static const char *read_members(const json_t *object, const char *token_name, aip_aws_got_t *got,
                                apr_pool_t *pool)
{
    const char *access = json_string_value(json_object_get(object, "AccessKeyId"));
    const char *secret = json_string_value(json_object_get(object, "SecretAccessKey"));
    const json_t *token = json_object_get(object, token_name);
    if (!access || !secret || (token && !json_is_string(token) && !json_is_null(token))) {
        return "without credentials";
    }
    got->keys = (aip_aws_keys_t){access, secret, json_string_value(token)};
    if (!aip_aws_keys_ok(&got->keys)) {
        return "with credentials that are empty, too long or hold bytes that credentials do not "
               "have";
    }
    got->keys = (aip_aws_keys_t){apr_pstrdup(pool, access), apr_pstrdup(pool, secret),
                                 token ? apr_pstrdup(pool, json_string_value(token)) : NULL};
    return read_expiration(json_object_get(object, "Expiration"), &got->lifetime);
}

apr_status_t aip_aws_read_keys(const json_t *object, const char *token_name, const char *service,
                               aip_aws_got_t *got, apr_pool_t *pool, aip_error_t *err)
{
    const char *problem = read_members(object, token_name, got, pool);
    aip_identity_wipe_json(json_object_get(object, "SecretAccessKey"));
    aip_identity_wipe_json(json_object_get(object, token_name));
    return problem ? aip_identity_fail(err, pool, "%s answered %s", service, problem) : APR_SUCCESS;
}

/* ---- sources without a network ---- */

/* @param from  for messages */
static apr_status_t take(const char *from, const char *access, const char *secret,
                         const char *token, aip_aws_got_t *got, apr_pool_t *pool, aip_error_t *err)
{
    got->keys = (aip_aws_keys_t){access, secret, token};
    if (!access || !secret) {
        return aip_identity_fail(err, pool,
                                 "%s hold an access key without its secret, or a "
                                 "secret without its access key",
                                 from);
    }
    if (!aip_aws_keys_ok(&got->keys)) {
        return aip_identity_fail(err, pool, "%s hold what are no AWS credentials", from);
    }
    got->keys = (aip_aws_keys_t){apr_pstrdup(pool, access), apr_pstrdup(pool, secret),
                                 token ? apr_pstrdup(pool, token) : NULL};
    return APR_SUCCESS;
}

static char *trim(char *text)
{
    size_t len;
    while (apr_isspace(*text)) {
        text++;
    }
    for (len = strlen(text); len && apr_isspace(text[len - 1]); len--) {
        text[len - 1] = '\0';
    }
    return text;
}

/* One line of the wanted profile. */
static void read_setting(char *line, aip_aws_keys_t *keys)
{
    char *equals = strchr(line, '=');
    if (!equals) {
        return;
    }
    *equals = '\0';
    const char *name = trim(line), *value = trim(equals + 1);
    value = *value ? value : NULL;
    if (strcmp(name, "aws_access_key_id") == 0) {
        keys->access_key = value;
    } else if (strcmp(name, "aws_secret_access_key") == 0) {
        keys->secret_key = value;
    } else if (strcmp(name, "aws_session_token") == 0) {
        keys->token = value;
    }
}

/* Writes into `text`, where `keys` point to then. */
static void read_profile(char *text, const char *profile, aip_aws_keys_t *keys)
{
    bool wanted = false;
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        line = trim(line);
        char *close = strchr(line, ']');
        if (*line == '[' && close) {
            *close = '\0';
            wanted = strcmp(trim(line + 1), profile) == 0;
        } else if (wanted && *line != '#' && *line != ';') {
            read_setting(line, keys);
        }
    }
}

/* @return the file's text, or NULL with the reason */
static char *read_file(const char *path, apr_size_t *len, const char **reason, apr_pool_t *pool)
{
    apr_file_t *file;
    char *data = NULL, *text = apr_palloc(pool, 120);
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_FPROT_OS_DEFAULT, pool);
    *len = PROFILES_MAX;
    if (rv == APR_SUCCESS) {
        data = apr_palloc(pool, PROFILES_MAX + 1);
        rv = apr_file_read_full(file, data, *len, len);
        apr_file_close(file);
    }
    if (rv != APR_EOF) { /* success: there is more */
        *reason = rv == APR_SUCCESS ? "it is too long" : apr_strerror(rv, text, 120);
        return NULL;
    }
    data[*len] = '\0';
    return data;
}

/* The file of the user that httpd runs as, unless the environment names another; what the
 * environment names must be there. */
static apr_status_t from_profile(bool *found, aip_aws_got_t *got, apr_pool_t *pool,
                                 aip_error_t *err)
{
    const char *path = aip_identity_env("AWS_SHARED_CREDENTIALS_FILE"),
               *profile = aip_identity_env("AWS_PROFILE"), *home = aip_identity_env("HOME"),
               *reason = "there is no HOME";
    bool named = path || profile;
    aip_aws_keys_t keys = {0};
    apr_size_t len = 0;
    apr_status_t rv = APR_SUCCESS;
    path = path ? path : home ? apr_pstrcat(pool, home, "/.aws/credentials", NULL) : NULL;
    profile = profile ? profile : "default";
    char *text = path ? read_file(path, &len, &reason, pool) : NULL;
    if (text) {
        read_profile(text, profile, &keys);
        reason = apr_psprintf(pool, "profile '%s' has no keys in it", profile);
    }
    *found = keys.access_key || keys.secret_key;
    if (*found) {
        rv = take(apr_psprintf(pool, "the settings of profile '%s'", profile), keys.access_key,
                  keys.secret_key, keys.token, got, pool, err);
    } else if (named) {
        rv = aip_identity_fail(err, pool, "AWS credentials file '%s': %s",
                               path ? path : "~/.aws/credentials", reason);
    }
    aip_identity_wipe((aip_span_t){text, text ? len : 0});
    return rv;
}

static apr_status_t from_environment(bool *found, aip_aws_got_t *got, apr_pool_t *pool,
                                     aip_error_t *err)
{
    const char *access = aip_identity_env("AWS_ACCESS_KEY_ID"),
               *secret = aip_identity_env("AWS_SECRET_ACCESS_KEY");
    *found = access || secret;
    return *found ? take("the environment's AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", access,
                         secret, aip_identity_env("AWS_SESSION_TOKEN"), got, pool, err)
                  : APR_SUCCESS;
}

/* ---- the order ---- */

static apr_status_t find_base(const aip_aws_conf_t *conf, const aip_identity_net_t *net,
                              aip_aws_got_t *got, apr_pool_t *pool, aip_error_t *err)
{
    bool found = conf->access_key || conf->secret_key;
    apr_status_t rv = APR_SUCCESS;
    if (found) {
        rv = take("the configured keys", conf->access_key, conf->secret_key, NULL, got, pool, err);
    }
    if (!found) {
        rv = from_environment(&found, got, pool, err);
    }
    if (!found && rv == APR_SUCCESS) {
        rv = from_profile(&found, got, pool, err);
    }
    if (!found && rv == APR_SUCCESS) {
        rv = aip_aws_from_web_identity(conf, &found, net, got, pool, err);
    }
    if (!found && rv == APR_SUCCESS) {
        rv = aip_aws_from_container(&found, net, got, pool, err);
    }
    if (!found && rv == APR_SUCCESS) {
        rv = aip_aws_from_instance(net, got, pool, err);
    }
    return rv;
}

apr_status_t aip_aws_credentials(const aip_aws_conf_t *conf, const aip_identity_net_t *net,
                                 aip_aws_keys_t *keys, apr_interval_time_t *lifetime,
                                 apr_pool_t *pool, aip_error_t *err)
{
    aip_aws_got_t got = {0};
    apr_status_t rv = find_base(conf, net, &got, pool, err);
    if (rv == APR_SUCCESS && conf->assume_role_arn) {
        rv = aip_aws_assume_role(conf, net, &got, pool, err);
    }
    if (rv == APR_SUCCESS) {
        *keys = got.keys;
        *lifetime = got.lifetime;
    }
    return rv;
}
