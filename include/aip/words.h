/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_WORDS_H
#define AIP_WORDS_H
/* The enums behind the words of the table in aip/fields.h. */

/** Indexes of the words of a row, in the order of its words column. */
typedef enum aip_streaming_e {
    AIP_STREAMING_ALLOW,
    AIP_STREAMING_DENY,
    AIP_STREAMING_ALWAYS
} aip_streaming_e;
typedef enum aip_client_model_e {
    AIP_CLIENT_MODEL_IGNORE,
    AIP_CLIENT_MODEL_STRICT
} aip_client_model_e;
typedef enum aip_algorithm_e {
    AIP_ALGORITHM_ROUND_ROBIN,
    AIP_ALGORITHM_CONSISTENT_HASHING,
    AIP_ALGORITHM_LEAST_CONNECTIONS,
    AIP_ALGORITHM_LOWEST_USAGE,
    AIP_ALGORITHM_LOWEST_LATENCY,
    AIP_ALGORITHM_PRIORITY,
    AIP_ALGORITHM_SEMANTIC
} aip_algorithm_e;
typedef enum aip_vault_name_e { AIP_VAULT_ENV, AIP_VAULT_FILE, AIP_VAULT_HCV } aip_vault_name_e;
typedef enum aip_vault_kv_e { AIP_VAULT_KV_V1, AIP_VAULT_KV_V2 } aip_vault_kv_e;
typedef enum aip_vault_auth_e {
    AIP_VAULT_AUTH_TOKEN,
    AIP_VAULT_AUTH_APPROLE,
    AIP_VAULT_AUTH_KUBERNETES,
    AIP_VAULT_AUTH_CERT
} aip_vault_auth_e;
typedef enum aip_semconv_e { AIP_SEMCONV_V1_41, AIP_SEMCONV_LATEST } aip_semconv_e;
typedef enum aip_shared_e { AIP_SHARED_OFF, AIP_SHARED_REDIS } aip_shared_e;
typedef enum aip_param_location_e { AIP_PARAM_QUERY, AIP_PARAM_BODY } aip_param_location_e;
typedef enum aip_embedder_e {
    AIP_EMBEDDER_OPENAI,
    AIP_EMBEDDER_AZURE,
    AIP_EMBEDDER_MISTRAL,
    AIP_EMBEDDER_OLLAMA,
    AIP_EMBEDDER_LOCAL
} aip_embedder_e;
typedef enum aip_send_dimensions_e {
    AIP_DIMENSIONS_AUTO,
    AIP_DIMENSIONS_ON,
    AIP_DIMENSIONS_OFF
} aip_send_dimensions_e;
/* The words of AITargetAccepts are those of aip_need_e in aip/chat.h. */
typedef enum aip_explain_e { AIP_EXPLAIN_OFF, AIP_EXPLAIN_HEADERS, AIP_EXPLAIN_BODY } aip_explain_e;
typedef enum aip_strategy_e {
    AIP_STRATEGY_MEMORY,
    AIP_STRATEGY_REDIS,
    AIP_STRATEGY_PGVECTOR
} aip_strategy_e;
typedef enum aip_tls_version_e { AIP_TLS_ANY, AIP_TLS_1_2, AIP_TLS_1_3 } aip_tls_version_e;
typedef enum aip_criterion_e {
    AIP_CRITERION_ERROR = 1u << 0,
    AIP_CRITERION_TIMEOUT = 1u << 1,
    AIP_CRITERION_INVALID_HEADER = 1u << 2,
    AIP_CRITERION_HTTP_403 = 1u << 3,
    AIP_CRITERION_HTTP_404 = 1u << 4,
    AIP_CRITERION_HTTP_429 = 1u << 5,
    AIP_CRITERION_HTTP_500 = 1u << 6,
    AIP_CRITERION_HTTP_502 = 1u << 7,
    AIP_CRITERION_HTTP_503 = 1u << 8,
    AIP_CRITERION_HTTP_504 = 1u << 9,
    AIP_CRITERION_NON_IDEMPOTENT = 1u << 10
} aip_criterion_e;

#endif
