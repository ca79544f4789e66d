{{/* Isolation groups: what each of them is, and what must fit together. */}}

{{/* Fails with what to give where a value is missing that has no default. */}}
{{- define "kstream.checkRequired" -}}
{{- if not .Values.monitoring.only -}}
{{- $_ := required "app is missing: what `kstream run` takes, such as app=services.flights.app:app" .Values.app -}}
{{- $_ := required "image.repository is missing: an image that has the app and kstream" .Values.image.repository -}}
{{- $_ := required "bootstrapServers is missing: Kafka brokers as host:port, several with commas" .Values.bootstrapServers -}}
{{- else if not (or .Values.monitoring.prometheusRule.enabled .Values.monitoring.dashboard.enabled) -}}
  {{- fail "monitoring.only: there is nothing to install; enable monitoring.prometheusRule, monitoring.dashboard or both" -}}
{{- end -}}
{{- end -}}

{{/* Group name -> the values that hold for it. Read it with fromYaml. */}}
{{- define "kstream.groups" -}}
{{- if .Values.monitoring.only -}}
{}
{{- else -}}
{{- $own := list "replicas" "workers" "resources" "settings" "autoscaling" "persistence" "podDisruptionBudget" "probes"
    "lifecycle" "extraEnv" "podAnnotations" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" -}}
{{- $groups := dict -}}
{{- range $name, $group := .Values.groups -}}
  {{- $common := dict -}}
  {{- range $key := $own -}}
    {{- $_ := set $common $key (index $.Values $key) -}}
  {{- end -}}
  {{- $_ := set $groups $name (mustMergeOverwrite (mustDeepCopy $common) $group) -}}
{{- end -}}
{{- if not $groups -}}
  {{- fail "groups: there is none; at least `default` must stay" -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
{{- end -}}

{{/* Groups that an instance runs, for KSTREAM_GROUPS: all when `default` is alone. */}}
{{- define "kstream.runs" -}}
{{- if or (ne .group "default") (gt (len .root.Values.groups) 1) -}}{{ .group }}{{- end -}}
{{- end -}}

{{/* The consumer group of an isolation group. */}}
{{- define "kstream.consumerGroup" -}}
{{- .root.Values.appName -}}{{- if ne .group "default" -}}-{{ .group }}{{- end -}}
{{- end -}}

{{/* Fails where autoscaling cannot work. */}}
{{- define "kstream.checkAutoscaling" -}}
{{- $of := printf "groups.%s: autoscaling" .group -}}
{{- with .values.autoscaling -}}
{{- if not $.root.Values.appName -}}
  {{- fail (printf "%s needs appName, the name in App(\"...\"): the consumer group is named after it" $of) -}}
{{- end -}}
{{- $prefix := $.root.Values.settings.topic_prefix | default "" | toString -}}
{{- if not (hasPrefix $prefix $.root.Values.appName) -}}
  {{- fail (printf "%s: appName is %s, without settings.topic_prefix: the consumer group is %s%s; call it so, and the topics by their names in Kafka" $of $.root.Values.appName $prefix $.root.Values.appName) -}}
{{- end -}}
{{- with $.root.Values.settings.app_name -}}
  {{- if ne $.root.Values.appName (print $prefix .) -}}
    {{- fail (printf "%s: appName is %s, but settings.app_name makes the consumer group %s%s; call it so" $of $.root.Values.appName $prefix .) -}}
  {{- end -}}
{{- end -}}
{{- if not .topics -}}
  {{- fail (printf "%s needs topics: the inputs and repartition topics of the group, as `kstream topics` lists them" $of) -}}
{{- end -}}
{{- $partitions := int .partitions -}}
{{- if lt $partitions 1 -}}
  {{- fail (printf "%s needs partitions: how many the topic has that has most of them" $of) -}}
{{- end -}}
{{- $each := splitList ".." (toString $.values.workers) | first | int | max 1 -}}
{{- $most := div (sub (add $partitions $each) 1) $each | int -}}
{{- if gt (int .maxReplicas) $most -}}
  {{- fail (printf "%s: maxReplicas is %d, but %d partitions keep %d pods of %d workers busy: lower it, or add partitions" $of (int .maxReplicas) $partitions $most $each) -}}
{{- end -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
  {{- fail (printf "%s: minReplicas is %d, more than maxReplicas (%d)" $of (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- if and (eq (int .minReplicas) 0) (ge (int .activationLagThreshold) (int .lagThreshold)) -}}
  {{- fail (printf "%s: activationLagThreshold is %d, as much as a pod may have (lagThreshold %d): nobody would take such a lag; lower it" $of (int .activationLagThreshold) (int .lagThreshold)) -}}
{{- end -}}
{{- if and (eq .kind "hpa") (lt (int .minReplicas) 1) -}}
  {{- fail (printf "%s: minReplicas 0 needs kind keda" $of) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails where workers have a range without sense. */}}
{{- define "kstream.checkWorkers" -}}
{{- $range := splitList ".." (toString .values.workers) -}}
{{- if gt (first $range | int) (last $range | int) -}}
  {{- fail (printf "groups.%s: workers is %v, whose end is less than its beginning; turn it round" .group .values.workers) -}}
{{- end -}}
{{- end -}}

{{/*
Fails where a variable of `extraEnv` is one that the chart makes: the container would have it twice. Kubernetes refuses that,
or takes the last, of which the checks of this file know nothing.
*/}}
{{- define "kstream.checkEnv" -}}
{{- $made := list -}}
{{- range include "kstream.env" (dict "root" .root "group" .group "values" (omit .values "extraEnv")) | fromYamlArray -}}
  {{- $made = append $made .name -}}
{{- end -}}
{{- range .values.extraEnv -}}
  {{- if has .name $made -}}
    {{- fail (printf "groups.%s: extraEnv: %s is made of the chart's other values (workers, onStop, secrets, settings of the group); set it there" $.group .name) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails where the budgets of a pod's workers, and 128 MiB for what is beside them, are more than the pod may have. */}}
{{- define "kstream.checkMemory" -}}
{{- $limit := dig "limits" "memory" "" .values.resources | toString -}}
{{- $each := dig "settings" "memory" "512MiB" .values | toString -}}
{{- if and (regexMatch "^[0-9]+(Mi|Gi)$" $limit) (regexMatch "^[0-9]+(MiB|GiB)$" $each) -}}
  {{- $workers := splitList ".." (toString .values.workers) | last | int -}}
  {{- $needed := add (mul $workers (include "kstream.mebibytes" (trimSuffix "B" $each))) 128 -}}
  {{- if lt (include "kstream.mebibytes" $limit | int64) $needed -}}
    {{- fail (printf "groups.%s: %d workers with %s each need a memory limit of %dMi, it is %s: raise resources.limits.memory or lower settings.memory" .group $workers $each $needed $limit) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/*
Pods of a workload. With autoscaling the number is the autoscaler's and left out. But where the last release had a number,
leaving it out would make Kubernetes fall back to 1: it is kept as it is in the cluster, in this release and in those after
it. The annotation tells the two apart.
*/}}
{{- define "kstream.leavesReplicasOut" -}}
{{- if .values.autoscaling.enabled -}}
  {{- if or (not .live) (eq (dig "metadata" "annotations" "kstream/replicas" "" .live) "left-out") -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kstream.replicas" -}}
{{- if not .values.autoscaling.enabled -}}
replicas: {{ int .values.replicas }}
{{- else if not (include "kstream.leavesReplicasOut" .) -}}
replicas: {{ int .live.spec.replicas }}
{{- end -}}
{{- end -}}

{{/* Fails where claims would have to change: Kubernetes refuses it with a message that says nothing. */}}
{{- define "kstream.checkClaims" -}}
{{- range $claim := dig "spec" "volumeClaimTemplates" list .live -}}
  {{- $has := $claim.spec.resources.requests.storage -}}
  {{- if ne (include "kstream.mebibytes" $has) (include "kstream.mebibytes" $.values.persistence.size) -}}
    {{- fail (printf "persistence.size: the claims of StatefulSet %s have %s, which Kubernetes cannot change to %s; the chart's README says how it is done (More disk)" $.name $has $.values.persistence.size) -}}
  {{- end -}}
  {{- $class := $.values.persistence.storageClass -}}
  {{- if and $class (ne $class (default $class $claim.spec.storageClassName)) -}}
    {{- fail (printf "persistence.storageClass: the claims of StatefulSet %s have %s, which Kubernetes cannot change" $.name $claim.spec.storageClassName) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* A size as a number of MiB: 2Gi is 2048. */}}
{{- define "kstream.mebibytes" -}}
{{- $factor := dict "Mi" 1 "Gi" 1024 "Ti" 1048576 -}}
{{- $unit := regexFind "[A-Za-z]+$" . -}}
{{- if hasKey $factor $unit -}}
  {{- mul (trimSuffix $unit . | int64) (index $factor $unit) -}}
{{- else -}}
  {{- . -}}
{{- end -}}
{{- end -}}
