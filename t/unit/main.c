/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the unit tests that need nothing but files of this repository (AIP_SRCDIR, default the
 * current folder). Check's own variables choose: CK_RUN_SUITE=json, CK_FORK=no for a debugger,
 * CK_VERBOSITY=verbose. */
#include "suites.h"

#include <stdio.h>

int main(void)
{
    static Suite *(*const suites[])(void) = {
        chat_suite,     http1_suite,     http1_course_suite, sse_suite,        usage_suite,
        fields_suite,   route_suite,     balance_suite,      provider_suite,   secret_suite,
        vectordb_suite, model2vec_suite, embeddings_suite,   references_suite,
    };
    SRunner *runner = srunner_create(json_suite());
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        srunner_add_suite(runner, suites[i]());
    }
    srunner_run_all(runner, CK_ENV);
    int run = srunner_ntests_run(runner), failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0) {
        fputs("no test was run\n", stderr);
    }
    return run == 0 || failed ? 1 : 0;
}
