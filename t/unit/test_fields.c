/* SPDX-License-Identifier: Apache-2.0 */
/* The table of directives: its own consistency, every kind of value with what it refuses and how it
 * says so, the bounds of every row, defaults, and the merge of every row. */

#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#include "aip/acl.h"
#include "aip/fields.h"
#include "fields_fixture.h"

Suite *fields_suite(void);

START_TEST(table_is_consistent)
{
    static const size_t sizes[] = {sizeof(int),
                                   sizeof(apr_int64_t),
                                   sizeof(aip_number_t),
                                   sizeof(char *),
                                   sizeof(int),
                                   sizeof(unsigned),
                                   sizeof(void *),
                                   sizeof(aip_prompt_rule_t),
                                   sizeof(aip_sticky_rule_t),
                                   sizeof(char *),
                                   sizeof(void *),
                                   sizeof(void *)};
    static const size_t rooms[] = {[AIP_IN_LOCATION] = offsetof(aip_location_fields_t, set),
                                   [AIP_IN_TARGET] = offsetof(aip_target_fields_t, set),
                                   [AIP_IN_VAULT] = offsetof(aip_vault_fields_t, set)};
    static const int firsts[] = {[AIP_IN_TARGET] = AIP_LOCATION_COUNT,
                                 [AIP_IN_VAULT] = AIP_LOCATION_COUNT + AIP_TARGET_COUNT};
    for (int i = 0; i < N_ROWS; i++) {
        const aip_field_t *row = row_at(i);
        size_t room = rooms[row->place];
        ck_assert_int_eq(row->index, i - firsts[row->place]);
        ck_assert_uint_eq(row->size, sizes[row->kind]);
        ck_assert_uint_le(row->offset + row->size, room);
        ck_assert_msg(row->help && strlen(row->help) > 4 && row->help[strlen(row->help) - 1] == '.',
                      "%s", row->directive);
        ck_assert_msg((row->kind == AIP_KIND_ENUM || row->kind == AIP_KIND_SET ||
                       row->kind == AIP_KIND_RATES) == (row->words != NULL),
                      "%s", row->directive);
        ck_assert_msg((row->kind == AIP_KIND_INT || row->kind == AIP_KIND_NUM ||
                       row->kind == AIP_KIND_PORT) == (row->low < row->high),
                      "%s", row->directive);
        ck_assert_msg(!(row->flags & AIP_F_SECRET) || row->flags & AIP_F_VAULT, "%s",
                      row->directive);
        for (int k = 0; k < i; k++) {
            const aip_field_t *other = row_at(k);
            ck_assert_str_ne(row->directive, other->directive);
            ck_assert_msg(strcmp(row->field, "-") == 0 || strcmp(row->field, other->field) != 0,
                          "%s", row->field);
            ck_assert_msg(row->place != other->place ||
                              row->offset >= other->offset + other->size ||
                              other->offset >= row->offset + row->size,
                          "%s and %s overlap", row->directive, other->directive);
        }
    }
}
END_TEST

/* A row's default is what its directive makes of the same text, and does not count as set. */
START_TEST(defaults)
{
    aip_location_fields_t blank_location = {0};
    aip_target_fields_t blank_target = {0};
    aip_vault_fields_t blank_vault = {0};
    void *const blanks[] = {[AIP_IN_LOCATION] = &blank_location,
                            [AIP_IN_TARGET] = &blank_target,
                            [AIP_IN_VAULT] = &blank_vault};
    for (int i = 0; i < N_ROWS; i++) {
        const aip_field_t *row = row_at(i);
        void *blank = blanks[row->place];
        const char *before = shown(row, fields_of(row));
        ck_assert_msg(!is_set(row), "%s", row->directive);
        if (!row->default_text) {
            ck_assert_msg(strcmp(before, shown(row, blank)) == 0, "%s: %s", row->directive, before);
            continue;
        }
        char *args = apr_pstrdup(pool, row->default_text);
        for (char *p = args; row->kind == AIP_KIND_SET && *p; p++) {
            *p = *p == ' ' ? '|' : *p;
        }
        const char *error = set_in(row, blank, args);
        ck_assert_msg(!error, "%s", error);
        ck_assert_msg(strcmp(shown(row, blank), before) == 0, "%s: %s", row->directive, before);
    }
    ck_assert_int_eq(location.enabled, 0);
    ck_assert_int_eq(location.model_name_header, 1);
    ck_assert_int_eq(location.max_request_body_size, 1048576);
    ck_assert_int_eq(location.vectordb_strategy, AIP_STRATEGY_MEMORY);
    ck_assert_uint_eq(location.balancer_failover_criteria,
                      AIP_CRITERION_ERROR | AIP_CRITERION_TIMEOUT);
    ck_assert_str_eq(location.vectordb_redis_host, "127.0.0.1");
    ck_assert_int_eq(location.route_prompt.scope, AIP_PROMPT_LAST_USER);
    ck_assert_int_eq(target.weight, 100);
    ck_assert_str_eq(target.azure_api_version, "2023-05-15");
}
END_TEST

static const struct {
    const char *directive, *args;
    const char *shown;    /* value, when it is accepted */
    const char *error[3]; /* what its message must hold, when it is not */
} values[] = {
    {"AIProxy", "On", "1", {0}},
    {"AIProxy", "oFF", "0", {0}},
    {"AIProxy", "1", NULL, {"AIProxy: '1' must be On or Off"}},
    {"AIProxy", "", NULL, {"''", "On or Off"}},
    {"AIProxy", "On|Off", NULL, {"AIProxy takes one argument"}},
    {"AIProxy", NULL, NULL, {"AIProxy takes one argument"}},
    {"AIBalancerRetries", "0", "0", {0}},
    {"AIBalancerRetries", "32767", "32767", {0}},
    {"AIBalancerRetries",
     "32768",
     NULL,
     {"AIBalancerRetries: '32768' must be a whole number from 0 to 32767"}},
    {"AIBalancerRetries", "-1", NULL, {"'-1'"}},
    {"AIBalancerRetries", "+1", NULL, {"'+1'"}},
    {"AIBalancerRetries", " 1", NULL, {"' 1'"}},
    {"AIBalancerRetries", "1 ", NULL, {"'1 '"}},
    {"AIBalancerRetries", "1.0", NULL, {"'1.0'"}},
    {"AIBalancerRetries", "1e2", NULL, {"'1e2'"}},
    {"AIBalancerRetries", "0x10", NULL, {"'0x10'"}},
    {"AIBalancerRetries", "-", NULL, {"'-'"}},
    {"AIBalancerRetries", "", NULL, {"''"}},
    {"AIBalancerRetries", "99999999999999999999", NULL, {"'99999999999999999999'"}},
    {"AIBalancerRetries", "18446744073709551617", NULL, {"'18446744073709551617'"}},
    {"AIModelOptionsTemperature", "0", "0=0.000000", {0}},
    {"AIModelOptionsTemperature", "0.70", "0.70=0.700000", {0}},
    {"AIModelOptionsTemperature", "5", "5=5.000000", {0}},
    {"AIModelOptionsTemperature", "1e-2", "1e-2=0.010000", {0}},
    {"AIModelOptionsTemperature",
     "5.0001",
     NULL,
     {"AIModelOptionsTemperature: '5.0001' must be a number from 0 to 5"}},
    {"AIModelOptionsTemperature", "-0.1", NULL, {"'-0.1'"}},
    {"AIModelOptionsTemperature", ".5", NULL, {"'.5'"}},
    {"AIModelOptionsTemperature", "0,5", NULL, {"'0,5'"}},
    {"AIModelOptionsTemperature", "nan", NULL, {"'nan'"}},
    {"AIModelOptionsTemperature", "Infinity", NULL, {"'Infinity'"}},
    {"AIModelOptionsTemperature", "1e999", NULL, {"'1e999'"}},
    {"AIModelOptionsTemperature", "0x1p1", NULL, {"'0x1p1'"}},
    {"AIModelOptionsTemperature", "true", NULL, {"'true'"}},
    {"AIModelOptionsTemperature", "\"1\"", NULL, {"'\"1\"'"}},
    {"AIModelOptionsTemperature", "", NULL, {"''"}},
    {"AIModelName", "gpt-4o", "gpt-4o", {0}},
    {"AIModelName", "two words", "two words", {0}},
    {"AIModelName", "two|words", NULL, {"AIModelName takes one argument; put quotes around it"}},
    {"AIModelName", "", NULL, {"AIModelName: the value must not be empty"}},
    {"AIModelName",
     "{vault://env/AIP_T_FIELD}",
     NULL,
     {"AIModelName takes no vault reference"}}, /* not a field for references */
    {"AIResponseStreaming", "deny", "1", {0}},
    {"AIResponseStreaming", "Deny", "1", {0}},
    {"AIResponseStreaming", "allow|deny", NULL, {"takes one argument"}},
    {"AIResponseStreaming", "den", NULL, {"'den'"}},
    {"AIResponseStreaming", "denyx", NULL, {"'denyx'"}},
    {"AIResponseStreaming", "", NULL, {"''"}},
    {"AILlmFormat", "anthropic", NULL, {"AILlmFormat: 'anthropic' must be openai"}},
    {"AIVectordbStrategy", "milvus", NULL, {"'milvus'", "one of memory redis pgvector"}},
    {"AIBalancerFailoverCriteria", "http_429", "0x20", {0}},
    {"AIBalancerFailoverCriteria", "timeout|error|non_idempotent", "0x403", {0}},
    {"AIBalancerFailoverCriteria", "error|error", "0x1", {0}},
    {"AIBalancerFailoverCriteria",
     "error|http_418",
     NULL,
     {"AIBalancerFailoverCriteria: 'http_418'", "one of error"}},
    {"AIBalancerFailoverCriteria", "error timeout", NULL, {"'error timeout'"}},
    {"AIBalancerFailoverCriteria", NULL, NULL, {"takes one or more words"}},
    {"AIRoutePrompt", "last-user", "0:1", {0}},
    {"AIRoutePrompt", "all", "3:1", {0}},
    {"AIRoutePrompt", "last|7", "2:7", {0}},
    {"AIRoutePrompt", "last|1000", "2:1000", {0}},
    {"AIRoutePrompt", "last", NULL, {"AIRoutePrompt: 'last' must be", "last N"}},
    {"AIRoutePrompt", "last|0", NULL, {"'last 0'"}},
    {"AIRoutePrompt", "last|1001", NULL, {"'last 1001'"}},
    {"AIRoutePrompt", "last|x", NULL, {"'last x'"}},
    {"AIRoutePrompt", "last|2x", NULL, {"'last 2x'"}},
    {"AIRoutePrompt", "last|", NULL, {"'last '"}},
    {"AIRoutePrompt", "last|1|2", NULL, {"AIRoutePrompt"}},
    {"AIRoutePrompt", "all|2", NULL, {"AIRoutePrompt"}},
    {"AIRoutePrompt", "everything", NULL, {"'everything'"}},
    {"AIRouteSticky", "off", "0:", {0}},
    {"AIRouteSticky", "Conversation", "3:", {0}},
    {"AIRouteSticky", "header|X-Session", "1:X-Session", {0}},
    {"AIRouteSticky", "cookie|sid", "2:sid", {0}},
    {"AIRouteSticky", "header", NULL, {"AIRouteSticky: 'header' must be off, header NAME"}},
    {"AIRouteSticky", "off|x", NULL, {"'off x'"}},
    {"AIRouteSticky", "conversation|x", NULL, {"'conversation x'"}},
    {"AIRouteSticky", "header|a b", NULL, {"'header a b'"}},
    {"AIRouteSticky", "header|", NULL, {"'header '"}},
    {"AIRouteSticky", "session", NULL, {"'session'"}},
    {"AIRouteMargin", "0.05", "0.05=0.050000", {0}},
    {"AIRouteMargin", "-1", NULL, {"'-1'"}},
    {"AIRouteAggregate", "topk-mean", "2", {0}},
    {"AITargetAccepts", "text", "0x1", {0}},
    {"AITargetAccepts", "tools|images|audio|json_schema", "0x1e", {0}},
    {"AITargetAccepts", "video", NULL, {"AITargetAccepts: 'video'", "one of text tools"}},
    {"AIRouteThreshold", "0.4", "0.4=0.400000", {0}},
    {"AIRouteExample", "one", "one", {0}},
    {"AIRouteExample", "", NULL, {"AIRouteExample: the value must not be empty"}},
    {"AIRouteExample", "one|two", NULL, {"takes one argument; put quotes around it"}},
    {"AIAuthHeaderValue",
     "Bearer {vault://env/AIP_T_FIELD}",
     "Bearer {vault://env/AIP_T_FIELD}",
     {0}},
    {"AIAuthHeaderValue",
     "{vault://env/AIP_T_NONE",
     NULL,
     {"AIAuthHeaderValue: a vault reference must look like"}},
    {"AIVectordbRedisPort", "{vault://env/AIP_T_PORT}", "{vault://env/AIP_T_PORT}", {0}},
    {"AIVectordbRedisPort", "6380", "6380", {0}},
    {"AIVectordbRedisPort", "65536", NULL, {"AIVectordbRedisPort", "whole number"}},
    {"AIVectordbRedisPort", "6380x", NULL, {"AIVectordbRedisPort", "whole number"}},
    {"AIVaultKv", "v2", "1", {0}},
    {"AIVaultKv", "v3", NULL, {"AIVaultKv: 'v3'", "one of v1 v2"}},
    {"AIVaultTtl", "-1", NULL, {"AIVaultTtl: '-1'"}},
    {"AIVaultToken", "{vault://env/AIP_T_FIELD}", "{vault://env/AIP_T_FIELD}", {0}},
    {"AIVectordbThreshold", "0.8", "0.8=0.800000", {0}},
    {"AIVectordbThreshold", "0", "0=0.000000", {0}},
};

/* What aip_field_text() writes, read again. */
static const char *read_back(const aip_field_t *row)
{
    aip_location_fields_t l;
    aip_target_fields_t t;
    aip_vault_fields_t v;
    void *const all[] = {[AIP_IN_LOCATION] = &l, [AIP_IN_TARGET] = &t, [AIP_IN_VAULT] = &v};
    void *fields = all[row->place];
    aip_vault_defaults(&v, pool);
    aip_location_defaults(&l, pool);
    aip_target_defaults(&t, pool);
    const apr_array_header_t *words = aip_field_text(row, fields_of(row), pool);
    ck_assert_ptr_nonnull(words);
    const char *error = set_in(row, fields, apr_array_pstrcat(pool, words, '|'));
    ck_assert_msg(!error, "%s", error);
    return shown(row, fields);
}

START_TEST(reads)
{
    const aip_field_t *row = row_of(values[_i].directive);
    const char *before = shown(row, fields_of(row));
    setenv("AIP_T_FIELD", "s3cret", 1);
    setenv("AIP_T_PORT", "6380", 1);
    const char *error = set(values[_i].directive, values[_i].args);
    if (values[_i].shown) {
        ck_assert_msg(!error, "%s %s: %s", values[_i].directive, values[_i].args, error);
        ck_assert_str_eq(shown(row, fields_of(row)), values[_i].shown);
        ck_assert(is_set(row));
        ck_assert_str_eq(read_back(row), values[_i].shown);
        return;
    }
    ck_assert_msg(error != NULL, "%s %s", values[_i].directive, values[_i].args);
    for (size_t i = 0; i < 3 && values[_i].error[i]; i++) {
        ck_assert_msg(strstr(error, values[_i].error[i]) != NULL, "%s", error);
    }
    ck_assert_msg(!strstr(error, "s3cret"), "a secret is shown: %s", error);
    ck_assert_str_eq(shown(row, fields_of(row)), before);
    ck_assert(!is_set(row));
}
END_TEST

/* Both bounds of every number are inside, the next whole number beyond is outside. */
START_TEST(bounds)
{
    static const struct {
        int at_high, off;
        bool ok;
    } probes[] = {{0, 0, true}, {0, -1, false}, {1, 0, true}, {1, 1, false}};
    for (int i = 0; i < N_ROWS; i++) {
        const aip_field_t *row = row_at(i);
        for (size_t p = 0; (row->kind == AIP_KIND_INT || row->kind == AIP_KIND_NUM) && p < 4; p++) {
            double bound = probes[p].at_high ? row->high : row->low;
            const char *text = apr_psprintf(pool, "%.0f", bound + probes[p].off);
            const char *error = set_in(row, fields_of(row), text);
            ck_assert_msg((error == NULL) == probes[p].ok, "%s %s: %s", row->directive, text,
                          error);
        }
    }
}
END_TEST

/* Every word of every row is read as its index, and aip_field_word() gives it back. */
START_TEST(words)
{
    for (int i = 0; i < N_ROWS; i++) {
        const aip_field_t *row = row_at(i);
        int index = 0;
        bool worded = row->words && row->kind != AIP_KIND_RATES;
        char *state = NULL, *copy = apr_pstrdup(pool, worded ? row->words : "");
        for (char *w = apr_strtok(copy, "|", &state); w;
             w = apr_strtok(NULL, "|", &state), index++) {
            ck_assert_str_eq(aip_field_word(row, index, pool), w);
            ck_assert_ptr_null(set_in(row, fields_of(row), w));
            unsigned got = *(const unsigned *)member(row, fields_of(row));
            ck_assert_uint_eq(got, row->kind == AIP_KIND_SET ? 1u << index : (unsigned)index);
        }
        if (worded) {
            ck_assert_str_eq(aip_field_word(row, index, pool), "");
        }
    }
}
END_TEST

/* The enums of fields.h name indexes of the words. */
START_TEST(enums_follow_words)
{
    static const struct {
        const char *directive;
        int index;
        const char *word;
    } rows[] = {
        {"AIResponseStreaming", AIP_STREAMING_ALLOW, "allow"},
        {"AIResponseStreaming", AIP_STREAMING_DENY, "deny"},
        {"AIResponseStreaming", AIP_STREAMING_ALWAYS, "always"},
        {"AIClientModel", AIP_CLIENT_MODEL_IGNORE, "ignore"},
        {"AIClientModel", AIP_CLIENT_MODEL_STRICT, "strict"},
        {"AIBalancerAlgorithm", AIP_ALGORITHM_ROUND_ROBIN, "round-robin"},
        {"AIBalancerAlgorithm", AIP_ALGORITHM_SEMANTIC, "semantic"},
        {"AIAuthParamLocation", AIP_PARAM_QUERY, "query"},
        {"AIAuthParamLocation", AIP_PARAM_BODY, "body"},
        {"AIEmbeddingsAuthParamLocation", AIP_PARAM_QUERY, "query"},
        {"AIEmbeddingsAuthParamLocation", AIP_PARAM_BODY, "body"},
        {"AIEmbeddingsModelProvider", AIP_EMBEDDER_OPENAI, "openai"},
        {"AIEmbeddingsModelProvider", AIP_EMBEDDER_AZURE, "azure"},
        {"AIEmbeddingsModelProvider", AIP_EMBEDDER_MISTRAL, "mistral"},
        {"AIEmbeddingsModelProvider", AIP_EMBEDDER_OLLAMA, "ollama"},
        {"AIEmbeddingsModelProvider", AIP_EMBEDDER_LOCAL, "local"},
        {"AIEmbeddingsSendDimensions", AIP_DIMENSIONS_AUTO, "auto"},
        {"AIEmbeddingsSendDimensions", AIP_DIMENSIONS_ON, "on"},
        {"AIEmbeddingsSendDimensions", AIP_DIMENSIONS_OFF, "off"},
        {"AIVectordbStrategy", AIP_STRATEGY_MEMORY, "memory"},
        {"AIVectordbStrategy", AIP_STRATEGY_REDIS, "redis"},
        {"AIVectordbStrategy", AIP_STRATEGY_PGVECTOR, "pgvector"},
        {"AIVectordbPgvectorSslVersion", AIP_TLS_ANY, "any"},
        {"AIVectordbPgvectorSslVersion", AIP_TLS_1_2, "tlsv1_2"},
        {"AIVectordbPgvectorSslVersion", AIP_TLS_1_3, "tlsv1_3"},
        {"AIVectordbDistanceMetric", 0, "cosine"},
        {"AIVectordbDistanceMetric", 1, "euclidean"},
        {"AIRouteAggregate", 0, "max"},
        {"AIRouteAggregate", 1, "mean"},
        {"AIRouteAggregate", 2, "topk-mean"},
        {"AIExplain", AIP_EXPLAIN_OFF, "off"},
        {"AIExplain", AIP_EXPLAIN_HEADERS, "headers"},
        {"AIExplain", AIP_EXPLAIN_BODY, "body"},
    };
    static const char *const criteria[] = {"error",    "timeout",  "invalid_header", "http_403",
                                           "http_404", "http_429", "http_500",       "http_502",
                                           "http_503", "http_504", "non_idempotent"};
    static const unsigned masks[] = {
        AIP_CRITERION_ERROR,    AIP_CRITERION_TIMEOUT,       AIP_CRITERION_INVALID_HEADER,
        AIP_CRITERION_HTTP_403, AIP_CRITERION_HTTP_404,      AIP_CRITERION_HTTP_429,
        AIP_CRITERION_HTTP_500, AIP_CRITERION_HTTP_502,      AIP_CRITERION_HTTP_503,
        AIP_CRITERION_HTTP_504, AIP_CRITERION_NON_IDEMPOTENT};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_str_eq(aip_field_word(row_of(rows[i].directive), rows[i].index, pool),
                         rows[i].word);
    }
    for (size_t i = 0; i < sizeof criteria / sizeof *criteria; i++) {
        ck_assert_ptr_null(set("AIBalancerFailoverCriteria", criteria[i]));
        ck_assert_uint_eq(location.balancer_failover_criteria, masks[i]);
    }
}
END_TEST

START_TEST(said_again)
{
    ck_assert_ptr_null(set("AIRouteExample", "one"));
    ck_assert_ptr_null(set("AIRouteExample", "two"));
    ck_assert_str_eq(shown(row_of("AIRouteExample"), &target), "one|two");
    ck_assert_ptr_null(set("AIWeight", "1"));
    ck_assert_ptr_null(set("AIWeight", "2"));
    ck_assert_int_eq(target.weight, 2);
    ck_assert_ptr_null(set("AIDescription", "first"));
    const char *error = set("AIDescription", "second");
    ck_assert_ptr_nonnull(error);
    ck_assert_ptr_nonnull(strstr(error, "AIDescription is given twice"));
    ck_assert_ptr_nonnull(strstr(error, "AIRouteExample"));
    ck_assert_str_eq(target.description, "first");
}
END_TEST

/* Values outlive the arguments they were read from. */
START_TEST(values_are_copies)
{
    char text[] = "0.5", word[] = "gpt";
    char *number[] = {text}, *name[] = {word};
    ck_assert_ptr_null(aip_field_set(row_of("AIModelOptionsTopP"), &target, 1, number, pool));
    ck_assert_ptr_null(aip_field_set(row_of("AIModelName"), &target, 1, name, pool));
    ck_assert_ptr_null(aip_field_set(row_of("AIRouteExample"), &target, 1, name, pool));
    memset(text, 'x', sizeof text);
    memset(word, 'x', sizeof word);
    ck_assert_str_eq(target.top_p.json, "0.5");
    ck_assert_str_eq(target.model_name, "gpt");
    ck_assert_str_eq(APR_ARRAY_IDX(target.route_example, 0, const char *), "gpt");
}
END_TEST

/* Two values of a row that differ from each other and, if it can be, from the default. */
static const char *sample(const aip_field_t *row, int which)
{
    static const char *const scopes[] = {"all", "last|3"};
    switch (row->kind) {
    case AIP_KIND_FLAG:
        return which ? "On" : "Off";
    case AIP_KIND_INT:
    case AIP_KIND_NUM:
    case AIP_KIND_PORT:
        return apr_psprintf(pool, "%.0f", which ? row->low + 1 : row->low);
    case AIP_KIND_STR:
    case AIP_KIND_LIST:
        return which ? "one" : "two";
    case AIP_KIND_ENUM:
        return aip_field_word(row, which && strchr(row->words, '|') ? 1 : 0, pool);
    case AIP_KIND_SET:
        return which ? "http_404" : "http_500|timeout";
    case AIP_KIND_SCOPE:
        return scopes[which];
    case AIP_KIND_STICKY:
        return which ? "header|X-Session" : "conversation";
    case AIP_KIND_ACL:
        return which ? "consumer=a|ip=10.0.0.0/8" : "model=m";
    case AIP_KIND_RATES:
        return which ? "5m|1" : "1h|2"; /* of targets only, which do not merge */
    }
    return "";
}

/* For every row: what the inner section says wins, what it leaves out is inherited, and no other
 * row changes. */
START_TEST(merges)
{
    const aip_field_t *row = &aip_location_table[_i / 4];
    bool in_base = _i & 1, in_add = _i & 2;
    aip_location_fields_t base, add, out, untouched;
    aip_location_defaults(&base, pool);
    aip_location_defaults(&add, pool);
    aip_location_defaults(&untouched, pool);
    const char *expected = shown(row, &base);
    if (in_base) {
        ck_assert_ptr_null(set_in(row, &base, sample(row, 0)));
        expected = shown(row, &base);
    }
    if (in_add) {
        ck_assert_ptr_null(set_in(row, &add, sample(row, 1)));
        expected = shown(row, &add);
    }
    aip_location_merge(&out, &base, &add);
    aip_location_merge(&base, &base, &add); /* in place gives the same */
    for (int i = 0; i < AIP_LOCATION_COUNT; i++) {
        const aip_field_t *other = &aip_location_table[i];
        const char *want = other == row ? expected : shown(other, &untouched);
        ck_assert_msg(strcmp(shown(other, &out), want) == 0, "%s %s", other->directive,
                      shown(other, &out));
        ck_assert_msg(strcmp(shown(other, &base), want) == 0, "%s %s", other->directive,
                      shown(other, &base));
        ck_assert_int_eq(out.set[i], other == row && (in_base || in_add));
        ck_assert_int_eq(base.set[i], out.set[i]);
    }
}
END_TEST

/* An inner section can say the default again. */
START_TEST(merges_back_to_the_default)
{
    aip_location_fields_t base, add, out;
    aip_location_defaults(&base, pool);
    aip_location_defaults(&add, pool);
    ck_assert_ptr_null(set_in(row_of("AIProxy"), &base, "On"));
    ck_assert_ptr_null(set_in(row_of("AIProxy"), &add, "Off"));
    aip_location_merge(&out, &base, &add);
    ck_assert_int_eq(out.enabled, 0);
    ck_assert_int_eq(out.set[AIP_L_enabled], 1);
}
END_TEST

Suite *fields_suite(void)
{
    Suite *suite = suite_create("fields");
    TCase *tcase = tcase_create("fields");
    tcase_add_checked_fixture(tcase, setup, pool_teardown);
    tcase_add_test(tcase, table_is_consistent);
    tcase_add_test(tcase, defaults);
    tcase_add_loop_test(tcase, reads, 0, sizeof values / sizeof *values);
    tcase_add_test(tcase, bounds);
    tcase_add_test(tcase, words);
    tcase_add_test(tcase, enums_follow_words);
    tcase_add_test(tcase, said_again);
    tcase_add_test(tcase, values_are_copies);
    tcase_add_loop_test(tcase, merges, 0, 4 * AIP_LOCATION_COUNT);
    tcase_add_test(tcase, merges_back_to_the_default);
    suite_add_tcase(suite, tcase);
    return suite;
}
