/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SIGNALS_H
#define AIP_SIGNALS_H
/* Stretches of a thread that no signal may end: prefork ends a child from inside its signal
 * handler, which frees memory there and never returns. So neither malloc() nor a change of shared
 * memory may be under way. Under a threaded MPM no signal reaches the threads that serve requests:
 * there these cost nothing. */

#include <signal.h>
#include <stdbool.h>

/** Whether threads that serve requests take signals; true until somebody knows better. */
extern bool aip_signals_taken;

static inline void aip_signals_block(sigset_t *before)
{
    sigset_t all;
    if (aip_signals_taken) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, before);
    }
}

static inline void aip_signals_restore(const sigset_t *before)
{
    if (aip_signals_taken) {
        pthread_sigmask(SIG_SETMASK, before, NULL);
    }
}

#endif
