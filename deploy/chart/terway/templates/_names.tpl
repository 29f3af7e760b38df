{{- define "terway.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "terway.image" -}}
{{ .Values.image.repository }}:{{ include "terway.tag" . }}
{{- end }}

{{- define "terway.labels" -}}
app.kubernetes.io/name: terway
app.kubernetes.io/version: {{ include "terway.tag" . | quote }}
{{- end }}

{{/* The data of eni-config: also what the checksum of the pods is taken of. */}}
{{- define "terway.eniConfig" -}}
{{- $conf := deepCopy .Values.eniConfig.eniConf -}}
{{- if .Values.podIps.annotate -}}
{{- $_ := set $conf "enable_patch_pod_ips" true -}}
{{- else if get $conf "enable_patch_pod_ips" -}}
{{- fail "set podIps.annotate instead of enable_patch_pod_ips: the agent's account may not patch pods without it" -}}
{{- end -}}
eni_conf: |
  {{- $conf | toPrettyJson | nindent 2 }}
{{- if .Values.eniConfig.chained }}
10-terway.conflist: |
  {{- $own := omit .Values.eniConfig.cniConf "cniVersion" "name" }}
  {{- $list := pick .Values.eniConfig.cniConf "cniVersion" "name" }}
  {{- set $list "plugins" (prepend .Values.eniConfig.chained $own) | toPrettyJson | nindent 2 }}
{{- else }}
10-terway.conf: |
  {{- .Values.eniConfig.cniConf | toPrettyJson | nindent 2 }}
{{- end }}
disable_network_policy: {{ .Values.eniConfig.disableNetworkPolicy | quote }}
{{- end }}

{{/* security.appArmor as the field has it: Unconfined, RuntimeDefault, or Localhost with the name behind a slash. */}}
{{- define "terway.appArmorProfile" -}}
{{- $parts := splitn "/" 2 .Values.security.appArmor -}}
type: {{ $parts._0 }}
{{- if eq $parts._0 "Localhost" }}
localhostProfile: {{ $parts._1 }}
{{- end }}
{{- end }}

{{- define "terway.appArmorAnnotation" -}}
{{- $parts := splitn "/" 2 .Values.security.appArmor -}}
{{- if eq $parts._0 "Localhost" -}}
localhost/{{ $parts._1 }}
{{- else -}}
{{ eq $parts._0 "Unconfined" | ternary "unconfined" "runtime/default" }}
{{- end -}}
{{- end }}
