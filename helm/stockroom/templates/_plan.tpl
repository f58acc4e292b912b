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
{{- $_ := set $in "surgePods" (int64 (ternary $surge $given.surgePods (kindIs "invalid" $given.surgePods))) -}}
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
{{- $_ := set . "jobs" $jobs -}}
{{- $_ := set . "inputs" $in -}}
{{- end -}}

{{/* A roll-out starts one PgBouncer more and may have all the old ones ending besides. */}}
{{- define "stockroom.pgbouncer.peakPods" -}}
{{- add (mul 2 .pgbouncer.replicas) 1 -}}
{{- end -}}

{{/*
Which value to change for which input, and how many of the input one of the value makes. A name that is empty follows from another value.
*/}}
{{- define "stockroom.inputNames" -}}
cpuLimitMillicores: {name: resources.limits.cpu}
memoryLimitBytes: {name: resources.limits.memory}
replicaCeiling: {name: {{ if .Values.capacity.replicaCeiling }}capacity.replicaCeiling{{ else if .Values.autoscaling.enabled }}autoscaling.maxReplicas{{ else }}replicas{{ end }}}
surgePods: {name: strategy.maxSurge}
jobReplicaCeiling: {name: worker.replicas}
terminatingPods: {name: {{ if kindIs "invalid" .Values.capacity.terminatingPods }}""{{ else }}capacity.terminatingPods{{ end }}}
{{- range list "workersPerPodCeiling" "jobTerminatingPods" "maxConnections" "superuserReservedConnections" "reservedConnections" "roleConnectionLimit" "otherClientConnections" }}
{{ . }}: {name: capacity.{{ . }}}
{{- end }}
pgbouncer: {name: pgbouncer.enabled}
{{- if .Values.pgbouncer.enabled }}
pgbouncerMaxClientConnections: {name: pgbouncer.maxClientConnections}
pgbouncerServerConnections: {name: pgbouncer.poolSize, factor: {{ include "stockroom.pgbouncer.peakPods" .Values }}}
{{- else }}
pgbouncerMaxClientConnections: {name: capacity.pgbouncerMaxClientConnections}
pgbouncerServerConnections: {name: capacity.pgbouncerServerConnections}
{{- end }}
{{- end -}}

{{/*
The plan as JSON: `inputs`, `a`, `plan`, `text`, `live` (what a roll-out needs to know of the next), and `roleLimit`. Fails when it is refused, with the
arithmetic and the way out.
*/}}
{{- define "stockroom.plan" -}}
{{- include "stockroom.check" . -}}
{{- $found := dict "root" . -}}
{{- include "stockroom.inputs" $found -}}
{{- $in := $found.inputs -}}
{{- include "stockroom.capacity.plan" $in -}}
{{- $_ := set $in "names" (include "stockroom.inputNames" . | fromYaml) -}}
{{- $text := include "stockroom.capacity.explain" $in -}}
{{- if not $in.plan -}}
{{- fail (printf "\n\nThis does not fit PostgreSQL's connections, so nothing is rendered.\n\n%s\n" $text) -}}
{{- end -}}
{{- $perPod := div (add $in.plan.poolConnections $in.a.direct) $in.a.peakPods -}}
{{- /* The pods that there can be, not those that are planned for: planning for more before there are more is the first of two steps. */ -}}
{{- $pods := add $found.replicas $found.surge (min $found.replicas $in.terminatingPods) -}}
{{- $jobs := mul $in.connectionsPerJobWorker (add $found.jobs (min $found.jobs $in.jobTerminatingPods)) -}}
{{- $live := dict "pods" $pods "perPod" (ternary 0 $perPod $in.a.hasPgbouncer) "pgbouncer" $in.pgbouncerServerConnections "jobs" $jobs "others" $in.otherClientConnections -}}
{{- $limit := $in.plan.roleConnections -}}
{{- with lookup "v1" "ConfigMap" .Release.Namespace (include "stockroom.fullname" .) -}}
{{- with get (default (dict) .metadata.annotations) "stockroom/plan" -}}
{{- $limit = include "stockroom.rollOut" (list $in $live (fromJson .)) | int64 | max $limit -}}
{{- end -}}
{{- end -}}
{{- dict "inputs" (omit $in "k" "names" "a" "plan") "a" $in.a "plan" $in.plan "text" $text "live" $live "roleLimit" $limit | toJson -}}
{{- end -}}

{{/*
The most connections of ours while pods of the running release and of this one are mixed. Takes (list inputs live running). Within one plan any mixture
fits; between two that differ in the number of pods, or in who goes through a PgBouncer, it may not, and then it takes two steps.
*/}}
{{- define "stockroom.rollOut" -}}
{{- $in := index . 0 -}}{{- $new := index . 1 -}}{{- $old := index . 2 -}}
{{- $most := dict -}}
{{- range list "pods" "perPod" "pgbouncer" "jobs" -}}{{- $_ := set $most . (max (get $new .) (get $old .)) -}}{{- end -}}
{{- $api := add (mul $most.pods $most.perPod) $most.pgbouncer -}}
{{- $needed := add $api $most.jobs $in.migrationConnections -}}
{{- $ours := sub $in.a.usable (min $new.others $old.others) -}}
{{- if not (kindIs "invalid" $in.roleConnectionLimit) -}}{{- $ours = min $ours $in.roleConnectionLimit -}}{{- end -}}
{{- if gt $needed $ours -}}
{{- fail (printf "\n\nBoth releases fit, but not the roll-out from one to the other: while their pods are mixed they may hold %d connections, and %d are ours.\n\n  running  %d pods x %d + PgBouncer %d + job workers %d\n  wanted   %d pods x %d + PgBouncer %d + job workers %d\n  mixed    %d pods x %d + PgBouncer %d + job workers %d + migration %d = %d\n\nTake two steps, first whoever gets less (docs/capacity.md, \"Changing sizes while it runs\"):\n  more pods:        first set capacity.replicaCeiling to the new number and leave the number of pods; when that has rolled out, raise it\n  fewer pods:       first set capacity.replicaCeiling to the old number and lower the number of pods; when that has rolled out, leave it out\n  more job workers: first set capacity.jobReplicaCeiling; when that has rolled out, raise worker.replicas\n  a PgBouncer:      first raise capacity.otherClientConnections by what it opens; then enable it, with the old value\n" $needed $ours (int64 $old.pods) (int64 $old.perPod) (int64 $old.pgbouncer) (int64 $old.jobs) (int64 $new.pods) (int64 $new.perPod) (int64 $new.pgbouncer) (int64 $new.jobs) $most.pods $most.perPod $most.pgbouncer $most.jobs (int64 $in.migrationConnections) $needed) -}}
{{- end -}}
{{- $needed -}}
{{- end -}}
