/* SPDX-License-Identifier: Apache-2.0 */
/* The same unit tests of what reads and writes JSON, built as for a processor without SSE2. */
#include "suites.h"

int main(void)
{
    static Suite *(*const suites[])(void) = {
        json_suite, json_out_suite,   json_values_suite, json_splice_suite,
        chat_suite, chat_build_suite, chat_needs_suite,  usage_suite,
    };

    return run_suites(suites, sizeof suites / sizeof *suites);
}
