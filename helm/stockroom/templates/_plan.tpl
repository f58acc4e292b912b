{{/*
The inputs of the capacity plan, from the values: what describes the pods is derived from what the chart makes, so that nothing is said twice. Sets
`inputs` in the dict it takes, which holds the root as `root`.
*/}}
{{- define "stockroom.inputs" -}}
{{- $values := .root.Values -}}
{{- $given := $values.capacity -}}
{{- $limits := default (dict) $values.resources.limits -}}
{{- $in := dict -}}
{{- range $name := list "maxConnections" "superuserReservedConnections" "reservedConnections" "roleConnectionLimit" "otherClientConnections" "databaseCores" "workersPerPodCeiling" "pgbouncerMaxClientConnections" "pgbouncerServerConnections" -}}
{{- $value := get $given $name -}}
{{- if or (eq (toString $value) "") (kindIs "invalid" $value) -}}{{- $_ := set $in $name nil -}}{{- else -}}{{- $_ := set $in $name (int64 $value) -}}{{- end -}}
{{- end -}}
{{- range $name := list "arrivalRatePerWorkerPerSecond" "holdTimeMs" "waitBudgetMs" -}}
{{- $value := get $given $name -}}
{{- if or (eq (toString $value) "") (kindIs "invalid" $value) -}}{{- $_ := set $in $name nil -}}{{- else -}}{{- $_ := set $in $name (float64 $value) -}}{{- end -}}
{{- end -}}
{{- if kindIs "invalid" $in.maxConnections -}}{{- $_ := set $in "maxConnections" 100 -}}{{- end -}}
{{- if kindIs "invalid" $in.pgbouncerServerConnections -}}{{- $_ := set $in "pgbouncerServerConnections" 0 -}}{{- end -}}
{{- $_ := set $in "enginesPerWorker" 1 -}}
{{- $_ := set $in "directConnectionsPerWorker" 1 -}}
{{- $_ := set $in "connectionsPerJobWorker" 6 -}}
{{- $_ := set $in "migrationConnections" 1 -}}

{{- /* The pods. Without a CPU limit the number of workers is said instead, and then it is what it is. */ -}}
{{- if $limits.cpu -}}
{{- $_ := set $in "cpuLimitMillicores" (include "stockroom.millicores" $limits.cpu | int64) -}}
{{- else -}}
{{- $_ := set $in "cpuLimitMillicores" (mul 1000 (default 1 $in.workersPerPodCeiling)) -}}
{{- end -}}
{{- $_ := set $in "memoryLimitBytes" nil -}}
{{- if $limits.memory -}}{{- $_ := set $in "memoryLimitBytes" (include "stockroom.bytes" $limits.memory | int64) -}}{{- end -}}
{{- $replicas := int64 (ternary $values.autoscaling.maxReplicas $values.replicas $values.autoscaling.enabled) -}}
{{- $ceiling := int64 (default $replicas $given.replicaCeiling) -}}
{{- $surge := include "stockroom.pods" (list $values.strategy.maxSurge $ceiling) | int64 -}}
{{- $_ := set $in "replicaCeiling" $ceiling -}}
{{- $_ := set $in "surgePods" (int64 (default $surge $given.surgePods)) -}}
{{- $_ := set $in "terminatingPods" $ceiling -}}
{{- if not (kindIs "invalid" $given.terminatingPods) -}}{{- $_ := set $in "terminatingPods" (int64 $given.terminatingPods) -}}{{- end -}}
{{- /* Job workers are stopped before new ones start (Recreate), but one that is deleted or evicted ends while its successor starts. */ -}}
{{- $jobs := int64 $values.worker.replicas -}}
{{- $_ := set $in "jobReplicaCeiling" (max $jobs (int64 (default 0 $given.jobReplicaCeiling))) -}}
{{- $_ := set $in "jobSurgePods" 0 -}}
{{- $_ := set $in "jobTerminatingPods" $in.jobReplicaCeiling -}}
{{- if not (kindIs "invalid" $given.jobTerminatingPods) -}}{{- $_ := set $in "jobTerminatingPods" (int64 $given.jobTerminatingPods) -}}{{- end -}}

{{- /* A Service does not balance long connections: one instance of PgBouncer must be able to take all clients, and all may have all their servers. */ -}}
{{- with $values.pgbouncer -}}
{{- if .enabled -}}
{{- $_ := set $in "pgbouncerMaxClientConnections" (int64 .maxClientConnections) -}}
{{- $_ := set $in "pgbouncerServerConnections" (mul .poolSize (include "stockroom.pgbouncer.peakPods" $values | int64)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set . "replicas" $replicas -}}
{{- $_ := set . "surge" $surge -}}
{{- $_ := set . "inputs" $in -}}
{{- end -}}

{{/* A roll-out starts one PgBouncer more and may have all the old ones ending besides. */}}
{{- define "stockroom.pgbouncer.peakPods" -}}
{{- add (mul 2 .pgbouncer.replicas) 1 -}}
{{- end -}}

{{/* Which value to change for which input. */}}
{{- define "stockroom.inputNames" -}}
cpuLimitMillicores: resources.limits.cpu
memoryLimitBytes: resources.limits.memory
replicaCeiling: {{ ternary "autoscaling.maxReplicas" "replicas" .Values.autoscaling.enabled }}
surgePods: strategy.maxSurge
jobReplicaCeiling: worker.replicas
{{- range list "workersPerPodCeiling" "terminatingPods" "jobTerminatingPods" "maxConnections" "superuserReservedConnections" "reservedConnections" "roleConnectionLimit" "otherClientConnections" }}
{{ . }}: capacity.{{ . }}
{{- end }}
{{- if .Values.pgbouncer.enabled }}
pgbouncerMaxClientConnections: pgbouncer.maxClientConnections
pgbouncerServerConnections: (pgbouncer.poolSize x {{ include "stockroom.pgbouncer.peakPods" .Values }})
{{- else }}
pgbouncerMaxClientConnections: capacity.pgbouncerMaxClientConnections
pgbouncerServerConnections: capacity.pgbouncerServerConnections
{{- end }}
{{- end -}}

{{/* The plan as JSON: `inputs`, `a`, `plan`, `text`. Fails when it is refused, with the arithmetic and the way out. */}}
{{- define "stockroom.plan" -}}
{{- $found := dict "root" . -}}
{{- include "stockroom.inputs" $found -}}
{{- $in := $found.inputs -}}
{{- include "stockroom.capacity.plan" $in -}}
{{- $_ := set $in "names" (include "stockroom.inputNames" . | fromYaml) -}}
{{- $text := include "stockroom.capacity.explain" $in -}}
{{- if not $in.plan -}}
{{- fail (printf "\n\nThis does not fit PostgreSQL's connections, so nothing is rendered.\n\n%s\n" $text) -}}
{{- end -}}
{{- dict "inputs" (omit $in "k" "names" "a" "plan") "a" $in.a "plan" $in.plan "text" $text | toJson -}}
{{- end -}}
