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
eni_conf: |
  {{- .Values.eniConfig.eniConf | toPrettyJson | nindent 2 }}
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
