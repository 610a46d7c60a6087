/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SIGNALS_H
#define AIP_SIGNALS_H
/* Stretches of a thread that no signal may end: prefork ends a child from inside its signal
 * handler, which frees memory there and never returns. So neither malloc() nor a change of shared
 * memory may be under way. */

#include <signal.h>

static inline void aip_signals_block(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

static inline void aip_signals_restore(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

#endif
