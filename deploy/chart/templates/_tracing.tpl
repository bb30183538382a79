{{/* Where spans are sent: one URL, empty for nowhere. */}}
{{- define "tritouch.collector" -}}
{{- .Values.tracing.tracesEndpoint | default .Values.tracing.endpoint -}}
{{- end }}

{{/* Variables of a container that is traced, by OpenTelemetry's names; none without a collector. Kubernetes puts the pod's
     name into those that stand after it. */}}
{{- define "tritouch.tracing" -}}
{{- $tracing := .Values.tracing -}}
{{- if include "tritouch.collector" . }}
{{- $attributes := list "k8s.pod.name=$(POD_NAME)" (printf "k8s.namespace.name=%s" .Release.Namespace) }}
{{- range $name, $value := $tracing.resourceAttributes }}{{ $attributes = append $attributes (printf "%s=%s" $name $value) }}{{ end }}
{{- $variables := dict "OTEL_RESOURCE_ATTRIBUTES" (join "," $attributes) "OTEL_BSP_SCHEDULE_DELAY" $tracing.scheduleDelayMilliseconds }}
{{- with $tracing.endpoint }}{{ $_ := set $variables "OTEL_EXPORTER_OTLP_ENDPOINT" . }}{{ end }}
{{- with $tracing.tracesEndpoint }}{{ $_ := set $variables "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" . }}{{ end }}
{{- with $tracing.sampler }}{{ $_ := set $variables "OTEL_TRACES_SAMPLER" . }}{{ end }}
{{- if hasSuffix "traceidratio" $tracing.sampler }}{{ $_ := set $variables "OTEL_TRACES_SAMPLER_ARG" $tracing.samplerArgument }}{{ end }}
{{- if include "tritouch.authority" . }}
{{- $_ := set $variables "OTEL_EXPORTER_OTLP_CERTIFICATE" (printf "/etc/collector/%s" $tracing.certificate.key) }}
{{- end }}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{ include "tritouch.variables" $variables }}
{{- with $tracing.headersSecret }}
{{- if .name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef: { name: {{ .name }}, key: {{ .key }} }
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The volume with the authority that the collector is trusted by, mounted at /etc/collector; empty for none. */}}
{{- define "tritouch.authority" -}}
{{- with .Values.tracing.certificate }}
{{- if and .secret .configMap }}{{ fail "tracing.certificate: name a secret or a configMap, not both" }}{{ end }}
{{- if and (or .secret .configMap) (include "tritouch.collector" $) }}
- name: collector
  {{- if .secret }}
  secret: { secretName: {{ .secret }} }
  {{- else }}
  configMap: { name: {{ .configMap }} }
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Egress to the collector: the port of its URL, or its scheme's. */}}
{{- define "tritouch.toCollector" -}}
{{- with include "tritouch.collector" . }}
{{- $url := urlParse . }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) }}
- to:
    {{- toYaml $.Values.networkPolicy.collector | nindent 4 }}
  ports: [{ port: {{ $port }} }]
{{- end }}
{{- end }}
