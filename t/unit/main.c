/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the unit tests that need nothing but files of this repository (AIP_SRCDIR, default the
 * current folder). Check's own variables choose: CK_RUN_SUITE=json, CK_FORK=no for a debugger,
 * CK_VERBOSITY=verbose. */
#include "suites.h"

int main(void)
{
    static Suite *(*const suites[])(void) = {
        json_suite,
        json_out_suite,
        json_values_suite,
        json_splice_suite,
        chat_suite,
        calibrate_suite, chat_build_suite, chat_needs_suite, chat_needs_suite,
        http1_suite,
        http1_course_suite,
        connect_suite,
        egress_suite,
        sse_suite,
        usage_suite,
        estimate_suite,
        cost_suite,
        fields_suite,
        acl_suite,
        apikey_suite,
        route_suite,
        balance_suite,
        balance_hash_suite,
        balance_scores_suite,
        decay_suite,
        health_suite,
        health_shared_suite,
        metrics_suite,
        metrics_text_suite,
        history_suite,
        retry_after_suite,
        provider_suite,
        mask_suite,
        secret_suite,
        secret_rounds_suite,
        secret_store_suite,
        identity_suite,
        identity_aws_suite,
        identity_azure_suite,
        identity_gcp_suite,
        cloud_suite,
        sigv4_suite,
        vectordb_suite,
        model2vec_suite,
        model2vec_rules_suite,
        model2vec_files_suite,
        embeddings_suite,
        reassembly_suite,
        references_suite,
        router_suite,
        trace_context_suite,
        otlp_suite,
        trace_export_suite,
        threads_suite,
    };

    return run_suites(suites, sizeof suites / sizeof *suites);
}
