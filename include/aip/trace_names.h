/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TRACE_NAMES_H
#define AIP_TRACE_NAMES_H
/* Names of OpenTelemetry's GenAI conventions that are not the same in all of their versions, and
 * those of providers and databases. Pure. */

#include "aip/words.h"

typedef enum aip_trace_name_e {
    AIP_TRACE_NAME_CACHE_WRITE, /**< tokens of the prompt that were written to a cache */
    AIP_TRACE_NAMES
} aip_trace_name_e;

/** AITelemetrySemconv: https://github.com/open-telemetry/semantic-conventions, v1.41, and what
 * became of them in semantic-conventions-genai. */
const char *aip_trace_name(aip_trace_name_e name, aip_semconv_e version);

/** gen_ai.provider.name for a word of AIModelProvider or AIEmbeddingsModelProvider; words that
 * OpenTelemetry does not know stay. */
const char *aip_trace_provider(const char *word);

/** db.system.name for a word of AIVectordbStrategy; NULL: it is no database. */
const char *aip_trace_database(const char *word);

#endif
