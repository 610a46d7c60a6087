/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the tests of the PostgreSQL store against a real PostgreSQL with pgvector on 127.0.0.1,
 * whose port is in AIP_TEST_PGSQL_PORT. Without it there is nothing to test, which is a failure. */
#include "suites.h"

#include <stdlib.h>

int main(void)
{
    static Suite *(*const suites[])(void) = {pgvector_suite, pgvector_outage_suite,
                                             pgvector_tls_suite};
    const char *port = getenv("AIP_TEST_PGSQL_PORT");
    if (!port || !*port) {
        fputs("AIP_TEST_PGSQL_PORT is not set: start a server with scripts/lib/pgsql.sh\n", stderr);
        return 1;
    }
    return run_suites(suites, sizeof suites / sizeof *suites);
}
