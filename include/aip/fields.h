/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_FIELDS_H
#define AIP_FIELDS_H
/* The table of all directives: one row = one directive = one field of the configuration. From it
 * come the structs, the defaults, the command table, the checks of values, the merge, the reference
 * configuration and docs/directives.md.
 *
 * X(kind, member, directive, field, default, low, high, words, flags, help)
 *   kind     how the argument is read and what type the member has, see aip_kind_e
 *   field    path in Kong's AI Proxy Advanced; "-" marks an extension of ours
 *   default  as it would be written in the configuration; NULL: unset
 *   low/high range of a number, both inclusive
 *   words    allowed words, separated by '|'; the member holds the index (ENUM) or a bit mask of
 * indexes (SET)
 */

#include "aip/chat.h"
#include "aip/trace_fields.h"
#include "aip/vault_fields.h"
#include "aip/words.h"
#include <apr_tables.h>

typedef enum aip_kind_e {
    AIP_KIND_FLAG,   /**< On|Off -> int */
    AIP_KIND_INT,    /**< whole number -> apr_int64_t */
    AIP_KIND_NUM,    /**< JSON number -> aip_number_t */
    AIP_KIND_STR,    /**< one argument -> const char * */
    AIP_KIND_ENUM,   /**< one of the words -> int */
    AIP_KIND_SET,    /**< one or more of the words -> unsigned */
    AIP_KIND_LIST,   /**< one argument, directive may be repeated -> apr_array_header_t * of const
                        char * */
    AIP_KIND_SCOPE,  /**< AIRoutePrompt: last-user | all-user | last N | all -> aip_prompt_rule_t */
    AIP_KIND_STICKY, /**< AIRouteSticky: off | header NAME | cookie NAME | conversation ->
                        aip_sticky_rule_t */
    AIP_KIND_PORT,   /**< whole number, or references that become one -> const char * */
    AIP_KIND_ACL, /**< the conditions of one rule, directive may be repeated -> apr_array_header_t *
                     of aip_acl_rule_t * */
    AIP_KIND_RATES /**< a name or threshold and its prices or factors, directive may be repeated ->
                      apr_array_header_t * of const aip_rate_t *; words: what the arguments are */
} aip_kind_e;

/** A number and its spelling, which is what goes into JSON. */
typedef struct aip_number_t {
    double value;
    const char *json;
} aip_number_t;

typedef struct aip_prompt_rule_t {
    aip_prompt_scope_e scope;
    int count;
} aip_prompt_rule_t;

/** What tells that two requests belong to one session. */
typedef enum aip_sticky_e {
    AIP_STICKY_OFF,
    AIP_STICKY_HEADER,      /**< the value of a header */
    AIP_STICKY_COOKIE,      /**< the value of a cookie */
    AIP_STICKY_CONVERSATION /**< the system prompt and the first message of the user */
} aip_sticky_e;

typedef struct aip_sticky_rule_t {
    aip_sticky_e kind;
    const char *name; /**< of the header or cookie, else NULL */
} aip_sticky_rule_t;

#define AIP_TYPE_FLAG int
#define AIP_TYPE_INT apr_int64_t
#define AIP_TYPE_NUM aip_number_t
#define AIP_TYPE_STR const char *
#define AIP_TYPE_ENUM int
#define AIP_TYPE_SET unsigned
#define AIP_TYPE_LIST apr_array_header_t *
#define AIP_TYPE_SCOPE aip_prompt_rule_t
#define AIP_TYPE_STICKY aip_sticky_rule_t
#define AIP_TYPE_PORT const char *
#define AIP_TYPE_ACL apr_array_header_t *
#define AIP_TYPE_RATES apr_array_header_t *

/** In set[]: 0 is the default. */
#define AIP_SET_WRITTEN 1
#define AIP_SET_REFERENCE 2 /**< the value is a text with {vault://...} in it, see aip/secret.h */

#define AIP_F_SECRET 1u  /**< value is never shown */
#define AIP_F_VAULT 2u   /**< value may hold {vault://...} references */
#define AIP_F_ONCE 4u    /**< a second time in one section is an error */
#define AIP_F_SERVER 64u /**< holds for a whole server: legal there and in <VirtualHost> only */
#define AIP_F_MANY 128u  /**< a LIST that takes several values a line */
#define AIP_F_PRICE 256u /**< a NUM with at most AIP_PRICE_DECIMALS decimals, see aip/cost.h */
#define AIP_F_PAIR 512u  /**< a LIST whose value may be followed by another argument */

#define AIP_MS_MAX 2147483646.0
#define AIP_SIZE_MAX 1073741824.0
#define AIP_YEAR 31536000.0

/* Order of the words matters: the enums of aip/words.h name the indexes. */
#define AIP_WORDS_CRITERIA                                                                         \
    "error|timeout|invalid_header|http_403|http_404|http_429|http_500|http_502|http_503|http_504|" \
    "non_idempotent"

#define AIP_WORDS_ACCEPTS "text|tools|images|audio|json_schema"

#define AIP_WORDS_ALGORITHMS                                                                       \
    "round-robin|consistent-hashing|least-connections|lowest-usage|lowest-latency|priority|"       \
    "semantic"

// clang-format off
#define AIP_LOCATION_FIELDS(X) \
X(FLAG, enabled, "AIProxy", "-", "Off", 0, 0, NULL, 0, \
  "Makes the section an AI gateway: every request below it is a chat for one of its targets.") \
X(ENUM, llm_format, "AILlmFormat", "llm_format", "openai", 0, 0, "openai", 0, \
  "Wire format that clients speak.") \
X(INT, max_request_body_size, "AIMaxRequestBodySize", "max_request_body_size", "1048576", 0, AIP_SIZE_MAX, NULL, 0, \
  "Longest request body in bytes; 0 leaves the limit to LimitRequestBody. A longer one is answered with 413.") \
X(FLAG, model_name_header, "AIModelNameHeader", "model_name_header", "On", 0, 0, NULL, 0, \
  "Adds the header X-LLM-Model: provider/model to successful answers.") \
X(STR, model_name_header_name, "AIModelNameHeaderName", "-", "X-LLM-Model", 0, 0, NULL, 0, \
  "Name of that header; X-Kong-LLM-Model for clients that come from Kong.") \
X(ENUM, response_streaming, "AIResponseStreaming", "response_streaming", "allow", 0, 0, "allow|deny|always", 0, \
  "allow: the client decides; deny: \"stream\": true is answered with 400; always: every answer is streamed.") \
X(ENUM, client_model, "AIClientModel", "-", "ignore", 0, 0, "ignore|strict", 0, \
  "What a client's \"model\" means: ignore routes whatever it says; strict refuses another name than the target's, as Kong does.") \
X(ENUM, balancer_algorithm, "AIBalancerAlgorithm", "balancer.algorithm", "round-robin", 0, 0, AIP_WORDS_ALGORITHMS, 0, \
  "How targets are ordered for a request: by turn, by a header's hash, by requests in flight, by measured latency, by recent usage, by groups of equal weight, or by the distance of their description to the prompt.") \
X(INT, balancer_retries, "AIBalancerRetries", "balancer.retries", "5", 0, 32767, NULL, 0, \
  "Further targets that may be tried after the first one failed.") \
X(INT, balancer_connect_timeout, "AIBalancerConnectTimeout", "balancer.connect_timeout", "60000", 1, AIP_MS_MAX, NULL, 0, \
  "Milliseconds to connect to a target, TLS included. Where several sections lead to the same targets the shortest counts.") \
X(INT, balancer_read_timeout, "AIBalancerReadTimeout", "balancer.read_timeout", "60000", 1, AIP_MS_MAX, NULL, 0, \
  "Milliseconds until a target's response headers are complete, then between two reads.") \
X(INT, balancer_write_timeout, "AIBalancerWriteTimeout", "balancer.write_timeout", "60000", 1, AIP_MS_MAX, NULL, 0, \
  "Milliseconds between two writes to a target.") \
X(SET, balancer_failover_criteria, "AIBalancerFailoverCriteria", "balancer.failover_criteria", "error timeout", 0, 0, AIP_WORDS_CRITERIA, 0, \
  "Outcomes after which the next target is tried. error, timeout and invalid_header move on after the request was sent only together with non_idempotent, because the first target may have billed it; before that, and for listed statuses, always.") \
X(INT, balancer_max_fails, "AIBalancerMaxFails", "balancer.max_fails", "0", 0, 32767, NULL, 0, \
  "Failures after which a target is ejected for AIBalancerFailTimeout; 0: never. What counts: error, timeout and invalid_header always, listed statuses but for 403 and 404.") \
X(INT, balancer_fail_timeout, "AIBalancerFailTimeout", "balancer.fail_timeout", "10000", 1, AIP_MS_MAX, NULL, 0, \
  "Milliseconds that a target stays ejected before one request probes it, and after which a success forgets earlier failures.") \
X(INT, balancer_cooldown_max, "AIBalancerCooldownMax", "-", "60000", 0, AIP_MS_MAX, NULL, 0, \
  "Longest pause in milliseconds that a target is given when it asks for one (Retry-After, retry-after-ms, x-ratelimit-reset-*, no quota left), while others take its requests; 0: none.") \
X(STR, balancer_hash_on_header, "AIBalancerHashOnHeader", "balancer.hash_on_header", "X-Kong-LLM-Request-ID", 0, 0, NULL, 0, \
  "Request header whose value chooses the target with consistent-hashing; requests without it go by turn.") \
X(INT, balancer_slots, "AIBalancerSlots", "balancer.slots", "10000", 10, 65536, NULL, 0, \
  "Slots of the ring of consistent-hashing.") \
X(ENUM, balancer_latency_strategy, "AIBalancerLatencyStrategy", "balancer.latency_strategy", "tpot", 0, 0, "tpot|e2e", 0, \
  "What lowest-latency compares: the time per output token, or the whole time of an answer.") \
X(ENUM, balancer_tokens_count_strategy, "AIBalancerTokensCountStrategy", "balancer.tokens_count_strategy", "total-tokens", 0, 0, "total-tokens|prompt-tokens|completion-tokens|cost", 0, \
  "What lowest-usage compares; cost needs AIModelOptionsInputCost and AIModelOptionsOutputCost in each target.") \
X(INT, balancer_usage_window, "AIBalancerUsageWindow", "-", "60000", 100, AIP_MS_MAX, NULL, 0, \
  "Milliseconds in which usage fades to 1/e for lowest-usage.") \
X(ENUM, balancer_shared, "AIBalancerShared", "-", "off", 0, 0, "off|redis", 0, \
  "redis: usage and latency of the targets are exchanged with other machines through the Redis that AIVectordbRedisHost and its sisters name, in the background.") \
X(FLAG, secrets_required, "AISecretsRequired", "-", "Off", 0, 0, NULL, AIP_F_SERVER, \
  "On: the server does not start while a secret has no value. Off: it starts, and requests that need the secret are answered with 503.") \
X(INT, timeout_first_byte, "AITimeoutFirstByte", "-", "0", 0, AIP_MS_MAX, NULL, 0, \
  "Milliseconds from the end of the request to the first byte of a target's answer; 0: AIBalancerReadTimeout alone.") \
X(INT, timeout_idle, "AITimeoutIdle", "-", "0", 0, AIP_MS_MAX, NULL, 0, \
  "Milliseconds between two complete events of a stream; 0: AIBalancerReadTimeout alone.") \
X(INT, timeout_total, "AITimeoutTotal", "-", "0", 0, AIP_MS_MAX, NULL, 0, \
  "Milliseconds for a request as a whole, all attempts included; 0: no limit. What cannot end in time is not begun.") \
X(STR, embeddings_auth_header_name, "AIEmbeddingsAuthHeaderName", "embeddings.auth.header_name", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Name of the header that carries the embeddings provider's credential.") \
X(STR, embeddings_auth_header_value, "AIEmbeddingsAuthHeaderValue", "embeddings.auth.header_value", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Full value of that header, sent verbatim, for instance \"Bearer {vault://env/OPENAI_API_KEY}\".") \
X(ENUM, embeddings_auth_param_location, "AIEmbeddingsAuthParamLocation", "embeddings.auth.param_location", NULL, 0, 0, "query|body", 0, \
  "Where the credential parameter goes.") \
X(STR, embeddings_auth_param_name, "AIEmbeddingsAuthParamName", "embeddings.auth.param_name", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Name of a credential parameter.") \
X(STR, embeddings_auth_param_value, "AIEmbeddingsAuthParamValue", "embeddings.auth.param_value", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Value of the credential parameter.") \
X(FLAG, embeddings_auth_allow_override, "AIEmbeddingsAuthAllowOverride", "embeddings.auth.allow_override", "Off", 0, 0, NULL, 0, \
  "On: a client's own header or query parameter of that name is used for its embeddings call. Off: no byte of a client's headers reaches the embeddings provider.") \
X(STR, embeddings_auth_aws_access_key_id, "AIEmbeddingsAuthAwsAccessKeyId", "embeddings.auth.aws_access_key_id", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Access key of AWS. No embeddings provider takes one yet: it is refused with each.") \
X(STR, embeddings_auth_aws_secret_access_key, "AIEmbeddingsAuthAwsSecretAccessKey", "embeddings.auth.aws_secret_access_key", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Secret of that access key; refused likewise.") \
X(STR, embeddings_auth_azure_client_id, "AIEmbeddingsAuthAzureClientId", "embeddings.auth.azure_client_id", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Application (client) id at Microsoft Entra ID; with AIEmbeddingsAuthAzureUseManagedIdentity and no secret: which of the machine's identities.") \
X(STR, embeddings_auth_azure_client_secret, "AIEmbeddingsAuthAzureClientSecret", "embeddings.auth.azure_client_secret", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Secret of that application: its tokens go with the requests, as Bearer.") \
X(STR, embeddings_auth_azure_tenant_id, "AIEmbeddingsAuthAzureTenantId", "embeddings.auth.azure_tenant_id", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Tenant of that application: an id or a domain name.") \
X(FLAG, embeddings_auth_azure_use_managed_identity, "AIEmbeddingsAuthAzureUseManagedIdentity", "embeddings.auth.azure_use_managed_identity", "Off", 0, 0, NULL, 0, \
  "On: tokens of the machine's own identity go with the requests: of App Service, a container app, a Kubernetes pod or a virtual machine.") \
X(STR, embeddings_auth_gcp_metadata_url, "AIEmbeddingsAuthGcpMetadataUrl", "embeddings.auth.gcp_metadata_url", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Metadata server of Google Cloud: a base, or a whole URL with its path. Unset: http://metadata.google.internal.") \
X(STR, embeddings_auth_gcp_oauth_token_url, "AIEmbeddingsAuthGcpOauthTokenUrl", "embeddings.auth.gcp_oauth_token_url", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Where tokens of a service account are asked for. Unset: the token_uri of its JSON, which stays the audience anyway.") \
X(STR, embeddings_auth_gcp_service_account_json, "AIEmbeddingsAuthGcpServiceAccountJson", "embeddings.auth.gcp_service_account_json", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "JSON key of a service account. Unset: the environment's GCP_SERVICE_ACCOUNT, else the metadata server.") \
X(FLAG, embeddings_auth_gcp_use_service_account, "AIEmbeddingsAuthGcpUseServiceAccount", "embeddings.auth.gcp_use_service_account", "Off", 0, 0, NULL, 0, \
  "On: access tokens of a Google service account go with the requests, as Bearer.") \
X(ENUM, embeddings_model_provider, "AIEmbeddingsModelProvider", "embeddings.model.provider", NULL, 0, 0, "openai|azure|mistral|ollama|local", 0, \
  "Who embeds: a provider that speaks OpenAI's embeddings API, or local (extension): in process, no network.") \
X(STR, embeddings_model_name, "AIEmbeddingsModelName", "embeddings.model.name", NULL, 0, 0, NULL, 0, \
  "Embedding model; with provider local the name of an installed model or a directory.") \
X(STR, embeddings_model_options_upstream_url, "AIEmbeddingsModelOptionsUpstreamUrl", "embeddings.model.options.upstream_url", NULL, 0, 0, NULL, 0, \
  "Full URL of the embeddings endpoint; required for azure and ollama.") \
X(ENUM, embeddings_send_dimensions, "AIEmbeddingsSendDimensions", "-", "auto", 0, 0, "auto|on|off", 0, \
  "Whether the request member dimensions is sent; auto: to text-embedding-3 models.") \
X(INT, embeddings_timeout, "AIEmbeddingsTimeout", "-", "5000", 1, AIP_MS_MAX, NULL, 0, \
  "Milliseconds for one embeddings call on the request path, and for waiting until the references are there.") \
X(ENUM, vectordb_strategy, "AIVectordbStrategy", "vectordb.strategy", "memory", 0, 0, "memory|redis|pgvector", 0, \
  "Where references are searched: in process (extension, the default), in Redis with RediSearch, or in PostgreSQL with pgvector.") \
X(INT, vectordb_dimensions, "AIVectordbDimensions", "vectordb.dimensions", NULL, 1, 16384, NULL, 0, \
  "Length of the vectors; may be left out with provider local.") \
X(ENUM, vectordb_distance_metric, "AIVectordbDistanceMetric", "vectordb.distance_metric", NULL, 0, 0, "cosine|euclidean", 0, \
  "cosine: 1 - cos, 0 to 2. euclidean: half of the squared distance, the same scale for unit vectors. Required with redis and pgvector, cosine when left out with memory.") \
X(NUM, vectordb_threshold, "AIVectordbThreshold", "vectordb.threshold", NULL, 0, 1000, NULL, 0, \
  "Largest distance, inclusive, at which a route is eligible: lower is stricter. Unset: the nearest route always wins.") \
X(STR, vectordb_redis_host, "AIVectordbRedisHost", "vectordb.redis.host", "127.0.0.1", 0, 0, NULL, AIP_F_VAULT, \
  "Host of Redis.") \
X(PORT, vectordb_redis_port, "AIVectordbRedisPort", "vectordb.redis.port", "6379", 0, 65535, NULL, AIP_F_VAULT, \
  "Port of Redis.") \
X(STR, vectordb_redis_username, "AIVectordbRedisUsername", "vectordb.redis.username", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "ACL user.") \
X(STR, vectordb_redis_password, "AIVectordbRedisPassword", "vectordb.redis.password", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Password; no AUTH is sent when unset.") \
X(INT, vectordb_redis_database, "AIVectordbRedisDatabase", "vectordb.redis.database", "0", 0, 65535, NULL, 0, \
  "Database number. RediSearch keeps indexes in database 0 only.") \
X(INT, vectordb_redis_connect_timeout, "AIVectordbRedisConnectTimeout", "vectordb.redis.connect_timeout", "2000", 0, AIP_MS_MAX, NULL, 0, \
  "Milliseconds to connect to Redis.") \
X(INT, vectordb_redis_send_timeout, "AIVectordbRedisSendTimeout", "vectordb.redis.send_timeout", "2000", 0, AIP_MS_MAX, NULL, 0, \
  "Milliseconds to send a command.") \
X(INT, vectordb_redis_read_timeout, "AIVectordbRedisReadTimeout", "vectordb.redis.read_timeout", "2000", 0, AIP_MS_MAX, NULL, 0, \
  "Milliseconds to wait for a reply.") \
X(INT, vectordb_redis_keepalive_pool_size, "AIVectordbRedisKeepalivePoolSize", "vectordb.redis.keepalive_pool_size", "256", 1, AIP_MS_MAX, NULL, 0, \
  "Idle connections to Redis that a child keeps.") \
X(INT, vectordb_redis_keepalive_backlog, "AIVectordbRedisKeepaliveBacklog", "vectordb.redis.keepalive_backlog", NULL, 0, AIP_MS_MAX, NULL, 0, \
  "Connections beyond the pool that may be open at once; unset: no limit.") \
X(FLAG, vectordb_redis_ssl, "AIVectordbRedisSsl", "vectordb.redis.ssl", "Off", 0, 0, NULL, 0, \
  "TLS to Redis; needs a build with hiredis_ssl.") \
X(FLAG, vectordb_redis_ssl_verify, "AIVectordbRedisSslVerify", "vectordb.redis.ssl_verify", "On", 0, 0, NULL, 0, \
  "Verify Redis' certificate.") \
X(STR, vectordb_redis_server_name, "AIVectordbRedisServerName", "vectordb.redis.server_name", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Server name for SNI and verification; the host when unset.") \
X(FLAG, vectordb_redis_connection_is_proxied, "AIVectordbRedisConnectionIsProxied", "vectordb.redis.connection_is_proxied", "Off", 0, 0, NULL, 0, \
  "Redis is reached through a proxy such as Envoy: no SELECT is sent.") \
X(STR, vectordb_pgvector_host, "AIVectordbPgvectorHost", "vectordb.pgvector.host", "127.0.0.1", 0, 0, NULL, 0, \
  "Host of PostgreSQL, or the directory of its Unix socket.") \
X(INT, vectordb_pgvector_port, "AIVectordbPgvectorPort", "vectordb.pgvector.port", "5432", 1, 65535, NULL, 0, \
  "Port of PostgreSQL.") \
X(STR, vectordb_pgvector_database, "AIVectordbPgvectorDatabase", "vectordb.pgvector.database", "kong-pgvector", 0, 0, NULL, 0, \
  "Database.") \
X(STR, vectordb_pgvector_user, "AIVectordbPgvectorUser", "vectordb.pgvector.user", "postgres", 0, 0, NULL, AIP_F_VAULT, \
  "User.") \
X(STR, vectordb_pgvector_password, "AIVectordbPgvectorPassword", "vectordb.pgvector.password", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Password.") \
X(NUM, vectordb_pgvector_timeout, "AIVectordbPgvectorTimeout", "vectordb.pgvector.timeout", "5000", 1, AIP_MS_MAX, NULL, 0, \
  "Milliseconds for one call to PostgreSQL, connecting included.") \
X(FLAG, vectordb_pgvector_ssl, "AIVectordbPgvectorSsl", "vectordb.pgvector.ssl", "Off", 0, 0, NULL, 0, \
  "On: TLS to PostgreSQL, and never plaintext instead.") \
X(FLAG, vectordb_pgvector_ssl_required, "AIVectordbPgvectorSslRequired", "vectordb.pgvector.ssl_required", "Off", 0, 0, NULL, 0, \
  "On: a section in which AIVectordbPgvectorSsl is Off is refused at start.") \
X(FLAG, vectordb_pgvector_ssl_verify, "AIVectordbPgvectorSslVerify", "vectordb.pgvector.ssl_verify", "On", 0, 0, NULL, 0, \
  "Verify PostgreSQL's certificate: the chain, against the system's authorities, and the host's name.") \
X(ENUM, vectordb_pgvector_ssl_version, "AIVectordbPgvectorSslVersion", "vectordb.pgvector.ssl_version", "tlsv1_2", 0, 0, "any|tlsv1_2|tlsv1_3", 0, \
  "Oldest version of TLS; any: what OpenSSL's configuration allows.") \
X(STR, vectordb_pgvector_ssl_cert, "AIVectordbPgvectorSslCert", "vectordb.pgvector.ssl_cert", NULL, 0, 0, NULL, 0, \
  "File of the client certificate, PEM, a whole path.") \
X(STR, vectordb_pgvector_ssl_cert_key, "AIVectordbPgvectorSslCertKey", "vectordb.pgvector.ssl_cert_key", NULL, 0, 0, NULL, 0, \
  "File of its key, PEM, a whole path; readable by the children's user and by nobody else but root.") \
X(SCOPE, route_prompt, "AIRoutePrompt", "-", "last-user", 0, 0, NULL, 0, \
  "Which messages make the prompt text: last-user, all-user, last N, or all.") \
X(INT, route_prompt_max_bytes, "AIRoutePromptMaxBytes", "-", "8192", 16, AIP_SIZE_MAX, NULL, 0, \
  "The prompt text is cut to this many bytes, at a character boundary.") \
X(STR, route_on_failure, "AIRouteOnFailure", "-", "catchall", 0, 0, NULL, 0, \
  "What happens when the embeddings call fails: catchall, fail (503), or the name of a target.") \
X(STR, route_cache, "AIRouteCache", "-", "auto", 0, 0, NULL, 0, \
  "Where decisions are kept: shmcb, shmcb:PATH(BYTES), redis:HOST:PORT, memcache:HOST:PORT or another socache provider with its argument; none; or auto: shmcb where mod_socache_shmcb is loaded, and only where it saves a network call. Digests and distances are stored, never text.") \
X(INT, route_cache_ttl, "AIRouteCacheTTL", "-", "86400", 1, AIP_YEAR, NULL, 0, \
  "Seconds that a decision is kept.") \
X(INT, route_cache_size, "AIRouteCacheSize", "-", "8388608", 65536, AIP_SIZE_MAX, NULL, 0, \
  "Bytes of shared memory for AIRouteCache auto, and for shmcb without a size of its own; the oldest entries make room.") \
X(ENUM, route_aggregate, "AIRouteAggregate", "-", "max", 0, 0, "max|mean|topk-mean", 0, \
  "How the distances of a route's texts make its own: max: the nearest text counts; mean: the average of all; topk-mean: the average of the AIRouteAggregateTopK nearest.") \
X(INT, route_aggregate_top_k, "AIRouteAggregateTopK", "-", "3", 1, 1000, NULL, 0, \
  "Texts that AIRouteAggregate topk-mean takes the average of.") \
X(NUM, route_margin, "AIRouteMargin", "-", NULL, 0, 1000, NULL, 0, \
  "Least difference between the nearest and the second nearest route; below it the outcome is ambiguous and AIRouteOnAmbiguous says what happens. Unset: never.") \
X(STR, route_on_ambiguous, "AIRouteOnAmbiguous", "-", "nearest", 0, 0, NULL, 0, \
  "What happens when a prompt is about as near to two routes: nearest, catchall, or the name of a target. The other eligible routes follow, should it fail.") \
X(STICKY, route_sticky, "AIRouteSticky", "-", "off", 0, 0, NULL, 0, \
  "Requests of one session stay with the target of its last answer: off, header NAME, cookie NAME, or conversation (same system prompt and first user message). Kept in AIRouteCache.") \
X(INT, route_sticky_ttl, "AIRouteStickyTTL", "-", "3600", 1, AIP_YEAR, NULL, 0, \
  "Seconds after its last answer that a session is remembered.") \
X(NUM, route_sticky_margin, "AIRouteStickyMargin", "-", "0.1", 0, 1000, NULL, 0, \
  "How much nearer another route must be for a session to leave its target.") \
X(FLAG, route_sticky_return, "AIRouteStickyReturn", "-", "Off", 0, 0, NULL, 0, \
  "On: a session whose target failed goes back to it when it is there again. Off: it stays with the target that stepped in.") \
X(ENUM, explain, "AIExplain", "-", "off", 0, 0, "off|headers|body", 0, \
  "headers: answers carry X-LLM-Route-Scores; body: besides, a request to AIDryRunPath is answered with the decision as JSON and calls no model.") \
X(STR, explain_for, "AIExplainFor", "-", NULL, 0, 0, NULL, 0, \
  "Expression (ap_expr), evaluated after authentication: only requests for which it is true get what AIExplain shows. Unset: all.") \
X(STR, dry_run_path, "AIDryRunPath", "-", "/_route", 0, 0, NULL, 0, \
  "End of the path, below the location, that asks for the decision alone; needs AIExplain body. Protect it with a <Location> of its own.") \
X(FLAG, route_headers, "AIRouteHeaders", "-", "Off", 0, 0, NULL, 0, \
  "Adds X-LLM-Route and X-LLM-Distance to answers.") \
X(STR, state_dir, "AIStateDir", "-", "ai_proxy_adv", 0, 0, NULL, 0, \
  "Directory for cached reference vectors, relative to DefaultRuntimeDir; made at start, owned by the server's user.") \
X(STR, api_key_file, "AIApiKeyFile", "-", NULL, 0, 0, NULL, 0, \
  "File of API keys, relative to ServerRoot: only requests that carry one of them get in, whatever handles them. Made with aipctl apikey; followed without a restart. none: no key is asked for.") \
X(LIST, api_key_header, "AIApiKeyHeader", "-", NULL, 0, 0, NULL, 0, \
  "Header that the API key is taken from: Authorization (Bearer KEY), or another one that holds the key alone. May be repeated, the first that is there counts. Unset: Authorization, X-Api-Key, Api-Key, X-Goog-Api-Key.") \
X(ACL, acls_allow, "AIAclsAllow", "acls.allow", NULL, 0, 0, NULL, 0, \
  "A rule: conditions TYPE=VALUE[,VALUE...] that hold together, with TYPE consumer, consumer_group, header:NAME, ip, model, path or provider. May be repeated: where there is one, at least one must match. Conditions on model and provider are about targets.") \
X(ACL, acls_deny, "AIAclsDeny", "acls.deny", NULL, 0, 0, NULL, 0, \
  "A rule of the same form: whatever it matches is refused, before AIAclsAllow is looked at. May be repeated.") \
X(STR, acls_group_env, "AIAclsGroupEnv", "-", "AI_CONSUMER_GROUP", 0, 0, NULL, 0, \
  "Environment variable, of SetEnvIf, mod_rewrite or an authentication module, with groups of the consumer, separated by commas or blanks.") \
X(STR, acls_group_file, "AIAclsGroupFile", "-", NULL, 0, 0, NULL, 0, \
  "File of groups in the format of AuthGroupFile, relative to ServerRoot; followed without a restart. none: no file.") \
X(INT, keep_alive_hold, "AIKeepAliveHold", "-", "2", 0, 1000, NULL, 0, \
  "Milliseconds that a thread of MPM event waits for the next request of a client that asked again as soon as that the last time, instead of handing its connection back; a quarter of a child's threads at most. 0: never.") \
X(STR, statistics_log, "AIStatisticsLog", "-", NULL, 0, 0, NULL, 0, \
  "File, or |program, for one JSON line a request of targets with AILoggingLogStatistics or AILoggingLogPayloads.") \
X(INT, statistics_log_buffer, "AIStatisticsLogBuffer", "-", "0", 0, 16777216, NULL, 0, \
  "Bytes of lines that each child collects, for a second at most, before it writes them to the file of AIStatisticsLog; 0: it writes each line at once.") \
X(INT, log_payload_max_bytes, "AILogPayloadMaxBytes", "-", "65536", 0, 8388608, NULL, 0, \
  "Bytes of a request or an answer that AILoggingLogPayloads logs at most, each; 0: up to 8 MiB.") \
X(LIST, log_redact, "AILogRedact", "-", NULL, 0, 0, NULL, AIP_F_PAIR, \
  "PATTERN [REPLACEMENT]: what the regular expression matches in logged payloads is replaced, by [REDACTED] without another word. May be repeated.") \
AIP_TRACES_FIELDS(X) \
X(STR, cost_currency, "AICostCurrency", "-", "USD", 0, 0, NULL, 0, \
  "Currency of AIModelOptionsInputCost and AIModelOptionsOutputCost, a label of metrics: three capital letters (ISO 4217).") \
X(FLAG, metrics_kong_names, "AIMetricsKongNames", "-", "Off", 0, 0, NULL, AIP_F_SERVER, \
  "On: ai-metrics also shows kong_ai_llm_* and kong_ai_cache_*, as Kong's Prometheus plugin does.") \
X(ENUM, telemetry_semconv, "AITelemetrySemconv", "-", "v1.41", 0, 0, "v1.41|latest", AIP_F_SERVER, \
  "Names of metrics and traces: OpenTelemetry's semantic conventions 1.41, or those of its GenAI repository, which still change.") \
X(STR, egress_proxy, "AIEgressProxy", "-", NULL, 0, 0, NULL, AIP_F_SERVER, \
  "HTTP proxy, http://host:port, that is asked to CONNECT for all that leaves the server: targets, embeddings, vaults.") \
X(STR, egress_proxy_auth, "AIEgressProxyAuth", "-", NULL, 0, 0, NULL, AIP_F_SERVER | AIP_F_VAULT | AIP_F_SECRET, \
  "user:password for AIEgressProxy, sent to it alone (Basic).") \
X(LIST, egress_no_proxy, "AIEgressNoProxy", "-", NULL, 0, 0, NULL, AIP_F_SERVER | AIP_F_MANY, \
  "What is reached without AIEgressProxy: host, .domain with all below it, address, network such as 10.0.0.0/8, or *. Several a line.") \
X(STR, egress_ca_file, "AIEgressCaFile", "-", NULL, 0, 0, NULL, AIP_F_SERVER, \
  "PEM file with the authorities that TLS peers are verified against, instead of the system's.") \
X(ENUM, egress_min_tls, "AIEgressMinTls", "-", "TLSv1.2", 0, 0, "TLSv1.2|TLSv1.3", AIP_F_SERVER, \
  "Oldest version of TLS that is spoken with a peer.") \
X(STR, egress_client_cert, "AIEgressClientCert", "-", NULL, 0, 0, NULL, AIP_F_SERVER, \
  "PEM file with a certificate and its key, shown to peers that ask for one.") \
X(LIST, egress_allow, "AIEgressAllow", "-", NULL, 0, 0, NULL, AIP_F_SERVER | AIP_F_MANY, \
  "Where connections may go; unset: everywhere but to link-local and metadata addresses. scheme://host[:port][/path] with * inside, or a host, address or network. Several a line.")

#define AIP_TARGET_FIELDS(X) \
X(ENUM, route_type, "AIRouteType", "targets[].route_type", NULL, 0, 0, "llm/v1/chat", 0, \
  "Operation that clients ask for.") \
X(INT, weight, "AIWeight", "targets[].weight", "100", 1, 65535, NULL, 0, \
  "Share of the requests among targets of equal rank.") \
X(STR, description, "AIDescription", "targets[].description", NULL, 0, 0, NULL, AIP_F_ONCE, \
  "What the target is for; prompts are compared with it. The word CATCHALL: takes what matches nothing.") \
X(LIST, route_example, "AIRouteExample", "-", NULL, 0, 0, NULL, 0, \
  "A further text that prompts are compared with; may be given any number of times. AIRouteAggregate says how they count.") \
X(LIST, route_examples_file, "AIRouteExamplesFile", "-", NULL, 0, 0, NULL, 0, \
  "File with one example a line, relative to ServerRoot; empty lines and lines that begin with # are skipped. May be repeated.") \
X(NUM, route_threshold, "AIRouteThreshold", "-", NULL, 0, 1000, NULL, 0, \
  "Largest distance for the route of this target instead of AIVectordbThreshold.") \
X(SET, accepts, "AITargetAccepts", "-", NULL, 0, 0, AIP_WORDS_ACCEPTS, 0, \
  "What the model can do besides text; a request that needs what is not named goes to another target. Unset: everything; text alone: nothing else.") \
X(LIST, route_force, "AIRouteForce", "-", NULL, 0, 0, NULL, 0, \
  "Expression (ap_expr): a request for which it is true goes to this target, or another one that is forced, and nowhere else; nothing is embedded. May be repeated.") \
X(LIST, route_forbid, "AIRouteForbid", "-", NULL, 0, 0, NULL, 0, \
  "Expression (ap_expr): a request for which it is true never goes to this target. Wins over AIRouteForce. May be repeated.") \
X(STR, auth_header_name, "AIAuthHeaderName", "targets[].auth.header_name", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Name of the header that carries the target's credential.") \
X(STR, auth_header_value, "AIAuthHeaderValue", "targets[].auth.header_value", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Full value of that header, sent verbatim, for instance \"Bearer {vault://env/OPENAI_API_KEY}\".") \
X(ENUM, auth_param_location, "AIAuthParamLocation", "targets[].auth.param_location", NULL, 0, 0, "query|body", 0, \
  "Where the credential parameter goes.") \
X(STR, auth_param_name, "AIAuthParamName", "targets[].auth.param_name", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Name of a credential parameter.") \
X(STR, auth_param_value, "AIAuthParamValue", "targets[].auth.param_value", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Value of the credential parameter.") \
X(FLAG, auth_allow_override, "AIAuthAllowOverride", "targets[].auth.allow_override", "Off", 0, 0, NULL, 0, \
  "On: a client's own credential in the same place is kept. Off: the configured one replaces it.") \
X(STR, auth_aws_access_key_id, "AIAuthAwsAccessKeyId", "targets[].auth.aws_access_key_id", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Access key of AWS, for AIModelProvider bedrock. Unset: the environment, a profile, a web identity, the container or the instance, as Amazon's SDKs look for it.") \
X(STR, auth_aws_secret_access_key, "AIAuthAwsSecretAccessKey", "targets[].auth.aws_secret_access_key", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Secret of that access key.") \
X(STR, auth_azure_client_id, "AIAuthAzureClientId", "targets[].auth.azure_client_id", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Application (client) id at Microsoft Entra ID; with AIAuthAzureUseManagedIdentity and no secret: which of the machine's identities.") \
X(STR, auth_azure_client_secret, "AIAuthAzureClientSecret", "targets[].auth.azure_client_secret", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "Secret of that application: its tokens go with the requests, as Bearer.") \
X(STR, auth_azure_tenant_id, "AIAuthAzureTenantId", "targets[].auth.azure_tenant_id", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Tenant of that application: an id or a domain name.") \
X(FLAG, auth_azure_use_managed_identity, "AIAuthAzureUseManagedIdentity", "targets[].auth.azure_use_managed_identity", "Off", 0, 0, NULL, 0, \
  "On: tokens of the machine's own identity go with the requests: of App Service, a container app, a Kubernetes pod or a virtual machine.") \
X(STR, auth_gcp_metadata_url, "AIAuthGcpMetadataUrl", "targets[].auth.gcp_metadata_url", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Metadata server of Google Cloud: a base, or a whole URL with its path. Unset: http://metadata.google.internal.") \
X(STR, auth_gcp_oauth_token_url, "AIAuthGcpOauthTokenUrl", "targets[].auth.gcp_oauth_token_url", NULL, 0, 0, NULL, AIP_F_VAULT, \
  "Where tokens of a service account are asked for. Unset: the token_uri of its JSON, which stays the audience anyway.") \
X(STR, auth_gcp_service_account_json, "AIAuthGcpServiceAccountJson", "targets[].auth.gcp_service_account_json", NULL, 0, 0, NULL, AIP_F_VAULT | AIP_F_SECRET, \
  "JSON key of a service account. Unset: the environment's GCP_SERVICE_ACCOUNT, else the metadata server.") \
X(FLAG, auth_gcp_use_service_account, "AIAuthGcpUseServiceAccount", "targets[].auth.gcp_use_service_account", "Off", 0, 0, NULL, 0, \
  "On: access tokens of a Google service account go with the requests, as Bearer.") \
X(FLAG, traces_propagate, "AITracesPropagate", "-", "Off", 0, 0, NULL, 0, \
  "On: the target is told of the trace: traceparent of the attempt's span, and the client's tracestate. Off: neither is sent.") \
X(FLAG, logging_log_statistics, "AILoggingLogStatistics", "targets[].logging.log_statistics", "Off", 0, 0, NULL, 0, \
  "Log tokens, latency and cost to AIStatisticsLog.") \
X(FLAG, logging_log_payloads, "AILoggingLogPayloads", "targets[].logging.log_payloads", "Off", 0, 0, NULL, 0, \
  "Log request and response bodies to AIStatisticsLog.") \
X(FLAG, logging_stream_usage, "AILoggingStreamUsage", "-", "On", 0, 0, NULL, 0, \
  "On: streams are asked for their token usage (stream_options.include_usage) where it is counted. Off: never, for servers that refuse it; what they do not tell is estimated.") \
X(ENUM, model_provider, "AIModelProvider", "targets[].model.provider", NULL, 0, 0, \
  "openai|azure|mistral|deepseek|xai|cerebras|dashscope|databricks|vllm|bedrock|gemini", 0, \
  "Who serves the model.") \
X(STR, model_name, "AIModelName", "targets[].model.name", NULL, 0, 0, NULL, 0, \
  "Model name sent to the provider; unset: the client's.") \
X(INT, max_tokens, "AIModelOptionsMaxTokens", "targets[].model.options.max_tokens", NULL, 1, AIP_MS_MAX, NULL, 0, \
  "max_tokens for the target, whatever the client says.") \
X(ENUM, max_tokens_name, "AIModelOptionsMaxTokensName", "-", "auto", 0, 0, "auto|max_tokens|max_completion_tokens", 0, \
  "How max_tokens is spelled; auto: max_completion_tokens for the o1, o3, o4 and gpt-5 families.") \
X(NUM, temperature, "AIModelOptionsTemperature", "targets[].model.options.temperature", NULL, 0, 5, NULL, 0, \
  "temperature for the target, whatever the client says.") \
X(NUM, top_p, "AIModelOptionsTopP", "targets[].model.options.top_p", NULL, 0, 1, NULL, 0, \
  "top_p for the target, whatever the client says.") \
X(INT, top_k, "AIModelOptionsTopK", "targets[].model.options.top_k", NULL, 0, 500, NULL, 0, \
  "top_k for the target, whatever the client says.") \
X(NUM, input_cost, "AIModelOptionsInputCost", "targets[].model.options.input_cost", NULL, 0, 1e9, NULL, AIP_F_PRICE, \
  "Price of 1 000 000 prompt tokens, with at most 9 decimals.") \
X(NUM, output_cost, "AIModelOptionsOutputCost", "targets[].model.options.output_cost", NULL, 0, 1e9, NULL, AIP_F_PRICE, \
  "Price of 1 000 000 completion tokens, with at most 9 decimals.") \
X(NUM, cache_read_cost, "AIModelOptionsCacheReadCost", "targets[].model.options.cache_read_cost", NULL, 0, 1e9, NULL, AIP_F_PRICE, \
  "Price of 1 000 000 prompt tokens that the provider read from its cache. Unset: that of any prompt token.") \
X(NUM, cache_write_cost, "AIModelOptionsCacheWriteCost", "targets[].model.options.cache_write_cost", NULL, 0, 1e9, NULL, AIP_F_PRICE, \
  "Price of 1 000 000 prompt tokens that the provider wrote to its cache. Unset: that of any prompt token.") \
X(RATES, cache_write_cost_list, "AIModelOptionsCacheWriteCostList", "targets[].model.options.cache_write_cost_list", NULL, 0, 0, "TTL|COST", 0, \
  "Price of 1 000 000 tokens written for a lifetime, 5m or 1h, where the provider tells them apart; wins over AIModelOptionsCacheWriteCost. May be repeated.") \
X(RATES, context_window_factor, "AIModelOptionsContextWindowFactor", "targets[].model.options.context_window_factor", NULL, 0, 0, "ABOVE|INPUT_FACTOR|OUTPUT_FACTOR", 0, \
  "Factors for the prices of prompt and completion tokens of requests with more than ABOVE prompt tokens; the largest ABOVE counts. From 0 to 1000, with at most 6 decimals. May be repeated.") \
X(RATES, service_tier_factor, "AIModelOptionsServiceTierFactor", "targets[].model.options.service_tier_factor", NULL, 0, 0, "TIER|FACTOR", 0, \
  "Factor for the whole price of answers whose service_tier contains TIER, whatever its case; the longest TIER counts, and priority also means the word fast. From 0 to 1000, with at most 6 decimals. May be repeated.") \
X(STR, upstream_url, "AIModelOptionsUpstreamUrl", "targets[].model.options.upstream_url", NULL, 0, 0, NULL, 0, \
  "Full URL (scheme, host, port, path) instead of the provider's own.") \
X(STR, upstream_path, "AIModelOptionsUpstreamPath", "targets[].model.options.upstream_path", NULL, 0, 0, NULL, 0, \
  "Path instead of the provider's own; the host stays.") \
X(ENUM, mistral_format, "AIModelOptionsMistralFormat", "targets[].model.options.mistral_format", NULL, 0, 0, "openai", 0, \
  "Dialect of a mistral target.") \
X(STR, azure_instance, "AIModelOptionsAzureInstance", "targets[].model.options.azure_instance", NULL, 0, 0, NULL, 0, \
  "Azure OpenAI instance: the first label of the host name.") \
X(STR, azure_api_version, "AIModelOptionsAzureApiVersion", "targets[].model.options.azure_api_version", "2023-05-15", 0, 0, NULL, 0, \
  "Azure api-version; a client's own query parameter api-version wins.") \
X(STR, azure_deployment_id, "AIModelOptionsAzureDeploymentId", "targets[].model.options.azure_deployment_id", NULL, 0, 0, NULL, 0, \
  "Azure deployment.") \
X(FLAG, dashscope_international, "AIModelOptionsDashscopeInternational", "targets[].model.options.dashscope.international", "On", 0, 0, NULL, 0, \
  "Use DashScope's international endpoint.") \
X(STR, databricks_workspace_instance_id, "AIModelOptionsDatabricksWorkspaceInstanceId", "targets[].model.options.databricks.workspace_instance_id", NULL, 0, 0, NULL, 0, \
  "Databricks workspace, the part of the host name before .cloud.databricks.com.") \
X(STR, bedrock_aws_region, "AIModelOptionsBedrockAwsRegion", "targets[].model.options.bedrock.aws_region", NULL, 0, 0, NULL, 0, \
  "Region of Amazon Bedrock; unset: the environment's AWS_REGION, else AWS_DEFAULT_REGION.") \
X(STR, bedrock_aws_assume_role_arn, "AIModelOptionsBedrockAwsAssumeRoleArn", "targets[].model.options.bedrock.aws_assume_role_arn", NULL, 0, 0, NULL, 0, \
  "Role that the gateway assumes by AWS STS with its credentials.") \
X(STR, bedrock_aws_role_session_name, "AIModelOptionsBedrockAwsRoleSessionName", "targets[].model.options.bedrock.aws_role_session_name", NULL, 0, 0, NULL, 0, \
  "Name of its sessions in AWS's logs; unset: the environment's AWS_ROLE_SESSION_NAME, else mod_ai_proxy_adv.") \
X(STR, bedrock_aws_sts_endpoint_url, "AIModelOptionsBedrockAwsStsEndpointUrl", "targets[].model.options.bedrock.aws_sts_endpoint_url", NULL, 0, 0, NULL, 0, \
  "AWS STS; unset: that of the region.") \
X(STR, gemini_api_endpoint, "AIModelOptionsGeminiApiEndpoint", "targets[].model.options.gemini.api_endpoint", NULL, 0, 0, NULL, 0, \
  "Host name of Vertex AI instead of the location's own.") \
X(STR, gemini_location_id, "AIModelOptionsGeminiLocationId", "targets[].model.options.gemini.location_id", NULL, 0, 0, NULL, 0, \
  "Location of Vertex AI, for instance us-central1 or global.") \
X(STR, gemini_project_id, "AIModelOptionsGeminiProjectId", "targets[].model.options.gemini.project_id", NULL, 0, 0, NULL, 0, \
  "Google Cloud project that pays for Vertex AI.")
// clang-format on

#define AIP_ROW_INDEX(kind, member, ...) AIP_L_##member,
typedef enum aip_location_index_e {
    AIP_LOCATION_FIELDS(AIP_ROW_INDEX) AIP_LOCATION_COUNT
} aip_location_index_e;
#undef AIP_ROW_INDEX
#define AIP_ROW_INDEX(kind, member, ...) AIP_T_##member,
typedef enum aip_target_index_e {
    AIP_TARGET_FIELDS(AIP_ROW_INDEX) AIP_TARGET_COUNT
} aip_target_index_e;
#undef AIP_ROW_INDEX
#define AIP_ROW_INDEX(kind, member, ...) AIP_V_##member,
typedef enum aip_vault_index_e {
    AIP_VAULT_FIELDS(AIP_ROW_INDEX) AIP_VAULT_COUNT
} aip_vault_index_e;
#undef AIP_ROW_INDEX

#define AIP_ROW_MEMBER(kind, member, ...) AIP_TYPE_##kind member;
/** Values of a section; a value that nobody set is the default, and set[AIP_L_x] tells the two
 * apart. */
typedef struct aip_location_fields_t {
    AIP_LOCATION_FIELDS(AIP_ROW_MEMBER)
    unsigned char set[AIP_LOCATION_COUNT];
} aip_location_fields_t;

/** The same for the inside of <AITarget>. */
typedef struct aip_target_fields_t {
    AIP_TARGET_FIELDS(AIP_ROW_MEMBER)
    unsigned char set[AIP_TARGET_COUNT];
} aip_target_fields_t;

/** The same for the inside of <AIVault>. */
typedef struct aip_vault_fields_t {
    AIP_VAULT_FIELDS(AIP_ROW_MEMBER)
    unsigned char set[AIP_VAULT_COUNT];
} aip_vault_fields_t;
#undef AIP_ROW_MEMBER

/** Where a directive is legal. */
typedef enum aip_place_e {
    AIP_IN_LOCATION, /**< everywhere but in the two others */
    AIP_IN_TARGET,   /**< inside <AITarget> only */
    AIP_IN_VAULT     /**< inside <AIVault> only */
} aip_place_e;

/** One row, as data. */
typedef struct aip_field_t {
    aip_kind_e kind;
    aip_place_e place;
    int index;           /**< AIP_L_..., AIP_T_... or AIP_V_... */
    size_t offset, size; /**< of the member in its struct */
    const char *directive, *field, *default_text;
    double low, high;
    const char *words;
    unsigned flags;
    const char *help;
} aip_field_t;

extern const aip_field_t aip_location_table[AIP_LOCATION_COUNT];
extern const aip_field_t aip_target_table[AIP_TARGET_COUNT];
extern const aip_field_t aip_vault_table[AIP_VAULT_COUNT];

/**
 * Reads arguments into the member of `row` in `fields` (aip_location_fields_t, aip_target_fields_t
 * or aip_vault_fields_t) and marks it set. Of references only the spelling is checked.
 * @return NULL, or a sentence that names the value and what is allowed; allocated in `pool`
 */
const char *aip_field_set(const aip_field_t *row, void *fields, int argc, char *const argv[],
                          apr_pool_t *pool);

/** Fills a struct with the defaults of its table. */
void aip_location_defaults(aip_location_fields_t *fields, apr_pool_t *pool);
void aip_target_defaults(aip_target_fields_t *fields, apr_pool_t *pool);
void aip_vault_defaults(aip_vault_fields_t *fields, apr_pool_t *pool);

/** What `add` set wins over `base`; the rest is base's. `out` may be `base`. */
void aip_location_merge(aip_location_fields_t *out, const aip_location_fields_t *base,
                        const aip_location_fields_t *add);

/** An argument as it would be written in a file: in quotes where it needs them. */
const char *aip_field_argument(const char *arg, apr_pool_t *pool);

/**
 * The value of a member as the configuration would write it: one string for each argument, for a
 * LIST, an ACL or RATES one for each line.
 * @return strings, NULL when the member has no value; secrets are shown as they are
 */
const apr_array_header_t *aip_field_text(const aip_field_t *row, const void *fields,
                                         apr_pool_t *pool);

/** The word of an ENUM member. */
const char *aip_field_word(const aip_field_t *row, int index, apr_pool_t *pool);

#endif
