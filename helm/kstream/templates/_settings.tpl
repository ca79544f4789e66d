{{/* kstream's settings as environment variables. */}}

{{/* `kafka.sasl.password` is KSTREAM_KAFKA__SASL_PASSWORD. */}}
{{- define "kstream.variable" -}}
KSTREAM_{{ regexReplaceAll "^(kafka|changelog)\\." . "${1}__" | replace "." "_" | upper }}
{{- end -}}

{{/* A number as it was written: Helm's numbers are floats, and 1000000 would become 1e+06. */}}
{{- define "kstream.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
  {{- printf "%.0f" . -}}
{{- else -}}
  {{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Variable -> text of a map of settings, with those of librdkafka. */}}
{{- define "kstream.variables" -}}
{{- range $name, $value := . }}
{{- if kindIs "map" $value }}
{{- range $key, $text := $value }}
{{ include "kstream.variable" (printf "%s.%s" $name $key) }}: {{ include "kstream.text" $text | quote }}
{{- end }}
{{- else }}
{{ include "kstream.variable" $name }}: {{ include "kstream.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The settings of all groups: the data of the ConfigMap. */}}
{{- define "kstream.config" -}}
KSTREAM_BOOTSTRAP_SERVERS: {{ .Values.bootstrapServers | quote }}
KSTREAM_STATE_DIR: /var/lib/kstream
KSTREAM_WEB_HOST: 0.0.0.0
KSTREAM_WEB_PORT: {{ int .Values.web.port | quote }}
KSTREAM_SHUTDOWN_TIMEOUT: {{ int .Values.shutdownTimeout }}s
{{- include "kstream.variables" .Values.settings }}
{{- end -}}

{{/* What the chart decides itself for the app's container and its init container. */}}
{{- define "kstream.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: KSTREAM_INSTANCE
  value: $(POD_NAME)
{{- if .values.persistence.enabled }}
- name: KSTREAM_WEB_URL
  value: http://$(POD_NAME).{{ include "kstream.headless" .root }}.$(POD_NAMESPACE).svc:{{ int .root.Values.web.port }}
{{- end }}
- name: KSTREAM_GROUPS
  value: {{ include "kstream.runs" . | quote }}
- name: KSTREAM_WORKERS
  value: {{ include "kstream.text" .values.workers | quote }}
- name: KSTREAM_ON_STOP
  {{- /* a Deployment's pod does not come back under its name: nobody would take its place */}}
  value: {{ ternary "leave" .root.Values.onStop (and (eq .root.Values.onStop "auto") (not .values.persistence.enabled)) }}
{{- range $setting, $value := (dig "settings" dict (index .root.Values.groups .group)) }}
{{- range $name, $text := (include "kstream.variables" (dict $setting $value) | fromYaml) }}
- name: {{ $name }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- include "kstream.secretEnv" .root }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Setting -> key of the Secret, given or made. */}}
{{- define "kstream.secretKeys" -}}
{{- with .Values.secrets -}}
{{- if .existingSecret -}}
  {{- if .create -}}
    {{- fail "secrets: existingSecret and create are both given; use one" -}}
  {{- end -}}
  {{- toYaml .keys -}}
{{- else -}}
  {{- if .keys -}}
    {{- fail "secrets.keys needs secrets.existingSecret, whose keys it names" -}}
  {{- end -}}
  {{- range $setting, $_ := .create }}
{{ $setting }}: {{ $setting }}
  {{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kstream.secretEnv" -}}
{{- range $setting, $key := (include "kstream.secretKeys" . | fromYaml) }}
{{- if eq $.Values.secrets.as "files" }}
- name: {{ include "kstream.variable" $setting }}_FILE
  value: /etc/kstream/secrets/{{ $key }}
{{- else }}
- name: {{ include "kstream.variable" $setting }}
  valueFrom: {secretKeyRef: {name: {{ include "kstream.secret" $ }}, key: {{ $key }}}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "kstream.mountsSecret" -}}
{{- with .Values.secrets -}}
{{- if and (eq .as "files") (or .create (and .existingSecret .keys)) -}}true{{- end -}}
{{- end -}}
{{- end -}}
