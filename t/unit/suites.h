/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_SUITES_H
#define AIP_T_UNIT_SUITES_H
/* All suites of unit tests, one for each t/unit/test_<unit>.c, and how main.c, main_portable.c,
 * main_redis.c and main_pgvector.c run theirs. */

#include <check.h>
#include <stdio.h>

Suite *balance_suite(void);
Suite *balance_hash_suite(void);
Suite *balance_scores_suite(void);
Suite *calibrate_suite(void);
Suite *chat_suite(void);
Suite *chat_build_suite(void);
Suite *chat_needs_suite(void);
Suite *cloud_suite(void);
Suite *decay_suite(void);
Suite *connect_suite(void);
Suite *cost_suite(void);
Suite *egress_suite(void);
Suite *embeddings_suite(void);
Suite *estimate_suite(void);
Suite *fields_suite(void);
Suite *form_suite(void);
Suite *health_suite(void);
Suite *metrics_suite(void);
Suite *metrics_text_suite(void);
Suite *health_shared_suite(void);
Suite *history_suite(void);
Suite *http1_course_suite(void);
Suite *http1_suite(void);
Suite *identity_suite(void);
Suite *identity_aws_suite(void);
Suite *identity_azure_suite(void);
Suite *identity_gcp_suite(void);
Suite *json_out_suite(void);
Suite *json_suite(void);
Suite *json_splice_suite(void);
Suite *large_suite(void);
Suite *json_values_suite(void);
Suite *mask_suite(void);
Suite *model2vec_suite(void);
Suite *model2vec_files_suite(void);
Suite *model2vec_rules_suite(void);
Suite *otlp_suite(void);
Suite *pgvector_suite(void);
Suite *pgvector_outage_suite(void);
Suite *pgvector_tls_suite(void);
Suite *provider_suite(void);
Suite *redis_peer_suite(void);
Suite *redis_pool_suite(void);
Suite *redis_suite(void);
Suite *acl_suite(void);
Suite *apikey_suite(void);
Suite *redis_tls_suite(void);
Suite *redis_tls_peer_suite(void);
Suite *reassembly_suite(void);
Suite *recent_suite(void);
Suite *references_suite(void);
Suite *retry_after_suite(void);
Suite *route_suite(void);
Suite *router_suite(void);
Suite *secret_suite(void);
Suite *secret_rounds_suite(void);
Suite *secret_store_suite(void);
Suite *share_suite(void);
Suite *sigv4_suite(void);
Suite *sse_suite(void);
Suite *trace_context_suite(void);
Suite *trace_export_suite(void);
Suite *threads_suite(void);
Suite *usage_suite(void);
Suite *vectordb_suite(void);

/** Runs `n` suites in this order. @return exit status; nothing to run is a failure */
static inline int run_suites(Suite *(*const suites[])(void), int n)
{
    SRunner *runner = srunner_create(suites[0]());
    int run, failed;

    for (int i = 1; i < n; i++) {
        srunner_add_suite(runner, suites[i]());
    }
    srunner_run_all(runner, CK_ENV);
    run = srunner_ntests_run(runner);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0) {
        fputs("no test was run\n", stderr);
    }
    return run == 0 || failed > 0;
}

#endif
