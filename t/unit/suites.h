/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_SUITES_H
#define AIP_T_UNIT_SUITES_H
/* All suites of unit tests, one for each t/unit/test_<unit>.c. main.c and main_redis.c run them. */

#include <check.h>

Suite *balance_suite(void);
Suite *chat_suite(void);
Suite *embeddings_suite(void);
Suite *fields_suite(void);
Suite *http1_course_suite(void);
Suite *http1_suite(void);
Suite *json_suite(void);
Suite *model2vec_suite(void);
Suite *provider_suite(void);
Suite *redis_peer_suite(void);
Suite *redis_pool_suite(void);
Suite *redis_suite(void);
Suite *references_suite(void);
Suite *route_suite(void);
Suite *secret_suite(void);
Suite *sse_suite(void);
Suite *usage_suite(void);
Suite *vectordb_suite(void);

#endif
