{{- define "headrace.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* Other settings are other pods: they are read at start. */}}
{{- define "headrace.pod" -}}
{{- with .Values.config -}}
annotations: {checksum/config: {{ toJson . | sha256sum }}}
{{- end }}
{{- end }}

{{- define "headrace.placement" -}}
{{- with .Values.priorityClassName -}}
priorityClassName: {{ . }}
{{ end -}}
tolerations:
  {{- toYaml .Values.tolerations | nindent 2 }}
nodeSelector:
  {{- merge (dict "kubernetes.io/os" "linux") .Values.nodeSelector | toYaml | nindent 2 }}
{{- end }}
