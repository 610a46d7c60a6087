/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the tests of the Redis store against a real Redis with RediSearch on 127.0.0.1, whose port
 * is in AIP_TEST_REDIS_PORT. Without it there is nothing to test, which is a failure. */
#include "suites.h"

#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    const char *port = getenv("AIP_TEST_REDIS_PORT");
    if (!port || !*port) {
        fputs("AIP_TEST_REDIS_PORT is not set: start a Redis with scripts/lib/redis.sh\n", stderr);
        return 1;
    }
    SRunner *runner = srunner_create(redis_suite());
    srunner_add_suite(runner, redis_pool_suite());
    srunner_add_suite(runner, redis_peer_suite());
    srunner_run_all(runner, CK_ENV);
    int run = srunner_ntests_run(runner), failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0) {
        fputs("no test was run\n", stderr);
    }
    return run == 0 || failed ? 1 : 0;
}
