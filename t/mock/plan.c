/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan is what a connection shall do with an answer: bytes to send, pauses, and how it ends.
 * answer.c and control.c write it, serve.c carries it out. Plans keep their memory from one request
 * of a connection to the next.
 */
#include "mock.h"

#include <stdlib.h>

void mock_plan_reset(mock_plan_t *p)
{
    p->out.len = 0;
    p->n = 0;
    p->at = 0;
    p->sent = 0;
}

void mock_plan_free(mock_plan_t *p)
{
    mock_buf_free(&p->out);
    free(p->steps);
    *p = (mock_plan_t){.n = 0};
}

void mock_plan_step(mock_plan_t *p, mock_step_kind_t kind, size_t a)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 8;
        p->steps = mock_realloc(p->steps, p->cap * sizeof(*p->steps));
    }
    p->steps[p->n++] = (mock_step_t){.kind = kind, .a = a};
}

void mock_plan_send(mock_plan_t *p, const void *data, size_t len)
{
    if (!len) {
        return;
    }
    if (!p->n || p->steps[p->n - 1].kind != STEP_SEND) {
        mock_plan_step(p, STEP_SEND, p->out.len);
    }
    mock_buf_add(&p->out, data, len);
    p->steps[p->n - 1].len += len;
}

void mock_plan_wait(mock_plan_t *p, long ms)
{
    if (ms > 0) {
        mock_plan_step(p, STEP_WAIT, (size_t)ms);
    }
}
