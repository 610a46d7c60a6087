/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FIXED VECTORS, NO MODEL: the texts that the embeddings stub knows, each with its topic and the
 * cosine distance from that topic's axis that the stub gives it. The distances are chosen, not
 * measured: they let tests of routing use the documented configurations with thresholds 0.8 and 0.7
 * untouched, and prove nothing about any embedding model. Texts that are not listed get a direction
 * of their own (vectors.c). Read once by mock_vectors_init().
 */
#include "mock.h"

const char *const mock_topics[] = {"programming", "mathematics", "python", "it-support"};
const size_t mock_topics_n = sizeof(mock_topics) / sizeof(mock_topics[0]);

const mock_vector_row_t mock_vector_rows[] = {
    /* first configuration: 1536 dimensions, threshold 0.8 */
    {"programming", 0.0,
     "programming, coding, software development, Python, JavaScript, APIs, debugging"},
    {"programming", 0.52, "How do I build a REST API using Flask?"},
    {"programming", 0.58, "What does the `map()` function do in Python?"},
    {"mathematics", 0.0,
     "mathematics, algebra, calculus, trigonometry, equations, integrals, derivatives, theorems"},
    {"mathematics", 0.47, "What's the derivative of sin(x)?"},
    {"mathematics", 0.63, "What's the Fermat's last theorem?"},
    {"*", 0.95, "What's the capital of Argentina?"},
    {"*", 0.96, "Tell me a fun fact about dolphins"},
    /* second configuration: 1024 dimensions, threshold 0.7 */
    {"python", 0.0, "Specialist in python"},
    {"python", 0.45, "How do I write a Python function?"},
    {"python", 0.55, "Optimize this Python code snippet for speed"},
    {"python", 0.50, "How to implement a custom iterator class in Python"},
    {"it-support", 0.0, "Requests related to IT support"},
    {"it-support", 0.49, "How do I reset my corporate email password?"},
    {"it-support", 0.60, "My VPN keeps disconnecting; help me troubleshoot it?"},
    {"it-support", 0.65,
     "How do I configure two-factor authentication on Windows 10 for our company network?"},
    {"*", 0.94, "What\xe2\x80\x99s the weather like today?"},
    {"*", 0.97, "Write a short poem about the beauty of autumn."},
    {"*", 0.95, "Can you suggest some tips for improving creativity?"},
};
const size_t mock_vector_rows_n = sizeof(mock_vector_rows) / sizeof(mock_vector_rows[0]);
