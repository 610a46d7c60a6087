/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_FIELDS_FIXTURE_H
#define AIP_T_UNIT_FIELDS_FIXTURE_H
/* One struct of each table, and ways to set and show any member of them by its row. */

#include "aip/acl.h"
#include "aip/cost.h"
#include "aip/fields.h"
#include "fixture.h"

#include <string.h>

#define N_ROWS (AIP_LOCATION_COUNT + AIP_TARGET_COUNT + AIP_VAULT_COUNT)

static aip_location_fields_t location;
static aip_target_fields_t target;
static aip_vault_fields_t vault;

static void setup(void)
{
    pool_setup();
    aip_vault_defaults(&vault, pool);
    aip_location_defaults(&location, pool);
    aip_target_defaults(&target, pool);
}

static const aip_field_t *row_at(int i)
{
    if (i < AIP_LOCATION_COUNT) {
        return &aip_location_table[i];
    }
    i -= AIP_LOCATION_COUNT;
    return i < AIP_TARGET_COUNT ? &aip_target_table[i] : &aip_vault_table[i - AIP_TARGET_COUNT];
}

static const aip_field_t *row_of(const char *directive)
{
    for (int i = 0; i < N_ROWS; i++) {
        if (strcmp(row_at(i)->directive, directive) == 0) {
            return row_at(i);
        }
    }
    ck_abort_msg("no directive %s", directive);
    return NULL;
}

static void *fields_of(const aip_field_t *row)
{
    void *const all[] = {
        [AIP_IN_LOCATION] = &location, [AIP_IN_TARGET] = &target, [AIP_IN_VAULT] = &vault};
    return all[row->place];
}

static const void *member(const aip_field_t *row, const void *fields)
{
    return (const char *)fields + row->offset;
}

static bool is_set(const aip_field_t *row)
{
    const unsigned char *const all[] = {
        [AIP_IN_LOCATION] = location.set, [AIP_IN_TARGET] = target.set, [AIP_IN_VAULT] = vault.set};
    return all[row->place][row->index];
}

/* Arguments are separated by '|', "" is one empty argument, NULL is none. */
static const char *set_in(const aip_field_t *row, void *fields, const char *args)
{
    char *argv[32], *copy = apr_pstrdup(pool, args ? args : "");
    int argc = 0;
    for (char *next = args ? copy : NULL; next; argc++) {
        argv[argc] = next;
        next = strchr(next, '|');
        if (next) {
            *next++ = '\0';
        }
    }
    return aip_field_set(row, fields, argc, argv, pool);
}

static const char *set(const char *directive, const char *args)
{
    const aip_field_t *row = row_of(directive);
    return set_in(row, fields_of(row), args);
}

/* A member's value as text. */
static const char *shown(const aip_field_t *row, const void *fields)
{
    const void *at = member(row, fields);
    switch (row->kind) {
    case AIP_KIND_FLAG:
    case AIP_KIND_ENUM:
        return apr_itoa(pool, *(const int *)at);
    case AIP_KIND_INT:
        return apr_psprintf(pool, "%" APR_INT64_T_FMT, *(const apr_int64_t *)at);
    case AIP_KIND_NUM: {
        const aip_number_t *n = at;
        return n->json ? apr_psprintf(pool, "%s=%.6f", n->json, n->value) : "unset";
    }
    case AIP_KIND_STR:
    case AIP_KIND_PORT:
        return *(const char *const *)at ? *(const char *const *)at : "unset";
    case AIP_KIND_SET:
        return apr_psprintf(pool, "0x%x", *(const unsigned *)at);
    case AIP_KIND_LIST: {
        apr_array_header_t *const *list = at;
        return *list ? apr_array_pstrcat(pool, *list, '|') : "unset";
    }
    case AIP_KIND_SCOPE: {
        const aip_prompt_rule_t *rule = at;
        return apr_psprintf(pool, "%d:%d", (int)rule->scope, rule->count);
    }
    case AIP_KIND_STICKY: {
        const aip_sticky_rule_t *rule = at;
        return apr_psprintf(pool, "%d:%s", (int)rule->kind, rule->name ? rule->name : "");
    }
    case AIP_KIND_ACL: {
        apr_array_header_t *const *rules = at;
        const char *text = *rules ? "" : "unset";
        for (int i = 0; *rules && i < (*rules)->nelts; i++) {
            text = apr_pstrcat(pool, text, i ? "|" : "",
                               APR_ARRAY_IDX(*rules, i, const aip_acl_rule_t *)->text, NULL);
        }
        return text;
    }
    case AIP_KIND_RATES: {
        apr_array_header_t *const *rates = at;
        const char *text = *rates ? "" : "unset";
        for (int i = 0; *rates && i < (*rates)->nelts; i++) {
            text = apr_pstrcat(pool, text, i ? "|" : "",
                               APR_ARRAY_IDX(*rates, i, const aip_rate_t *)->text, NULL);
        }
        return text;
    }
    }
    return "";
}

#endif
