/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of AIAclsAllow and AIAclsDeny: reading a line, and deciding with it. Parsed by
 * config/fields.c; evaluated in the thread of a request, where nothing is allocated but for the
 * elements of a header. */
#include "aip/acl.h"

#include "aip/fields.h"
#include "aip/provider.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

#define SYNTAX                                                                                     \
    "TYPE=VALUE[,VALUE...] with TYPE one of consumer, consumer_group, header:NAME, ip, model, "    \
    "path, provider"

static const char *const types[] = {
    [AIP_ACL_CONSUMER] = "consumer", [AIP_ACL_CONSUMER_GROUP] = "consumer_group",
    [AIP_ACL_HEADER] = "header",     [AIP_ACL_IP] = "ip",
    [AIP_ACL_MODEL] = "model",       [AIP_ACL_PATH] = "path",
    [AIP_ACL_PROVIDER] = "provider",
};
enum { N_TYPES = sizeof types / sizeof *types };

static bool about_target(aip_acl_type_e type)
{
    return type == AIP_ACL_MODEL || type == AIP_ACL_PROVIDER;
}

/* Reads "header:X-Name" or another type. */
static bool read_type(const char *word, size_t len, aip_acl_condition_t *condition,
                      apr_pool_t *pool)
{
    const char *colon = memchr(word, ':', len);
    size_t n = colon ? (size_t)(colon - word) : len;
    for (int i = 0; i < N_TYPES; i++) {
        if (strlen(types[i]) != n || strncasecmp(types[i], word, n) != 0 ||
            (i == AIP_ACL_HEADER) != (colon != NULL)) {
            continue;
        }
        condition->type = (aip_acl_type_e)i;
        condition->name = colon ? apr_pstrmemdup(pool, colon + 1, len - n - 1) : NULL;
        return !colon || aip_header_name_ok(condition->name);
    }
    return false;
}

/* The next value, without the blanks around it and without its backslashes. @return NULL: it is
 * empty */
static char *next_value(const char **text, apr_pool_t *pool)
{
    const char *p = *text;
    char *value = apr_palloc(pool, strlen(p) + 1), *out = value, *keep = value;
    while (*p == ' ' || *p == '\t') {
        p++;
    }
    for (; *p && *p != ','; p++) {
        bool escaped = *p == '\\' && (p[1] == ',' || p[1] == '\\');
        p += escaped;
        *out++ = *p;
        keep = escaped || (*p != ' ' && *p != '\t') ? out : keep;
    }
    *keep = '\0';
    *text = *p ? p + 1 : NULL;
    return *value ? value : NULL;
}

static bool add_subnet(apr_array_header_t *values, const char *address, const char *mask,
                       apr_pool_t *pool)
{
    apr_ipsubnet_t *subnet;
    apr_status_t rv = apr_ipsubnet_create(&subnet, address, mask, pool);
    if (rv == APR_SUCCESS) {
        APR_ARRAY_PUSH(values, const void *) = subnet;
    }
    return rv == APR_SUCCESS;
}

/* An address, or a network; unlike for httpd's own, "10" is none: it is more likely a mistake. */
static bool add_network(apr_array_header_t *values, char *value, apr_pool_t *pool)
{
    char *mask = strchr(value, '/');
    bool v6 = strchr(value, ':') != NULL;
    int dots = 0;
    if (mask) {
        *mask++ = '\0';
    }
    for (const char *p = value; *p; p++) {
        dots += *p == '.';
    }
    if ((!v6 && dots != 3) || (mask && !*mask)) {
        return false;
    }
    if (mask && strcmp(mask, "0") == 0) { /* which APR does not know: both halves of it */
        return add_subnet(values, value, "1", pool) &&
               add_subnet(values, v6 ? "::" : "0.0.0.0", "1", pool) &&
               add_subnet(values, v6 ? "8000::" : "128.0.0.0", "1", pool);
    }
    return add_subnet(values, value, mask, pool);
}

/* The word as the table has it. */
static const char *read_provider(const char *value, const char *words, apr_pool_t *pool)
{
    size_t len = strlen(value);
    for (const char *p = words; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        size_t n = strcspn(p, "|");
        if (n == len && strncasecmp(p, value, n) == 0) {
            return apr_pstrmemdup(pool, p, n);
        }
    }
    return NULL;
}

static const char *read_value(aip_acl_condition_t *condition, char *value, const char *providers,
                              apr_pool_t *pool)
{
    const char *shown = apr_pstrdup(pool, value), *star;
    const void *made = value;
    switch (condition->type) {
    case AIP_ACL_IP:
        return add_network(condition->values, value, pool)
                   ? NULL
                   : apr_psprintf(pool,
                                  "'%s' is neither an IP address nor a network such as 10.0.0.0/8 "
                                  "or 2001:db8::/32",
                                  shown);
    case AIP_ACL_PATH:
        star = strchr(value, '*');
        if (*value != '/' || (star && star[1])) {
            return apr_psprintf(
                pool, "'%s' is no path; it begins with '/', and a '*' can only be at its end",
                shown);
        }
        break;
    case AIP_ACL_PROVIDER:
        made = read_provider(value, providers, pool);
        if (!made) {
            return apr_psprintf(pool, "'%s' is no provider that AIModelProvider can name", shown);
        }
        break;
    case AIP_ACL_CONSUMER:
    case AIP_ACL_CONSUMER_GROUP:
    case AIP_ACL_HEADER:
    case AIP_ACL_MODEL:
        break;
    }
    APR_ARRAY_PUSH(condition->values, const void *) = made;
    return NULL;
}

static const char *read_condition(const char *arg, aip_acl_condition_t *condition,
                                  const char *providers, apr_pool_t *pool)
{
    const char *equals = strchr(arg, '='), *values, *error = NULL;
    if (!equals || !read_type(arg, (size_t)(equals - arg), condition, pool)) {
        return apr_psprintf(pool, "'%s' must be " SYNTAX, arg);
    }
    condition->values = apr_array_make(pool, 4, sizeof(const void *));
    for (values = equals + 1; values && !error;) {
        char *value = next_value(&values, pool);
        error = value ? read_value(condition, value, providers, pool)
                      : "a value is empty; write '\\,' for a comma that is part of a value";
    }
    return error ? apr_psprintf(pool, "'%s': %s", arg, error) : NULL;
}

aip_acl_rule_t *aip_acl_parse(int argc, char *const argv[], const char *providers, apr_pool_t *pool,
                              const char **error)
{
    aip_acl_rule_t *rule = apr_pcalloc(pool, sizeof *rule);
    rule->conditions = apr_array_make(pool, argc, sizeof(aip_acl_condition_t));
    rule->text = "";
    *error = NULL;
    for (int i = 0; i < argc; i++) {
        aip_acl_condition_t *condition = apr_array_push(rule->conditions);
        *error = read_condition(argv[i], condition, providers, pool);
        if (*error) {
            return NULL;
        }
        rule->of_target = rule->of_target || about_target(condition->type);
        rule->text =
            apr_pstrcat(pool, rule->text, i ? " " : "", aip_field_argument(argv[i], pool), NULL);
    }
    return rule;
}

static bool has_text(const apr_array_header_t *values, const char *text)
{
    for (int i = 0; text && i < values->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(values, i, const char *), text) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_group(const apr_array_header_t *values, const apr_array_header_t *groups)
{
    for (int i = 0; groups && i < groups->nelts; i++) {
        if (has_text(values, APR_ARRAY_IDX(groups, i, const char *))) {
            return true;
        }
    }
    return false;
}

static bool has_address(const apr_array_header_t *values, apr_sockaddr_t *address)
{
    for (int i = 0; address && i < values->nelts; i++) {
        if (apr_ipsubnet_test(APR_ARRAY_IDX(values, i, apr_ipsubnet_t *), address)) {
            return true;
        }
    }
    return false;
}

static bool has_path(const apr_array_header_t *values, const char *path)
{
    for (int i = 0; path && i < values->nelts; i++) {
        const char *value = APR_ARRAY_IDX(values, i, const char *);
        size_t len = strlen(value);
        if (value[len - 1] == '*' ? strncmp(value, path, len - 1) == 0 : strcmp(value, path) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_element(const char *p, const char *value)
{
    size_t len = strlen(value);
    if (strncmp(p, value, len) != 0) {
        return false;
    }
    p += len + strspn(p + len, " \t");
    return *p == '\0' || *p == ',';
}

/* One of the elements between the commas of a header that came twice, or that somebody on the way
 * added to: whoever is denied by a value must not get in by a second one beside it. */
static bool has_element(const apr_array_header_t *values, const char *text)
{
    for (const char *p = text; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        p += strspn(p, " \t");
        for (int i = 0; i < values->nelts; i++) {
            if (is_element(p, APR_ARRAY_IDX(values, i, const char *))) {
                return true;
            }
        }
    }
    return false;
}

static bool holds(const aip_acl_condition_t *c, const aip_acl_facts_t *facts, bool deny)
{
    const char *header;
    switch (c->type) {
    case AIP_ACL_CONSUMER:
        return has_text(c->values, facts->consumer);
    case AIP_ACL_CONSUMER_GROUP:
        return has_group(c->values, facts->groups);
    case AIP_ACL_HEADER:
        header = facts->headers ? apr_table_get(facts->headers, c->name) : NULL;
        return has_text(c->values, header) || (deny && has_element(c->values, header));
    case AIP_ACL_IP:
        return has_address(c->values, facts->address);
    case AIP_ACL_MODEL:
        return has_text(c->values, facts->model);
    case AIP_ACL_PATH:
        return has_path(c->values, facts->path);
    case AIP_ACL_PROVIDER:
        return has_text(c->values, facts->provider);
    }
    return false;
}

/* @param any_target  conditions about targets count as fulfilled */
static bool matches(const aip_acl_rule_t *rule, const aip_acl_facts_t *facts, bool deny,
                    bool any_target)
{
    for (int i = 0; i < rule->conditions->nelts; i++) {
        const aip_acl_condition_t *c = &APR_ARRAY_IDX(rule->conditions, i, aip_acl_condition_t);
        if (!(any_target && about_target(c->type)) && !holds(c, facts, deny)) {
            return false;
        }
    }
    return true;
}

static aip_acl_verdict_t decide(const apr_array_header_t *allow, const apr_array_header_t *deny,
                                const aip_acl_facts_t *facts, bool target)
{
    for (int i = 0; deny && i < deny->nelts; i++) {
        const aip_acl_rule_t *rule = APR_ARRAY_IDX(deny, i, const aip_acl_rule_t *);
        if (rule->of_target == target && matches(rule, facts, true, false)) {
            return (aip_acl_verdict_t){.denied = true, .rule = rule};
        }
    }
    for (int i = 0; allow && i < allow->nelts; i++) {
        if (matches(APR_ARRAY_IDX(allow, i, const aip_acl_rule_t *), facts, false, !target)) {
            return (aip_acl_verdict_t){.denied = false};
        }
    }
    return (aip_acl_verdict_t){.denied = allow && allow->nelts};
}

aip_acl_verdict_t aip_acls_request(const apr_array_header_t *allow, const apr_array_header_t *deny,
                                   const aip_acl_facts_t *facts)
{
    return decide(allow, deny, facts, false);
}

aip_acl_verdict_t aip_acls_target(const apr_array_header_t *allow, const apr_array_header_t *deny,
                                  const aip_acl_facts_t *facts)
{
    return decide(allow, deny, facts, true);
}

static bool some_of_target(const apr_array_header_t *rules)
{
    for (int i = 0; rules && i < rules->nelts; i++) {
        if (APR_ARRAY_IDX(rules, i, const aip_acl_rule_t *)->of_target) {
            return true;
        }
    }
    return false;
}

bool aip_acls_of_target(const apr_array_header_t *allow, const apr_array_header_t *deny)
{
    return some_of_target(allow) || some_of_target(deny);
}
