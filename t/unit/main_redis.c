/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the tests of the Redis store against a real Redis with RediSearch on 127.0.0.1, whose port
 * is in AIP_TEST_REDIS_PORT. Without it there is nothing to test, which is a failure. */
#include "suites.h"

#include <stdlib.h>

int main(void)
{
    static Suite *(*const suites[])(void) = {redis_suite, redis_pool_suite, redis_peer_suite,
                                             share_suite};
    const char *port = getenv("AIP_TEST_REDIS_PORT");
    if (!port || !*port) {
        fputs("AIP_TEST_REDIS_PORT is not set: start a Redis with scripts/lib/redis.sh\n", stderr);
        return 1;
    }
    return run_suites(suites, sizeof suites / sizeof *suites);
}
