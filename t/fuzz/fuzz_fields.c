/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the arguments of directives. The first two bytes choose table and row, lines of the rest
 * are the arguments. What must hold: a refusal says why, in a line that can be printed; a value
 * that is taken is told again as it was taken: set once more from its own text it has the same
 * text. */

#include "fuzz.h"

#include "aip/fields.h"

#include <apr_strings.h>

#define ARGS 8

typedef union fields_t {
    aip_location_fields_t location;
    aip_target_fields_t target;
    aip_vault_fields_t vault;
} fields_t;

static void defaults(const aip_field_t *row, fields_t *fields, apr_pool_t *pool)
{
    switch (row->place) {
    case AIP_IN_LOCATION:
        aip_location_defaults(&fields->location, pool);
        break;
    case AIP_IN_TARGET:
        aip_target_defaults(&fields->target, pool);
        break;
    case AIP_IN_VAULT:
        aip_vault_defaults(&fields->vault, pool);
        break;
    }
}

/* Takes the next argument off a line as httpd does. */
static char *next_argument(const char **line, apr_pool_t *pool)
{
    char *word = apr_palloc(pool, strlen(*line) + 1), *out = word, quote = '\0';
    const char *p = *line + strspn(*line, " ");

    if (*p == '"' || *p == '\'')
        quote = *p++;
    for (; *p && (quote ? *p != quote : *p != ' '); p++) {
        p += *p == '\\' && (p[1] == '\\' || (quote && p[1] == quote));
        *out++ = *p;
    }
    *out = '\0';
    *line = p + (quote && *p);
    return word;
}

static void set_line(const aip_field_t *row, fields_t *fields, const char *line, apr_pool_t *pool)
{
    char *argv[64];
    int argc = 0;

    do {
        argv[argc++] = next_argument(&line, pool);
    } while (*line);
    require(!aip_field_set(row, fields, argc, argv, pool));
}

/* A LIST has an argument for each line, rules and rates have a line of arguments, the others are
 * one line of all texts. */
static void check_again(const aip_field_t *row, const apr_array_header_t *text, apr_pool_t *pool)
{
    const bool whole = row->kind == AIP_KIND_ACL || row->kind == AIP_KIND_RATES;
    const bool lines = row->kind == AIP_KIND_LIST && !(row->flags & AIP_F_MANY);
    fields_t *again = apr_pcalloc(pool, sizeof *again);

    defaults(row, again, pool);
    for (int i = 0; whole && i < text->nelts; i++)
        set_line(row, again, APR_ARRAY_IDX(text, i, const char *), pool);
    for (int i = 0; lines && i < text->nelts; i++)
        require(!aip_field_set(row, again, 1, &APR_ARRAY_IDX(text, i, char *), pool));
    if (!lines && !whole)
        require(!aip_field_set(row, again, text->nelts, (char **)(void *)text->elts, pool));
    const apr_array_header_t *told = aip_field_text(row, again, pool);
    require(told && told->nelts == text->nelts);
    for (int i = 0; i < text->nelts; i++)
        require(strcmp(APR_ARRAY_IDX(told, i, char *), APR_ARRAY_IDX(text, i, char *)) == 0);
}

static void check(const aip_field_t *row, int argc, char **argv, apr_pool_t *pool)
{
    fields_t *fields = apr_pcalloc(pool, sizeof *fields);

    defaults(row, fields, pool);
    const char *refused = aip_field_set(row, fields, argc, argv, pool);
    if (refused) {
        require(*refused);
        return;
    }
    const apr_array_header_t *text = aip_field_text(row, fields, pool);
    if (text)
        check_again(row, text, pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    char *argv[ARGS];
    int argc = 0;

    if (size < 2)
        return 0;
    const aip_field_t *row = data[0] % 3 == 0   ? &aip_location_table[data[1] % AIP_LOCATION_COUNT]
                             : data[0] % 3 == 1 ? &aip_target_table[data[1] % AIP_TARGET_COUNT]
                                                : &aip_vault_table[data[1] % AIP_VAULT_COUNT];
    char *text = apr_pstrmemdup(pool, (const char *)data + 2, size - 2), *last;
    for (char *word = apr_strtok(text, "\n", &last); word && argc < ARGS;
         word = apr_strtok(NULL, "\n", &last))
        argv[argc++] = word;
    if (argc)
        check(row, argc, argv, pool);
    apr_pool_clear(pool);
    return 0;
}
