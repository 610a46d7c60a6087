/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the tests of the Redis store against a real Redis with RediSearch on 127.0.0.1, whose port
 * is in AIP_TEST_REDIS_PORT. Without it there is nothing to test, which is a failure.
 *
 *   run_redis        in plain
 *   run_redis tls    the same and more over TLS: AIP_TEST_REDIS_TLS_PORT and AIP_TEST_CERTS too */
#include "suites.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_set(const char *name)
{
    const char *value = getenv(name);

    if (!value || !*value) {
        fprintf(stderr, "%s is not set: start a Redis with scripts/lib/redis.sh\n", name);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static Suite *(*const plain[])(void) = {redis_suite, redis_pool_suite, redis_peer_suite,
                                            share_suite};
    static Suite *(*const tls[])(void) = {redis_suite, redis_pool_suite, share_suite,
                                          redis_tls_suite, redis_tls_peer_suite};

    if (!is_set("AIP_TEST_REDIS_PORT")) {
        return 1;
    }
    if (argc > 1 && !strcmp(argv[1], "tls")) {
        if (!is_set("AIP_TEST_REDIS_TLS_PORT") || !is_set("AIP_TEST_CERTS")) {
            return 1;
        }
        return run_suites(tls, sizeof tls / sizeof *tls);
    }
    unsetenv("AIP_TEST_REDIS_TLS_PORT");
    return run_suites(plain, sizeof plain / sizeof *plain);
}
