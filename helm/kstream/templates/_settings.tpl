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

{{/* Names under which pods are asked: any other gets 421. Those of the Services are for `helm test`, KEDA and users. */}}
{{- define "kstream.hosts" -}}
{{- $hosts := list -}}
{{- range $service := list (include "kstream.fullname" .) (include "kstream.headless" .) -}}
  {{- range $domain := list "" (printf ".%s" $.Release.Namespace) (printf ".%s.svc" $.Release.Namespace) (printf ".%s.svc.cluster.local" $.Release.Namespace) -}}
    {{- $hosts = append $hosts (print $service $domain) -}}
  {{- end -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
  {{- $hosts = concat $hosts .Values.ingress.hosts -}}
{{- end -}}
{{- concat $hosts (.Values.settings.web_hosts | default "" | splitList "," | compact) | uniq | join "," -}}
{{- end -}}

{{/* The settings of all groups: the data of the ConfigMap. */}}
{{- define "kstream.config" -}}
{{- $settings := mustDeepCopy .Values.settings -}}
{{- with include "kstream.tlsSettings" . | fromYaml -}}
  {{- $_ := set $settings "kafka" (merge . ($settings.kafka | default dict)) -}}
{{- end -}}
{{- $_ := set $settings "web_hosts" (include "kstream.hosts" .) -}}
KSTREAM_BOOTSTRAP_SERVERS: {{ .Values.bootstrapServers | quote }}
KSTREAM_STATE_DIR: /var/lib/kstream
KSTREAM_WEB_HOST: 0.0.0.0
KSTREAM_WEB_PORT: {{ int .Values.web.port | quote }}
KSTREAM_SHUTDOWN_TIMEOUT: {{ int .Values.shutdownTimeout }}s
{{- if .Values.tls.web.secret }}
KSTREAM_WEB_TLS_CERTIFICATE: /etc/kstream/tls/web/tls.crt
KSTREAM_WEB_TLS_KEY: /etc/kstream/tls/web/tls.key
{{- if .Values.tls.web.ca }}
KSTREAM_WEB_TLS_CA: /etc/kstream/tls/web/ca.crt
{{- end }}
{{- end }}
{{- include "kstream.variables" $settings }}
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
  value: {{ include "kstream.scheme" .root }}://$(POD_NAME).{{ include "kstream.headless" .root }}.$(POD_NAMESPACE).svc:{{ int .root.Values.web.port }}
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
