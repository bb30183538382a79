{{/* Envoy's own configuration: the door before the gateways, the balancer before the Tritons, figures. */}}
{{- define "tritouch.envoy" -}}
{{- $requestBytes := include "tritouch.requestBytes" . -}}
{{- $headSeconds := include "tritouch.setting" (dict "root" . "name" "TRITOUCH_HEAD_TIMEOUT_SECONDS" "default" 10) | float64 -}}
admin:
  address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: {{ .Values.envoy.maxConnections }}
static_resources:
  listeners:
    {{- if .Values.gateway.enabled }}
    - name: door
      address: { socket_address: { address: 0.0.0.0, port_value: 8000 } }
      per_connection_buffer_limit_bytes: 1048576
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: door
                # Whoever is at the other end is the caller, unless proxies before this one are trusted.
                use_remote_address: true
                # Only with an answer, never between two: a request might be on its way.
                http1_safe_max_connection_duration: true
                xff_num_trusted_hops: {{ .Values.envoy.trustedHops }}
                normalize_path: true
                path_with_escaped_slashes_action: REJECT_REQUEST
                request_headers_timeout: 10s
                # A stream may be silent for as long as an edit takes.
                stream_idle_timeout: 0s
                common_http_protocol_options:
                  idle_timeout: 60s
                  max_connection_duration: {{ .Values.envoy.connectionSeconds }}s
                  headers_with_underscores_action: REJECT_REQUEST
                http2_protocol_options: { max_concurrent_streams: 128 }
                server_header_transformation: PASS_THROUGH
                local_reply_config:
                  {{- include "tritouch.envoyReplies" . | nindent 18 }}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
                route_config:
                  virtual_hosts:
                    - name: gateways
                      domains: ["*"]
                      routes:
                        - match: { prefix: "/" }
                          route:
                            cluster: gateways
                            timeout: 0s
                            # The same request, sent again, is to find the gateway that has its edit: by its own key, or by
                            # the caller's token, or else by his address.
                            hash_policy:
                              - header: { header_name: idempotency-key }
                                terminal: true
                              - header: { header_name: authorization }
                                terminal: true
                              - connection_properties: { source_ip: true }
                            # Only what no gateway has begun with.
                            retry_policy: { retry_on: "connect-failure,refused-stream", num_retries: 3 }
    {{- end }}
    - name: balancer
      address: { socket_address: { address: 0.0.0.0, port_value: 8001 } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: balancer
                codec_type: HTTP2
                stream_idle_timeout: 0s
                common_http_protocol_options: { max_connection_duration: {{ .Values.envoy.connectionSeconds }}s }
                {{- if .Values.envoy.accessLog }}
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
                      log_format:
                        json_format:
                          time: "%START_TIME%"
                          call: "%PATH(NQ)%"
                          triton: "%UPSTREAM_HOST%"
                          attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"
                          grpc: "%GRPC_STATUS%"
                          flags: "%RESPONSE_FLAGS%"
                          milliseconds: "%DURATION%"
                {{- end }}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
                route_config:
                  virtual_hosts:
                    - name: tritons
                      domains: ["*"]
                      routes:
                        - match: { prefix: "/" }
                          # What is to be sent a second time has to be kept until the first has answered.
                          request_body_buffer_limit: {{ $requestBytes }}
                          route:
                            cluster: tritons
                            # The gateway gives each edit its deadline, and ends it there.
                            timeout: 0s
                            # An edit's seed is drawn before it is sent: again it becomes the same picture. Nothing is sent
                            # again once its answer has begun.
                            retry_policy:
                              retry_on: "connect-failure,refused-stream,reset,unavailable,cancelled,retriable-headers"
                              # A Triton that is going knows its models no more: NOT_FOUND.
                              retriable_headers:
                                - name: grpc-status
                                  string_match: { exact: "5" }
                              num_retries: 8
                              retry_back_off: { base_interval: 0.1s, max_interval: 2s }
                              retry_host_predicate:
                                - name: envoy.retry_host_predicates.previous_hosts
                                  typed_config:
                                    "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
                              host_selection_retry_max_attempts: 8
    - name: figures
      address: { socket_address: { address: 0.0.0.0, port_value: 9902 } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: figures
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
                route_config:
                  virtual_hosts:
                    - name: figures
                      domains: ["*"]
                      routes:
                        - match: { path: /metrics }
                          route: { cluster: admin, prefix_rewrite: /stats/prometheus }
                        - match: { path: /ready }
                          route: { cluster: admin }
  clusters:
    {{- if .Values.gateway.enabled }}
    - name: gateways
      lb_policy: RING_HASH
      ring_hash_lb_config: { minimum_ring_size: 4096 }
      {{- include "tritouch.envoyHosts" (dict "host" (printf "%s-gateways" (include "tritouch.name" .)) "port" 8000 "cluster" "gateways") | nindent 6 }}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          # Before the gateway closes it, lest a request meet a connection that is going.
          common_http_protocol_options: { idle_timeout: {{ divf $headSeconds 2 }}s }
          explicit_http_config: { http_protocol_options: {} }
      health_checks:
        - { timeout: 5s, interval: 2s, no_traffic_interval: 2s, unhealthy_threshold: 3, healthy_threshold: 1, http_health_check: { path: /livez } }
    {{- end }}
    - name: tritons
      lb_policy: LEAST_REQUEST
      # More choices would send everything to a dead one, which has the fewest requests of all.
      least_request_lb_config: { choice_count: 2 }
      {{- include "tritouch.envoyHosts" (dict "host" (printf "%s-tritons" (include "tritouch.name" .)) "port" 8001 "cluster" "tritons") | nindent 6 }}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config:
            http2_protocol_options:
              # A machine that is gone says nothing: after a minute its edits are sent elsewhere. One that is only frozen
              # for less keeps them, and none is computed twice.
              connection_keepalive: { interval: 30s, timeout: 30s }
      health_checks:
        - { timeout: 1s, interval: 1s, no_traffic_interval: 1s, unhealthy_threshold: 2, healthy_threshold: 1, grpc_health_check: {} }
      # Only what a connection says, not what Triton answers: edits that fail are no reason to leave it out.
      outlier_detection:
        split_external_local_origin_errors: true
        consecutive_local_origin_failure: 2
        enforcing_consecutive_5xx: 0
        enforcing_consecutive_gateway_failure: 0
        enforcing_success_rate: 0
        enforcing_local_origin_success_rate: 0
        base_ejection_time: 5s
        max_ejection_percent: 100
    - name: admin
      type: STATIC
      load_assignment:
        cluster_name: admin
        endpoints:
          - lb_endpoints:
              - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9901 } } }
{{- end }}

{{/* dict (host, port, cluster): found by the cluster's DNS; whoever leaves it gets nothing more, and finishes what it has. */}}
{{- define "tritouch.envoyHosts" -}}
cluster_type:
  name: envoy.cluster.dns
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
    # Triton and the gateway listen on IPv4.
    dns_lookup_family: V4_PREFERRED
    dns_refresh_rate: 5s
    dns_failure_refresh_rate: { base_interval: 1s, max_interval: 5s }
connect_timeout: 2s
ignore_health_on_host_removal: true
# Where none is well, all are tried.
common_lb_config: { healthy_panic_threshold: { value: 1 } }
circuit_breakers:
  thresholds:
    - { max_connections: 65536, max_pending_requests: 65536, max_requests: 65536, max_retries: 65536 }
load_assignment:
  cluster_name: {{ .cluster }}
  endpoints:
    - lb_endpoints:
        - endpoint: { address: { socket_address: { address: {{ .host }}, port_value: {{ .port }} } } }
{{- end }}

{{/* What Envoy itself answers callers, in the shape of the gateway's errors. */}}
{{- define "tritouch.envoyReplies" -}}
mappers:
  - filter:
      status_code_filter:
        comparison: { op: GE, value: { default_value: 500, runtime_key: tritouch.unavailable } }
    status_code: 503
    headers_to_add:
      - header: { key: retry-after, value: "1" }
        append_action: OVERWRITE_IF_EXISTS_OR_ADD
    body_format_override:
      {{- include "tritouch.envoyError" (list "unavailable" "server_error" "The model is not available now. Try again shortly.") | nindent 6 }}
body_format:
  {{- include "tritouch.envoyError" (list "body_unreadable" "invalid_request_error" "The request is not well-formed.") | nindent 2 }}
{{- end }}

{{- define "tritouch.envoyError" -}}
content_type: application/json
json_format:
  error: { message: {{ index . 2 | quote }}, type: {{ index . 1 }}, param: null, code: {{ index . 0 }} }
  detail: {{ index . 2 | quote }}
{{- end }}
