{{/* The pod of a group: what StatefulSet and Deployment have in common. */}}

{{- define "kstream.pod" -}}
metadata:
  labels:
    {{- include "kstream.groupSelector" . | nindent 4 }}
    app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
    {{- with .root.Values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: kstream
    # a change of settings is an upgrade, one pod at a time
    checksum/config: {{ include "kstream.config" .root | sha256sum }}
    {{- with .root.Values.createSecret }}
    checksum/secret: {{ toJson . | sha256sum }}
    {{- end }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "kstream.serviceAccount" .root }}
  automountServiceAccountToken: {{ .root.Values.automountServiceAccountToken }}
  # a Service called kstream-web would set KSTREAM_WEB_PORT
  enableServiceLinks: false
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  # after shutdown_timeout the instance kills what has not drained and committed; it must live to do so
  {{- $sleep := dig "preStop" "sleep" "seconds" 0 (.values.lifecycle | default dict) | int }}
  terminationGracePeriodSeconds: {{ add (int .root.Values.shutdownTimeout) 30 $sleep }}
  securityContext:
    {{- toYaml .root.Values.podSecurityContext | nindent 4 }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    {{- include "kstream.affinity" . | nindent 4 }}
  topologySpreadConstraints:
    {{- include "kstream.spread" . | nindent 4 }}
  {{- if or .root.Values.topics.create .root.Values.initContainers }}
  initContainers:
    {{- if .root.Values.topics.create }}
    - name: topics
      # it has no probe: one that hangs ends when a start that hangs would
      {{- $startup := .values.probes.startup }}
      args: [topics, {{ .root.Values.app | quote }}, --create, --within, {{ mul (int $startup.periodSeconds) (int $startup.failureThreshold) | quote }}]
      {{- include "kstream.container" . | nindent 6 }}
    {{- end }}
    {{- with .root.Values.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: kstream
      args: [run, {{ .root.Values.app | quote }}]
      {{- include "kstream.container" . | nindent 6 }}
      ports:
        - name: web
          containerPort: {{ int .root.Values.web.port }}
      {{- $scheme := include "kstream.scheme" .root | upper }}
      {{- with .values.probes }}
      startupProbe:
        httpGet: {path: /startup, port: web, scheme: {{ $scheme }}}
        {{- toYaml .startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /live, port: web, scheme: {{ $scheme }}}
        {{- toYaml .liveness | nindent 8 }}
      readinessProbe:
        httpGet: {path: /ready, port: web, scheme: {{ $scheme }}}
        {{- toYaml .readiness | nindent 8 }}
      {{- end }}
      {{- with .values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with .root.Values.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: {{ .root.Values.tmp.sizeLimit }}}
    {{- if not .values.persistence.enabled }}
    - name: state
      emptyDir: {sizeLimit: {{ .values.persistence.size }}}
    {{- end }}
    {{- with include "kstream.secretVolumes" .root }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    {{- with .root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* What the app's container and its init container have in common. */}}
{{- define "kstream.container" -}}
image: {{ include "kstream.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: {{ toJson .root.Values.command }}
envFrom:
  - configMapRef: {name: {{ include "kstream.fullname" .root }}}
  {{- with .root.Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- include "kstream.env" . | nindent 2 }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
resources:
  {{- include "kstream.resources" . | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  - name: state
    mountPath: /var/lib/kstream
  {{- with include "kstream.secretMounts" .root }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Without a claim the state counts against the limit of ephemeral storage: a pod beyond it is evicted. */}}
{{- define "kstream.resources" -}}
{{- $resources := mustDeepCopy .values.resources -}}
{{- $limit := dig "limits" "ephemeral-storage" "" $resources -}}
{{- if and $limit (not .values.persistence.enabled) -}}
  {{- $all := add (include "kstream.mebibytes" $limit) (include "kstream.mebibytes" .values.persistence.size) -}}
  {{- $_ := set $resources.limits "ephemeral-storage" (printf "%dMi" $all) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "kstream.affinity" -}}
{{- if .values.affinity -}}
{{- toYaml .values.affinity -}}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "kstream.groupSelector" . | nindent 12 }}
{{- end -}}
{{- end -}}

{{- define "kstream.spread" -}}
{{- if .values.topologySpreadConstraints -}}
{{- toYaml .values.topologySpreadConstraints -}}
{{- else -}}
- topologyKey: topology.kubernetes.io/zone
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "kstream.groupSelector" . | nindent 6 }}
{{- end -}}
{{- end -}}
