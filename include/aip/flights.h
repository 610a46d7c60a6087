/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_FLIGHTS_H
#define AIP_FLIGHTS_H
/* Glue: identical prompts that are embedded at the same time cost one embeddings call. One request
 * of all children makes it, the others wait for its result in shared memory. */

#include "aip/config.h"

/** pre_config hook: the lock's type. */
int aip_flights_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);

/** post_config: the table, if a gateway embeds over the network. */
apr_status_t aip_flights_create(apr_pool_t *pconf, server_rec *s);

void aip_flights_child_init(apr_pool_t *pchild, server_rec *s);

/** child_status, in the parent: nobody waits for a child that has died. */
void aip_flights_child_gone(pid_t pid);

typedef enum aip_flight_e {
    AIP_FLIGHT_OWN,     /**< the caller makes the call, and lands */
    AIP_FLIGHT_ALONE,   /**< the caller makes the call, nobody knows of it */
    AIP_FLIGHT_RESULT,  /**< another request's distances */
    AIP_FLIGHT_FAILED,  /**< another request's call failed */
    AIP_FLIGHT_TOO_LATE /**< the deadline came first */
} aip_flight_e;

/** The caller's part in a flight. */
typedef struct aip_flight_t {
    int slot;
    apr_uint32_t word; /**< of the slot while the flight is this one */
    char code[32];     /**< AIP_FLIGHT_FAILED: the error's code */
} aip_flight_t;

/**
 * Joins the flight of a key, or begins it. Waits up to `deadline`, and as long as the client does.
 * @param key        32 bytes
 * @param distances  out, float[n], for AIP_FLIGHT_RESULT
 */
aip_flight_e aip_flight_join(request_rec *r, const unsigned char *key, apr_time_t deadline,
                             float *distances, int n, aip_flight_t *flight);

/** Ends a flight that the caller began.
 * @param distances  float[n], NULL: the call failed
 * @param code       then: the error's code; NULL: only for this caller, another one may try */
void aip_flight_land(const aip_flight_t *flight, const float *distances, int n, const char *code);

#endif
