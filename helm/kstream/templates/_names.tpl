{{/* Names and labels. What selectors hold never changes: Kubernetes refuses it. */}}

{{- define "kstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "kstream.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $both .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The workload of a group. That of `default` has the release's name, whether or not there are others. */}}
{{- define "kstream.workload" -}}
{{- $name := include "kstream.fullname" .root -}}
{{- if ne .group "default" -}}
  {{- $name = printf "%s-%s" $name .group -}}
{{- end -}}
{{- if gt (len $name) 52 -}}
  {{- fail (printf "the name %s has %d characters and pods' labels take 52: give a shorter fullnameOverride" $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The headless Service: gives each pod its host name. */}}
{{- define "kstream.headless" -}}
{{ include "kstream.fullname" . }}-pods
{{- end -}}

{{- define "kstream.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
  {{- default (include "kstream.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
  {{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kstream.selector" -}}
app.kubernetes.io/name: {{ include "kstream.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kstream.groupSelector" -}}
{{ include "kstream.selector" .root }}
app.kubernetes.io/component: {{ .group }}
{{- end -}}

{{/* The pod of `helm test` is none of the app's: no selector may find it. */}}
{{- define "kstream.testLabels" -}}
app.kubernetes.io/name: {{ include "kstream.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Nor may one find that of the job that makes topics. */}}
{{- define "kstream.jobLabels" -}}
app.kubernetes.io/name: {{ include "kstream.name" . }}-topics
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kstream.labels" -}}
{{ include "kstream.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kstream.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
  {{ .repository }}@{{ .digest }}
{{- else -}}
  {{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}
