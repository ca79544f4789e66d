{{/* The project's rules as the values want them. They are read as YAML and never go through `tpl`: their templates are
for Prometheus. A threshold is the number before its name, `> 3 # restarts`. */}}

{{- define "kstream.rules" -}}
{{- $values := .Values.monitoring.prometheusRule -}}
{{- $groups := list -}}
{{- $alerts := list -}}
{{- range $group := (.Files.Get "monitoring/rules.yml" | fromYaml).groups -}}
  {{- $rules := list -}}
  {{- range $rule := $group.rules -}}
    {{- range $name, $value := $values.thresholds -}}
      {{- $number := printf "%s # %s" (include "kstream.text" $value) $name -}}
      {{- $_ := set $rule "expr" (regexReplaceAll (printf "\\S+ # %s\\b" $name) $rule.expr $number) -}}
    {{- end -}}
    {{- if $rule.alert -}}
      {{- $alerts = append $alerts $rule.alert -}}
      {{- include "kstream.alert" (dict "rule" $rule "values" $values) -}}
    {{- end -}}
    {{- if not (and $rule.alert (index $values.disabled $rule.alert)) -}}
      {{- $rules = append $rules $rule -}}
    {{- end -}}
  {{- end -}}
  {{- with $rules -}}
    {{- $groups = append $groups (dict "name" $group.name "rules" .) -}}
  {{- end -}}
{{- end -}}
{{- range $where := list "disabled" "customRules" -}}
  {{- range $name := keys (index $values $where) | sortAlpha -}}
    {{- if not (has $name $alerts) -}}
      {{- fail (printf "monitoring.prometheusRule.%s: there is no alert %s; there are %s" $where $name (join ", " $alerts)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end -}}

{{/* Changes one alert, and gives no text. */}}
{{- define "kstream.alert" -}}
{{- $rule := .rule -}}
{{- $values := .values -}}
{{- $custom := index $values.customRules $rule.alert | default dict -}}
{{- if and $custom.for $rule.for -}} {{/* its text says for how long, too */}}
  {{- $before := printf "\\b%s minutes" (trimSuffix "m" $rule.for) -}}
  {{- $now := regexReplaceAll "^(\\d+)m$" $custom.for "${1} minutes" -}}
  {{- $_ := set $rule.annotations "description" (regexReplaceAll $before $rule.annotations.description $now) -}}
{{- end -}}
{{- with $custom.for }}{{ $_ := set $rule "for" . }}{{ end -}}
{{- with $custom.keepFiringFor }}{{ $_ := set $rule "keep_firing_for" . }}{{ end -}}
{{- $labels := merge (dict) $values.additionalRuleLabels $rule.labels -}}
{{- with $custom.severity }}{{ $_ := set $labels "severity" . }}{{ end -}}
{{- $_ := set $rule "labels" $labels -}}
{{- $annotations := merge (dict) $values.additionalRuleAnnotations $rule.annotations -}}
{{- $_ := set $annotations "runbook_url" (printf "%s#%s" (trimSuffix "#" $values.runbookUrl) (lower $rule.alert)) -}}
{{- if $values.grafanaUrl -}}
  {{- $panel := trimPrefix "http://localhost:3000" $annotations.dashboard_url -}}
  {{- $_ := set $annotations "dashboard_url" (printf "%s%s" (trimSuffix "/" $values.grafanaUrl) $panel) -}}
{{- else -}}
  {{- $_ := unset $annotations "dashboard_url" -}}
{{- end -}}
{{- $_ := set $rule "annotations" $annotations -}}
{{- end -}}
