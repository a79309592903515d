{{- /* The image of the processor and of simulated engines. */}}
{{- define "aibrix-extproc.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The namespaces that are watched, the release's own first. */}}
{{- define "aibrix-extproc.namespaces" -}}
{{- if has "*" .Values.namespaces -}}
*
{{- else -}}
{{ prepend .Values.namespaces .Release.Namespace | uniq | join "," }}
{{- end -}}
{{- end }}
