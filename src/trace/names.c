/* SPDX-License-Identifier: Apache-2.0 */
/* OpenTelemetry's names, as tables. */
#include "aip/trace_names.h"

#include <string.h>

typedef struct pair_t {
    const char *ours, *theirs;
} pair_t;

const char *aip_trace_name(aip_trace_name_e name, aip_semconv_e version)
{
    static const char *const names[AIP_TRACE_NAMES][2] = {
        [AIP_TRACE_NAME_CACHE_WRITE] = {"gen_ai.usage.cache_creation.input_tokens",
                                        "gen_ai.usage.cache_write.input_tokens"},
    };
    return names[name][version];
}

static const char *find(const pair_t *pairs, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(pairs[i].ours, word) == 0) {
            return pairs[i].theirs;
        }
    }
    return NULL;
}

const char *aip_trace_provider(const char *word)
{
    static const pair_t pairs[] = {{"azure", "azure.ai.openai"},
                                   {"bedrock", "aws.bedrock"},
                                   {"gemini", "gcp.gemini"},
                                   {"mistral", "mistral_ai"},
                                   {"xai", "x_ai"}};
    const char *name = find(pairs, sizeof pairs / sizeof *pairs, word);
    return name ? name : word;
}

const char *aip_trace_database(const char *word)
{
    static const pair_t pairs[] = {{"pgvector", "postgresql"}, {"redis", "redis"}};
    return find(pairs, sizeof pairs / sizeof *pairs, word);
}
