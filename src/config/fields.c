/* SPDX-License-Identifier: Apache-2.0 */
/* The directive table as data, and what follows from it: reading a value, defaults, merge. Called
 * while the configuration is read (and the merge once per request); knows no httpd. */
#include "aip/fields.h"

#include "aip/acl.h"
#include "aip/cost.h"
#include "aip/provider.h"
#include "aip/vault.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROW_DATA(kind_, place_, index_, struct_, member_, directive_, field_, default_, low_,      \
                 high_, words_, flags_, help_)                                                     \
    [index_] = {.kind = AIP_KIND_##kind_,                                                          \
                .place = place_,                                                                   \
                .index = index_,                                                                   \
                .offset = offsetof(struct_, member_),                                              \
                .size = sizeof(((struct_ *)NULL)->member_),                                        \
                .directive = directive_,                                                           \
                .field = field_,                                                                   \
                .default_text = default_,                                                          \
                .low = low_,                                                                       \
                .high = high_,                                                                     \
                .words = words_,                                                                   \
                .flags = flags_,                                                                   \
                .help = help_},
#define LOCATION_ROW(kind, member, ...)                                                            \
    ROW_DATA(kind, AIP_IN_LOCATION, AIP_L_##member, aip_location_fields_t, member, __VA_ARGS__)
#define TARGET_ROW(kind, member, ...)                                                              \
    ROW_DATA(kind, AIP_IN_TARGET, AIP_T_##member, aip_target_fields_t, member, __VA_ARGS__)
#define VAULT_ROW(kind, member, ...)                                                               \
    ROW_DATA(kind, AIP_IN_VAULT, AIP_V_##member, aip_vault_fields_t, member, __VA_ARGS__)

const aip_field_t aip_location_table[AIP_LOCATION_COUNT] = {AIP_LOCATION_FIELDS(LOCATION_ROW)};
const aip_field_t aip_target_table[AIP_TARGET_COUNT] = {AIP_TARGET_FIELDS(TARGET_ROW)};
const aip_field_t aip_vault_table[AIP_VAULT_COUNT] = {AIP_VAULT_FIELDS(VAULT_ROW)};

static unsigned char *set_of(const aip_field_t *row, void *fields)
{
    switch (row->place) {
    case AIP_IN_LOCATION:
        return ((aip_location_fields_t *)fields)->set;
    case AIP_IN_TARGET:
        return ((aip_target_fields_t *)fields)->set;
    case AIP_IN_VAULT:
        return ((aip_vault_fields_t *)fields)->set;
    }
    return NULL;
}

/* Index of `word` in words "a|b|c" whatever its case, as httpd reads its own words; or -1. */
static int word_index(const char *words, const char *word)
{
    size_t len = strlen(word);
    int index = 0;
    for (const char *p = words;; index++) {
        const char *end = strchr(p, '|');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        if (n == len && strncasecmp(p, word, n) == 0) {
            return index;
        }
        if (!end) {
            return -1;
        }
        p = end + 1;
    }
}

static const char *word_list(const char *words, apr_pool_t *pool)
{
    char *list = apr_pstrdup(pool, words);
    apr_array_header_t *parts = apr_array_make(pool, 8, sizeof(char *));
    char *state = NULL;
    for (char *w = apr_strtok(list, "|", &state); w; w = apr_strtok(NULL, "|", &state)) {
        APR_ARRAY_PUSH(parts, char *) = w;
    }
    return parts->nelts == 1
               ? words
               : apr_pstrcat(pool, "one of ", apr_array_pstrcat(pool, parts, ' '), NULL);
}

const char *aip_field_word(const aip_field_t *row, int index, apr_pool_t *pool)
{
    const char *p = row->words;
    for (; index > 0 && p; index--) {
        p = strchr(p, '|');
        p = p ? p + 1 : NULL;
    }
    if (!p) {
        return "";
    }
    const char *end = strchr(p, '|');
    return end ? apr_pstrmemdup(pool, p, (apr_size_t)(end - p)) : p;
}

static const char *bad(const aip_field_t *row, const char *value, const char *wanted,
                       apr_pool_t *pool)
{
    const char *shown = row->flags & AIP_F_SECRET ? "the value" : apr_psprintf(pool, "'%s'", value);
    return apr_psprintf(pool, "%s: %s must be %s", row->directive, shown, wanted);
}

static const char *range(const aip_field_t *row, apr_pool_t *pool)
{
    return apr_psprintf(pool, "a %snumber from %" APR_INT64_T_FMT " to %" APR_INT64_T_FMT,
                        row->kind == AIP_KIND_NUM ? "" : "whole ", (apr_int64_t)row->low,
                        (apr_int64_t)row->high); /* all bounds are whole */
}

static const char *set_flag(const aip_field_t *row, int *member, const char *value,
                            apr_pool_t *pool)
{
    if (strcasecmp(value, "on") != 0 && strcasecmp(value, "off") != 0) {
        return bad(row, value, "On or Off", pool);
    }
    *member = strcasecmp(value, "on") == 0;
    return NULL;
}

static const char *set_int(const aip_field_t *row, apr_int64_t *member, const char *value,
                           apr_pool_t *pool)
{
    char *end;
    apr_int64_t n = apr_strtoi64(value, &end, 10);
    if (end == value || *end || !(apr_isdigit(value[0]) || value[0] == '-') ||
        (double)n < row->low || (double)n > row->high) {
        return bad(row, value, range(row, pool), pool);
    }
    *member = n;
    return NULL;
}

static const char *set_num(const aip_field_t *row, aip_number_t *member, const char *value,
                           apr_pool_t *pool)
{
    aip_span_t text = {value, strlen(value)};
    double n;
    if (aip_json_validate(text, NULL) != AIP_JSON_OK || !aip_json_double(text, &n) ||
        !isfinite(n) || n < row->low || n > row->high) {
        return bad(row, value, range(row, pool), pool);
    }
    apr_uint64_t exact;
    if (row->flags & AIP_F_PRICE && !aip_decimal_read(value, AIP_PRICE_DECIMALS, &exact)) {
        return bad(
            row, value,
            apr_psprintf(pool, "%s with at most %d decimals", range(row, pool), AIP_PRICE_DECIMALS),
            pool);
    }
    *member = (aip_number_t){n, apr_pstrdup(pool, value)};
    return NULL;
}

static const char *set_words(const aip_field_t *row, unsigned *member, int argc, char *const argv[],
                             apr_pool_t *pool)
{
    unsigned mask = 0;
    for (int i = 0; i < argc; i++) {
        int index = word_index(row->words, argv[i]);
        if (index < 0) {
            return bad(row, argv[i], word_list(row->words, pool), pool);
        }
        mask |= 1u << index;
    }
    *member = mask;
    return NULL;
}

static const char *set_scope(const aip_field_t *row, aip_prompt_rule_t *member, int argc,
                             char *const argv[], apr_pool_t *pool)
{
    static const char wanted[] = "last-user, all-user, last N with N from 1 to 1000, or all";
    static const struct {
        const char *word;
        aip_prompt_scope_e scope;
        int args;
    } scopes[] = {{"last-user", AIP_PROMPT_LAST_USER, 1},
                  {"all-user", AIP_PROMPT_ALL_USER, 1},
                  {"last", AIP_PROMPT_LAST_N, 2},
                  {"all", AIP_PROMPT_ALL, 1}};
    const char *shown = argv[0];
    for (int i = 1; i < argc; i++) {
        shown = apr_pstrcat(pool, shown, " ", argv[i], NULL);
    }
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++) {
        if (strcmp(argv[0], scopes[i].word) == 0 && argc == scopes[i].args) {
            char *end = NULL;
            apr_int64_t n = argc == 2 ? apr_strtoi64(argv[1], &end, 10) : 1;
            if (n < 1 || n > 1000 || (end && *end)) {
                break;
            }
            *member = (aip_prompt_rule_t){scopes[i].scope, (int)n};
            return NULL;
        }
    }
    return bad(row, shown, wanted, pool);
}

static const char *set_sticky(const aip_field_t *row, aip_sticky_rule_t *member, int argc,
                              char *const argv[], apr_pool_t *pool)
{
    static const struct {
        const char *word;
        int args;
    } kinds[] = {[AIP_STICKY_OFF] = {"off", 1},
                 [AIP_STICKY_HEADER] = {"header", 2},
                 [AIP_STICKY_COOKIE] = {"cookie", 2},
                 [AIP_STICKY_CONVERSATION] = {"conversation", 1}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcasecmp(argv[0], kinds[i].word) == 0 && argc == kinds[i].args &&
            (argc == 1 || aip_header_name_ok(argv[1]))) {
            *member =
                (aip_sticky_rule_t){(aip_sticky_e)i, argc == 2 ? apr_pstrdup(pool, argv[1]) : NULL};
            return NULL;
        }
    }
    return bad(row, argc > 1 ? apr_pstrcat(pool, argv[0], " ", argv[1], NULL) : argv[0],
               "off, header NAME, cookie NAME or conversation", pool);
}

/* A list member is extended in place: within one section the array is the section's own. */
static void list_add(apr_array_header_t **member, bool own, const char *value, apr_pool_t *pool)
{
    if (!own || !*member) {
        *member = apr_array_make(pool, 4, sizeof(const char *));
    }
    APR_ARRAY_PUSH(*member, const char *) = value;
}

static const char *add_rule(const aip_field_t *row, apr_array_header_t **member, bool own, int argc,
                            char *const argv[], apr_pool_t *pool)
{
    const char *error;
    const aip_acl_rule_t *rule =
        aip_acl_parse(argc, argv, aip_target_table[AIP_T_model_provider].words, pool, &error);
    if (!rule) {
        return apr_psprintf(pool, "%s: %s", row->directive, error);
    }
    if (!own || !*member) {
        *member = apr_array_make(pool, 4, sizeof(const aip_acl_rule_t *));
    }
    APR_ARRAY_PUSH(*member, const aip_acl_rule_t *) = rule;
    return NULL;
}

static const char *add_rate(const aip_field_t *row, apr_array_header_t **member, bool own, int argc,
                            char *const argv[], apr_pool_t *pool)
{
    const char *error;
    const aip_rate_t *rate = aip_rate_parse(row->words, argc, argv, pool, &error);
    if (!rate) {
        return apr_psprintf(pool, "%s%s %s", row->directive,
                            strncmp(error, "takes ", 6) == 0 ? "" : ":", error);
    }
    if (!own || !*member) {
        *member = apr_array_make(pool, 4, sizeof(const aip_rate_t *));
    }
    for (int i = 0; i < (*member)->nelts; i++) {
        const aip_rate_t *other = APR_ARRAY_IDX(*member, i, const aip_rate_t *);
        if (aip_rate_same(rate, other)) {
            return apr_psprintf(pool, "%s: '%s' is about the same as '%s'; leave one of them out",
                                row->directive, rate->text, other->text);
        }
    }
    APR_ARRAY_PUSH(*member, const aip_rate_t *) = rate;
    return NULL;
}

static const char *set_enum(const aip_field_t *row, int *member, const char *value,
                            apr_pool_t *pool)
{
    int index = word_index(row->words, value);
    if (index < 0) {
        return bad(row, value, word_list(row->words, pool), pool);
    }
    *member = index;
    return NULL;
}

static const char *set_port(const aip_field_t *row, const char **member, const char *value,
                            apr_pool_t *pool)
{
    apr_int64_t n;
    const char *error = aip_reference_in(value) ? NULL : set_int(row, &n, value, pool);
    if (!error) {
        *member = apr_pstrdup(pool, value);
    }
    return error;
}

static const char *set_value(const aip_field_t *row, void *at, bool own, int argc,
                             char *const argv[], apr_pool_t *pool)
{
    switch (row->kind) {
    case AIP_KIND_FLAG:
        return set_flag(row, at, argv[0], pool);
    case AIP_KIND_INT:
        return set_int(row, at, argv[0], pool);
    case AIP_KIND_NUM:
        return set_num(row, at, argv[0], pool);
    case AIP_KIND_STR:
        if (!*argv[0]) {
            return apr_psprintf(pool, "%s: the value must not be empty", row->directive);
        }
        *(const char **)at = apr_pstrdup(pool, argv[0]);
        return NULL;
    case AIP_KIND_ENUM:
        return set_enum(row, at, argv[0], pool);
    case AIP_KIND_SET:
        return set_words(row, at, argc, argv, pool);
    case AIP_KIND_LIST:
        argc = row->flags & AIP_F_PAIR ? 1 : argc;
        for (int i = 0; i < argc; i++) {
            if (!*argv[i]) {
                return apr_psprintf(pool, "%s: the value must not be empty", row->directive);
            }
        }
        for (int i = 0; i < argc; i++) {
            list_add(at, own || i, apr_pstrdup(pool, argv[i]), pool);
        }
        return NULL;
    case AIP_KIND_SCOPE:
        return set_scope(row, at, argc, argv, pool);
    case AIP_KIND_STICKY:
        return set_sticky(row, at, argc, argv, pool);
    case AIP_KIND_PORT:
        return set_port(row, at, argv[0], pool);
    case AIP_KIND_ACL:
        return add_rule(row, at, own, argc, argv, pool);
    case AIP_KIND_RATES:
        return add_rate(row, at, own, argc, argv, pool);
    }
    return NULL;
}

static bool takes_several(const aip_field_t *row)
{
    return row->kind == AIP_KIND_SET || row->kind == AIP_KIND_SCOPE ||
           row->kind == AIP_KIND_STICKY || row->flags & AIP_F_MANY || row->kind == AIP_KIND_ACL ||
           row->kind == AIP_KIND_RATES;
}

const char *aip_field_set(const aip_field_t *row, void *fields, int argc, char *const argv[],
                          apr_pool_t *pool)
{
    unsigned char *set = set_of(row, fields);
    apr_array_header_t *parts;
    const char *error;
    bool reference = row->flags & AIP_F_VAULT && argc == 1 && aip_reference_in(argv[0]);
    int most = row->flags & AIP_F_PAIR ? 2 : takes_several(row) ? 16 : 1;
    if (row->kind != AIP_KIND_RATES && (argc < 1 || argc > most)) { /* rates count for themselves */
        return apr_psprintf(pool, "%s takes %s", row->directive,
                            row->kind == AIP_KIND_SET ? "one or more words"
                            : row->flags & AIP_F_MANY ? "one to 16 values a line"
                            : row->flags & AIP_F_PAIR ? "one or two arguments"
                            : row->kind == AIP_KIND_ACL
                                ? "one or more conditions TYPE=VALUE[,VALUE...]"
                            : argc > 1 ? "one argument; put quotes around it"
                                       : "one argument that is not empty");
    }
    if (row->flags & AIP_F_ONCE && set[row->index]) {
        return apr_psprintf(
            pool, "%s is given twice in one section; use AIRouteExample for further texts",
            row->directive);
    }
    if (reference && (error = aip_reference_split(argv[0], &parts, pool)) != NULL) {
        return apr_psprintf(pool, "%s: %s", row->directive, error);
    }
    if (row->kind == AIP_KIND_STR && !(row->flags & AIP_F_VAULT) &&
        strncmp(argv[0], "{vault:", 7) == 0) {
        return apr_psprintf(pool, "%s takes no vault reference; write the value itself",
                            row->directive);
    }
    error = set_value(row, (char *)fields + row->offset, set[row->index], argc, argv, pool);
    if (!error) {
        set[row->index] = reference ? AIP_SET_REFERENCE : AIP_SET_WRITTEN;
    }
    return error;
}

static void defaults(const aip_field_t *table, int n, void *fields, unsigned char *set,
                     apr_pool_t *pool)
{
    for (int i = 0; i < n; i++) {
        if (table[i].default_text) {
            char *argv[16], *state = NULL, *text = apr_pstrdup(pool, table[i].default_text);
            int argc = 0;
            for (char *w = apr_strtok(text, " ", &state); w && argc < 16;
                 w = apr_strtok(NULL, " ", &state)) {
                argv[argc++] = w;
            }
            (void)set_value(&table[i], (char *)fields + table[i].offset, false, argc, argv, pool);
        }
    }
    memset(set, 0, (size_t)n);
}

void aip_location_defaults(aip_location_fields_t *fields, apr_pool_t *pool)
{
    memset(fields, 0, sizeof *fields);
    defaults(aip_location_table, AIP_LOCATION_COUNT, fields, fields->set, pool);
}

void aip_target_defaults(aip_target_fields_t *fields, apr_pool_t *pool)
{
    memset(fields, 0, sizeof *fields);
    defaults(aip_target_table, AIP_TARGET_COUNT, fields, fields->set, pool);
}

void aip_vault_defaults(aip_vault_fields_t *fields, apr_pool_t *pool)
{
    memset(fields, 0, sizeof *fields);
    defaults(aip_vault_table, AIP_VAULT_COUNT, fields, fields->set, pool);
}

void aip_location_merge(aip_location_fields_t *out, const aip_location_fields_t *base,
                        const aip_location_fields_t *add)
{
    if (out != base) {
        memcpy(out, base, sizeof *out);
    }
    for (int i = 0; i < AIP_LOCATION_COUNT; i++) {
        if (add->set[i]) {
            const aip_field_t *row = &aip_location_table[i];
            memcpy((char *)out + row->offset, (const char *)add + row->offset, row->size);
            out->set[i] = add->set[i];
        }
    }
}

static void add_words(apr_array_header_t *words, const aip_field_t *row, unsigned mask,
                      apr_pool_t *pool)
{
    for (int i = 0; mask >> i; i++) {
        if (mask >> i & 1) {
            APR_ARRAY_PUSH(words, const char *) = aip_field_word(row, i, pool);
        }
    }
}

static void add_scope(apr_array_header_t *words, const aip_prompt_rule_t *rule, apr_pool_t *pool)
{
    static const char *const names[] = {"last-user", "all-user", "last", "all"};
    APR_ARRAY_PUSH(words, const char *) = names[rule->scope];
    if (rule->scope == AIP_PROMPT_LAST_N) {
        APR_ARRAY_PUSH(words, const char *) = apr_itoa(pool, rule->count);
    }
}

static void add_sticky(apr_array_header_t *words, const aip_sticky_rule_t *rule)
{
    static const char *const names[] = {"off", "header", "cookie", "conversation"};
    APR_ARRAY_PUSH(words, const char *) = names[rule->kind];
    if (rule->name) {
        APR_ARRAY_PUSH(words, const char *) = rule->name;
    }
}

const char *aip_field_argument(const char *arg, apr_pool_t *pool)
{
    if (*arg && !strpbrk(arg, " \t\"'\\")) {
        return arg;
    }
    char *text = apr_palloc(pool, 2 * strlen(arg) + 3), *out = text;
    *out++ = '"';
    for (const char *p = arg; *p; p++) {
        if (*p == '"' || *p == '\\') {
            *out++ = '\\';
        }
        *out++ = *p;
    }
    *out++ = '"';
    *out = '\0';
    return text;
}

static void add_rules(apr_array_header_t *words, const apr_array_header_t *rules)
{
    for (int i = 0; i < rules->nelts; i++) {
        APR_ARRAY_PUSH(words, const char *) = APR_ARRAY_IDX(rules, i, const aip_acl_rule_t *)->text;
    }
}

static void add_rates(apr_array_header_t *words, const apr_array_header_t *rates)
{
    for (int i = 0; i < rates->nelts; i++) {
        APR_ARRAY_PUSH(words, const char *) = APR_ARRAY_IDX(rates, i, const aip_rate_t *)->text;
    }
}

const apr_array_header_t *aip_field_text(const aip_field_t *row, const void *fields,
                                         apr_pool_t *pool)
{
    const void *at = (const char *)fields + row->offset;
    const unsigned char *set = set_of(row, (void *)fields);
    apr_array_header_t *words = apr_array_make(pool, 2, sizeof(const char *));
    if (!set[row->index] && !row->default_text) {
        return NULL;
    }
    switch (row->kind) {
    case AIP_KIND_FLAG:
        APR_ARRAY_PUSH(words, const char *) = *(const int *)at ? "On" : "Off";
        break;
    case AIP_KIND_INT:
        APR_ARRAY_PUSH(words, const char *) =
            apr_psprintf(pool, "%" APR_INT64_T_FMT, *(const apr_int64_t *)at);
        break;
    case AIP_KIND_NUM:
        APR_ARRAY_PUSH(words, const char *) = ((const aip_number_t *)at)->json;
        break;
    case AIP_KIND_STR:
    case AIP_KIND_PORT:
        APR_ARRAY_PUSH(words, const char *) = *(const char *const *)at;
        break;
    case AIP_KIND_ENUM:
        APR_ARRAY_PUSH(words, const char *) = aip_field_word(row, *(const int *)at, pool);
        break;
    case AIP_KIND_SET:
        add_words(words, row, *(const unsigned *)at, pool);
        break;
    case AIP_KIND_LIST:
        return *(apr_array_header_t *const *)at;
    case AIP_KIND_SCOPE:
        add_scope(words, at, pool);
        break;
    case AIP_KIND_STICKY:
        add_sticky(words, at);
        break;
    case AIP_KIND_ACL:
        add_rules(words, *(apr_array_header_t *const *)at);
        break;
    case AIP_KIND_RATES:
        add_rates(words, *(apr_array_header_t *const *)at);
        break;
    }
    return words;
}
