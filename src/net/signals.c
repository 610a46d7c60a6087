/* SPDX-License-Identifier: Apache-2.0 */
/* Whether signals can end a thread in the middle of its work: see aip/signals.h. */
#include "aip/signals.h"

bool aip_signals_taken = true;
