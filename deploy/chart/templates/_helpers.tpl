{{- define "tritouch.name" -}}
{{- $name := ternary .Release.Name (printf "%s-tritouch" .Release.Name) (contains "tritouch" .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "tritouch.tag" -}}
{{- .Values.images.tag | default .Chart.AppVersion -}}
{{- end }}

{{/* list (context, component): what a Service, a Deployment and a policy know its pods by */}}
{{- define "tritouch.selector" -}}
app.kubernetes.io/name: tritouch
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "tritouch.labels" -}}
{{ include "tritouch.selector" . }}
app.kubernetes.io/part-of: tritouch
app.kubernetes.io/version: {{ include "tritouch.tag" (index . 0) | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* What every pod is: no rights, no token, and no variables of Services, whose names the settings' own would be. */}}
{{- define "tritouch.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "tritouch.hardened" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Pods of one component on different nodes, where there are several. */}}
{{- define "tritouch.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tritouch.selector" . | nindent 8 }}
{{- end }}

{{/* One value of a variable: YAML's large numbers are floats, which would be written as 4.02e+08. */}}
{{- define "tritouch.value" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end }}

{{- define "tritouch.variables" -}}
{{- $lines := list }}
{{- range $name, $value := . }}
{{- $lines = append $lines (printf "- name: %s\n  value: %s" $name (include "tritouch.value" $value | quote)) }}
{{- end }}
{{- join "\n" $lines }}
{{- end }}

{{/* The pools, whole, as JSON: each with its defaults, its `model` over the release's, and `folder`, which belongs to all
     that its engines depend on. So what serves is never changed under a Triton, and a rollback finds its own. */}}
{{- define "tritouch.pools" -}}
{{- $root := . -}}
{{- $pools := list -}}
{{- range .Values.pools -}}
{{- $pool := deepCopy $root.Values.poolDefaults -}}
{{- range $name, $value := . }}{{ $_ := set $pool $name $value }}{{ end -}}
{{- $model := deepCopy $root.Values.model -}}
{{- range $name, $value := $pool.model }}{{ $_ := set $model $name $value }}{{ end -}}
{{- range $name, $value := $model }}{{ $_ := set $model $name (include "tritouch.value" $value) }}{{ end -}}
{{- $cpu := ternary "-cpu" "" (eq $pool.engine "openvino") -}}
{{- $hash := dict "model" $model "engine" $pool.engine "tag" (include "tritouch.tag" $root) | toJson | sha256sum | trunc 8 -}}
{{- $_ := set $pool "model" $model -}}
{{- $_ := set $pool "hash" $hash -}}
{{- $_ := set $pool "folder" (printf "/models/%s-%s" $pool.name $hash) -}}
{{- $_ := set $pool "fullname" (printf "%s-triton-%s" (include "tritouch.name" $root) $pool.name) -}}
{{- $_ := set $pool "gpu" (ternary dict (dict $pool.gpuResource 1) (eq $pool.engine "openvino")) -}}
{{- range $image := list "triton" "export" -}}
{{- $_ := set $pool $image (printf "%stritouch-%s%s:%s" $root.Values.images.registry $image $cpu (include "tritouch.tag" $root)) -}}
{{- end -}}
{{- if gt (int $pool.minReplicas) (int $pool.maxReplicas) -}}
{{- fail (printf "pool %s: minReplicas %v is above maxReplicas %v" $pool.name $pool.minReplicas $pool.maxReplicas) -}}
{{- end -}}
{{- range $other := $pools -}}
{{- if eq $other.name $pool.name }}{{ fail (printf "two pools are called %s" $pool.name) }}{{ end -}}
{{- end -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- toJson $pools -}}
{{- end }}

{{/* dict (pool, resources): these, with one GPU where the pool has them */}}
{{- define "tritouch.resources" -}}
{{- $limits := deepCopy (.resources.limits | default dict) -}}
{{- range $name, $value := .pool.gpu }}{{ $_ := set $limits $name $value }}{{ end -}}
{{- $resources := deepCopy .resources -}}
{{- if $limits }}{{ $_ := set $resources "limits" $limits }}{{ end -}}
{{- toYaml $resources -}}
{{- end }}

{{/* dict (root, of: models or hub): what a volume of `storage` is called */}}
{{- define "tritouch.claim" -}}
{{- (index .root.Values.storage .of).existingClaim | default (printf "%s-%s" (include "tritouch.name" .root) .of) -}}
{{- end }}

{{- define "tritouch.setting" -}}
{{- $given := index .root.Values.gateway.settings .name -}}
{{- include "tritouch.value" (ternary .default $given (kindIs "invalid" $given)) -}}
{{- end }}

{{/* The largest request to a Triton: an edit's body, or the pictures that it names by URL; and the rest of it. */}}
{{- define "tritouch.requestBytes" -}}
{{- $body := include "tritouch.setting" (dict "root" . "name" "TRITOUCH_MAX_BODY_BYTES" "default" 100663296) | int64 -}}
{{- $pictures := include "tritouch.setting" (dict "root" . "name" "TRITOUCH_MAX_REQUEST_IMAGE_BYTES" "default" 67108864) | int64 -}}
{{- add (max $body $pictures) 1048576 -}}
{{- end }}

{{- define "tritouch.heldBytes" -}}
{{- include "tritouch.setting" (dict "root" . "name" "TRITOUCH_MAX_HELD_BYTES" "default" 402653184) -}}
{{- end }}

{{/* How long an Envoy that goes still serves: until its connections were closed, by age or idle for a minute, and what
     came is done. */}}
{{- define "tritouch.envoySeconds" -}}
{{- add .Values.envoy.connectionSeconds 60 10 (ceil .Values.editTimeoutSeconds | int64) -}}
{{- end }}
