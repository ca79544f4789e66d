{{/* Secrets and certificates: which settings come from them, and where they lie in a pod. */}}

{{/* Setting -> {name, key}: the Secret and its key. Read it with fromYaml. */}}
{{- define "kstream.secretKeys" -}}
{{- $found := dict -}}
{{- range .Values.secrets -}}
  {{- $name := .name -}}
  {{- range $setting, $key := .keys -}}
    {{- with get $found $setting -}}
      {{- fail (printf "secrets: %s comes from Secret %s and from %s; name it once" $setting .name $name) -}}
    {{- end -}}
    {{- $_ := set $found $setting (dict "name" $name "key" $key) -}}
  {{- end -}}
{{- end -}}
{{- range $setting, $_ := .Values.createSecret -}}
  {{- with get $found $setting -}}
    {{- fail (printf "createSecret: %s comes from Secret %s already; name it once" $setting .name) -}}
  {{- end -}}
  {{- $_ := set $found $setting (dict "name" (include "kstream.fullname" $) "key" $setting) -}}
{{- end -}}
{{- with .Values.tls.kafka.certificate -}}
  {{- if .password -}}
    {{- if not .secret -}}
      {{- fail "tls.kafka.certificate: password needs secret, whose key it names" -}}
    {{- end -}}
    {{- $_ := set $found "kafka.ssl.key.password" (dict "name" .secret "key" .password) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "kstream.secretEnv" -}}
{{- range $setting, $from := (include "kstream.secretKeys" . | fromYaml) }}
{{- if eq $.Values.secretsAs "files" }}
- name: {{ include "kstream.variable" $setting }}_FILE
  value: /etc/kstream/secrets/{{ $from.name }}/{{ $from.key }}
{{- else }}
- name: {{ include "kstream.variable" $setting }}
  valueFrom: {secretKeyRef: {name: {{ $from.name }}, key: {{ $from.key }}}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Keys of `tls` as librdkafka's settings. Read it with fromYaml. */}}
{{- define "kstream.tlsSettings" -}}
{{- $found := dict -}}
{{- with .Values.tls.kafka -}}
{{- if and .ca.secret .ca.configMap -}}
  {{- fail "tls.kafka.ca: secret and configMap are both given; use one" -}}
{{- end -}}
{{- if or .ca.secret .ca.configMap -}}
  {{- $_ := set $found "ssl.ca.location" "/etc/kstream/tls/kafka/ca.crt" -}}
{{- end -}}
{{- if .certificate.secret -}}
  {{- $_ := set $found "ssl.certificate.location" "/etc/kstream/tls/kafka/tls.crt" -}}
  {{- $_ := set $found "ssl.key.location" "/etc/kstream/tls/kafka/tls.key" -}}
{{- end -}}
{{- end -}}
{{- $given := .Values.settings.kafka | default dict -}}
{{- range $key, $_ := $found -}}
  {{- if hasKey $given $key -}}
    {{- fail (printf "settings.kafka: %s is made of tls.kafka; leave one of them out" $key) -}}
  {{- end -}}
{{- end -}}
{{- if $found -}}
  {{- $protocol := get $given "security.protocol" | upper -}}
  {{- if not $protocol -}}
    {{- $logsIn := or (hasKey $given "sasl.mechanism") (hasKey $given "sasl.mechanisms") -}}
    {{- $_ := set $found "security.protocol" (ternary "SASL_SSL" "SSL" $logsIn) -}}
  {{- else if not (hasSuffix "SSL" $protocol) -}}
    {{- fail (printf "tls.kafka: settings.kafka has security.protocol %s, which has no TLS; set SSL or SASL_SSL, or leave it out" $protocol) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "kstream.scheme" -}}
{{- if .Values.tls.web.secret -}}https{{- else -}}http{{- end -}}
{{- end -}}

{{/* How a scraper asks. It asks by address, which no certificate names: so it does not check. */}}
{{- define "kstream.scrapeScheme" -}}
scheme: {{ include "kstream.scheme" . }}
{{- if .Values.tls.web.secret }}
tlsConfig: {insecureSkipVerify: true}
{{- end }}
{{- end -}}

{{/* Volumes of a pod for all that, one for secrets and one for certificates, each only where there are any. */}}
{{- define "kstream.secretVolumes" -}}
{{- $byName := dict -}}
{{- range $_, $from := (include "kstream.secretKeys" . | fromYaml) -}}
  {{- $_ := set $byName $from.name (append (get $byName $from.name | default list) $from.key | uniq) -}}
{{- end -}}
{{- if and $byName (eq .Values.secretsAs "files") }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $name, $keys := $byName }}
      - secret:
          name: {{ $name }}
          items:
            {{- range $keys }}
            - {key: {{ . }}, path: {{ $name }}/{{ . }}}
            {{- end }}
      {{- end }}
{{- end }}
{{- with include "kstream.tlsSources" . }}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "kstream.tlsSources" -}}
{{- with .Values.tls.kafka.ca }}
{{- if or .secret .configMap }}
- {{ ternary "secret" "configMap" (ne .secret "") }}:
    name: {{ .secret | default .configMap }}
    items: [{key: {{ .key }}, path: kafka/ca.crt}]
{{- end }}
{{- end }}
{{- with .Values.tls.kafka.certificate }}
{{- if .secret }}
- secret:
    name: {{ .secret }}
    items: [{key: {{ .certificate }}, path: kafka/tls.crt}, {key: {{ .key }}, path: kafka/tls.key}]
{{- end }}
{{- end }}
{{- with .Values.tls.web }}
{{- if .secret }}
- secret:
    name: {{ .secret }}
    items:
      - {key: tls.crt, path: web/tls.crt}
      - {key: tls.key, path: web/tls.key}
      {{- with .ca }}
      - {key: {{ . }}, path: web/ca.crt}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "kstream.secretMounts" -}}
{{- if and (eq .Values.secretsAs "files") (include "kstream.secretKeys" . | fromYaml) }}
- name: secrets
  mountPath: /etc/kstream/secrets
  readOnly: true
{{- end }}
{{- if include "kstream.tlsSources" . }}
- name: tls
  mountPath: /etc/kstream/tls
  readOnly: true
{{- end }}
{{- end -}}
