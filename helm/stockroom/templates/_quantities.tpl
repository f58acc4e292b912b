{{/*
Quantities as Kubernetes writes them (2, 0.5, 1500m, 512Mi, 1G), in numbers that can be added up.
Takes (list quantity unit): the result is floor(quantity / unit).
*/}}
{{- define "stockroom.quantity" -}}
{{- $text := index . 0 | toString -}}
{{- $suffix := regexFind "(m|[KMGTPE]i|[kMGTPE])$" $text -}}
{{- $number := float64 (trimSuffix $suffix $text) -}}
{{- $k := 1000 -}}
{{- $powers := dict "" 0 "k" 1 "K" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 -}}
{{- if eq $suffix "m" -}}
{{- $number = divf $number 1000 -}}
{{- else -}}
{{- if hasSuffix "i" $suffix -}}{{- $k = 1024 -}}{{- end -}}
{{- range until (index $powers (trimSuffix "i" $suffix)) -}}{{- $number = mulf $number $k -}}{{- end -}}
{{- end -}}
{{- divf $number (index . 1) | floor | int64 -}}
{{- end -}}

{{- define "stockroom.millicores" -}}
{{- include "stockroom.quantity" (list . 0.001) -}}
{{- end -}}

{{- define "stockroom.bytes" -}}
{{- include "stockroom.quantity" (list . 1) -}}
{{- end -}}

{{/* A Deployment's maxSurge in pods, rounded up as Kubernetes does. Takes (list maxSurge replicas). */}}
{{- define "stockroom.pods" -}}
{{- $value := index . 0 | toString -}}
{{- if hasSuffix "%" $value -}}
{{- div (add (mul (trimSuffix "%" $value | int64) (index . 1)) 99) 100 -}}
{{- else -}}
{{- int64 $value -}}
{{- end -}}
{{- end -}}
