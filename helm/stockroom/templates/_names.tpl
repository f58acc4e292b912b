{{- define "stockroom.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that every suffix fits into the 63 characters of a label. */}}
{{- define "stockroom.fullname" -}}
{{- $name := include "stockroom.name" . -}}
{{- default (ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name)) .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects pods never changes: a Deployment's selector is immutable. Takes (list $ component). */}}
{{- define "stockroom.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "stockroom.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes (list $ component). */}}
{{- define "stockroom.labels" -}}
{{- $root := index . 0 -}}
{{ include "stockroom.podLabels" . }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Without the chart's version: a new chart alone need not restart pods. */}}
{{- define "stockroom.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "stockroom.selectorLabels" . }}
app.kubernetes.io/version: {{ default $root.Chart.AppVersion $root.Values.image.tag | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/part-of: stockroom
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* registry/repository:tag@digest, without what is not given. Takes (list image default-tag). */}}
{{- define "stockroom.imageName" -}}
{{- $image := index . 0 -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- with default (index . 1) $image.tag }}:{{ . }}{{ end }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "stockroom.image" -}}
{{- include "stockroom.imageName" (list .Values.image .Chart.AppVersion) -}}
{{- end -}}

{{- define "stockroom.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "stockroom.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "stockroom.secretName" -}}
{{- default (include "stockroom.fullname" .) .Values.existingSecret -}}
{{- end -}}

{{/* Whether the chart makes the database itself, so that nothing can migrate it before the chart is installed. */}}
{{- define "stockroom.makesDatabase" -}}
{{- if or (eq .Values.mode "evaluation") .Values.cloudNativePG.enabled }}true{{ end -}}
{{- end -}}

{{/* Whether the init container that migrates also limits the role: elsewhere the Job does, or whoever makes the database. */}}
{{- define "stockroom.migrationLimitsRole" -}}
{{- if and (include "stockroom.migratesInPods" .) (not (include "stockroom.makesDatabase" .)) }}true{{ end -}}
{{- end -}}

{{/* Whether the pods migrate in an init container, or a hook before they are changed. */}}
{{- define "stockroom.migratesInPods" -}}
{{- if or (include "stockroom.makesDatabase" .) (eq .Values.migrations.by "pods") }}true{{ end -}}
{{- end -}}
