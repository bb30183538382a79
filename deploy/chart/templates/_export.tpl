{{/* The Jobs that export: one for each pool. */}}
{{- define "tritouch.exportPriority" -}}
{{ .Values.export.priorityClass.name | default (printf "%s-%s-export" .Release.Namespace (include "tritouch.name" .)) }}
{{- end }}

{{/* A Job's name, of `root` and `pool`. A Job cannot be changed: so its name changes with all that it is. */}}
{{- define "tritouch.exportJob" -}}
{{ include "tritouch.name" .root }}-export-{{ .pool.name }}-{{ include "tritouch.exportSpec" . | sha256sum | trunc 8 }}
{{- end }}

{{- define "tritouch.exportSpec" -}}
backoffLimit: 2
activeDeadlineSeconds: {{ .root.Values.export.deadlineSeconds }}
template:
  metadata:
    labels:
      {{- include "tritouch.labels" (list .root "export") | nindent 6 }}
  spec:
    {{- include "tritouch.pod" .root | nindent 4 }}
    restartPolicy: Never
    {{- if or .root.Values.export.priorityClass.create .root.Values.export.priorityClass.name }}
    priorityClassName: {{ include "tritouch.exportPriority" .root }}
    {{- end }}
    nodeSelector:
      {{- toYaml .pool.nodeSelector | nindent 6 }}
    tolerations:
      {{- toYaml .pool.tolerations | nindent 6 }}
    containers:
      - name: export
        image: {{ .pool.export }}
        imagePullPolicy: {{ .root.Values.images.pullPolicy }}
        env:
          {{- include "tritouch.variables" (merge (dict "TRITOUCH_ENGINE" .pool.engine "TRITOUCH_REPOSITORY" .pool.folder "HF_HOME" "/hub" "HOME" "/tmp") .pool.model) | nindent 10 }}
          {{- if or .root.Values.hubToken.value .root.Values.hubToken.existingSecret }}
          - name: HF_TOKEN
            valueFrom:
              secretKeyRef:
                name: {{ .root.Values.hubToken.existingSecret | default (printf "%s-hub" (include "tritouch.name" .root)) }}
                key: {{ .root.Values.hubToken.key }}
          {{- end }}
        resources:
          {{- include "tritouch.resources" (dict "pool" .pool "resources" .root.Values.export.resources) | nindent 10 }}
        securityContext:
          {{- include "tritouch.hardened" .root | nindent 10 }}
        volumeMounts:
          - { name: models, mountPath: /models }
          - { name: hub, mountPath: /hub }
          - { name: tmp, mountPath: /tmp }
          {{- if .root.Values.checkpoints }}
          - { name: checkpoints, mountPath: /checkpoints, readOnly: true }
          {{- end }}
    volumes:
      - name: models
        persistentVolumeClaim: { claimName: {{ include "tritouch.claim" (dict "root" .root "of" "models") }} }
      - name: hub
        persistentVolumeClaim: { claimName: {{ include "tritouch.claim" (dict "root" .root "of" "hub") }} }
      - name: tmp
        emptyDir: { medium: Memory, sizeLimit: 256Mi }
      {{- with .root.Values.checkpoints }}
      - name: checkpoints
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
