/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TRACE_FIELDS_H
#define AIP_TRACE_FIELDS_H
/* The rows of AITraces, a part of the table in aip/fields.h, which says what the columns mean. */

// clang-format off
#define AIP_TRACES_FIELDS(X) \
X(ENUM, traces, "AITraces", "-", "off", 0, 0, "off|correlate|export", AIP_F_SERVER, \
  "Distributed traces (W3C trace context, OpenTelemetry). correlate: each request has the ids of its trace, for logs; export: besides, its spans go to AITracesEndpoint.") \
X(STR, traces_endpoint, "AITracesEndpoint", "-", "http://127.0.0.1:4318/v1/traces", 0, 0, NULL, AIP_F_SERVER, \
  "Where spans go: OTLP over HTTP, in its binary encoding (protobuf). The AIEgress directives hold for it.") \
X(STR, traces_header_name, "AITracesHeaderName", "-", NULL, 0, 0, NULL, AIP_F_SERVER, \
  "Name of a header that AITracesEndpoint wants, for instance Authorization.") \
X(STR, traces_header_value, "AITracesHeaderValue", "-", NULL, 0, 0, NULL, AIP_F_SERVER | AIP_F_VAULT | AIP_F_SECRET, \
  "Full value of that header, for instance \"Bearer {vault://env/OTLP_TOKEN}\".") \
X(STR, traces_service_name, "AITracesServiceName", "-", "mod_ai_proxy_adv", 0, 0, NULL, AIP_F_SERVER, \
  "What the server is called in traces (service.name).") \
X(NUM, traces_sampling_ratio, "AITracesSamplingRatio", "-", "1", 0, 1, NULL, AIP_F_SERVER, \
  "Share of the traces that begin here whose spans are exported. Of a trace that a client has begun, its own flag decides.") \
X(INT, traces_queue_size, "AITracesQueueSize", "-", "2048", 1, 1048576, NULL, AIP_F_SERVER, \
  "Requests of a child whose spans may wait for export; beyond that the spans of a request are dropped and counted.") \
X(INT, traces_flush_interval, "AITracesFlushInterval", "-", "5000", 1, AIP_MS_MAX, NULL, AIP_F_SERVER, \
  "Milliseconds between two exports; a queue that is half full does not wait.") \
X(INT, traces_timeout, "AITracesTimeout", "-", "10000", 1, AIP_MS_MAX, NULL, AIP_F_SERVER, \
  "Milliseconds for one export.")
// clang-format on

/** The words of AITraces. */
typedef enum aip_traces_e { AIP_TRACES_OFF, AIP_TRACES_CORRELATE, AIP_TRACES_EXPORT } aip_traces_e;

#endif
