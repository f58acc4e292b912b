{{/* A decision in words and columns: `app.capacity.explaining`. Takes the inputs after "stockroom.capacity.plan". */}}
{{- define "stockroom.capacity.explain" -}}
{{- $a := .a -}}{{- $k := .k -}}{{- $rows := list -}}
{{- $memory := "no limit known" -}}
{{- if not (kindIs "invalid" .memoryLimitBytes) -}}
{{- $memory = printf "= max(1, floor((%d - %d) / %d)) MiB" (div .memoryLimitBytes $k.mib) $k.baseMemoryMib $k.memoryPerWorkerMib -}}
{{- end -}}
{{- $demand := "what one process can keep busy; no arrival rate known" -}}
{{- if not (kindIs "string" $a.busy) -}}
{{- $demand = printf "= ceil(%.6g busy / %d %%), within %d..%d" $a.busy $k.busyPercent $k.smallestPool $k.largestPool -}}
{{- end -}}
{{- $ceiling := "" -}}
{{- if not (kindIs "invalid" .workersPerPodCeiling) -}}{{- $ceiling = printf ", at most %d (workersPerPodCeiling)" (int64 .workersPerPodCeiling) -}}{{- end -}}
{{- $limit := "" -}}
{{- if not (kindIs "invalid" .roleConnectionLimit) -}}{{- $limit = printf ", at most the role's %d" (int64 .roleConnectionLimit) -}}{{- end -}}
{{- $rows = append $rows (list "workers by CPU" $a.workersByCpu (printf "= max(1, floor(%d m / 1000 m))" (int64 .cpuLimitMillicores))) -}}
{{- $rows = append $rows (list "workers by memory" $a.workersByMemory $memory) -}}
{{- $rows = append $rows (list "workers per pod" $a.workersPerPod (printf "= the smaller%s" $ceiling)) -}}
{{- $rows = append $rows (list "peak pods" $a.peakPods (include "stockroom.capacity.podsInWords" (list .replicaCeiling .surgePods .terminatingPods))) -}}
{{- $rows = append $rows (list "peak workers" $a.peakWorkers (printf "= %d pods x %d workers" $a.peakPods $a.workersPerPod)) -}}
{{- $rows = append $rows (list "peak job pods" $a.peakJobPods (include "stockroom.capacity.podsInWords" (list .jobReplicaCeiling .jobSurgePods .jobTerminatingPods))) -}}
{{- $rows = append $rows (list "usable connections" $a.usable (printf "= %d max - %d superuser_reserved - %d reserved" (int64 .maxConnections) (int64 .superuserReservedConnections) (int64 .reservedConnections))) -}}
{{- $rows = append $rows (list "- other clients" (int64 .otherClientConnections) "") -}}
{{- $rows = append $rows (list "= ours" $a.ours (printf "= %d - %d%s" $a.usable (int64 .otherClientConnections) $limit)) -}}
{{- $rows = append $rows (list "- job workers" $a.job (printf "= %d pods x %d" $a.peakJobPods (int64 .connectionsPerJobWorker))) -}}
{{- $rows = append $rows (list "- migration" (int64 .migrationConnections) "") -}}
{{- if $a.hasPgbouncer -}}
{{- $rows = append $rows (list "- PgBouncer" (int64 .pgbouncerServerConnections) "what it may open to the server") -}}
{{- $rows = append $rows (list "= spare" $a.spare "") -}}
{{- $rows = append $rows (list "PgBouncer's clients" (int64 .pgbouncerMaxClientConnections) "max_client_conn") -}}
{{- end -}}
{{- $rows = append $rows (list "- outside the pools" $a.direct (printf "= %d workers x %d" $a.peakWorkers (int64 .directConnectionsPerWorker))) -}}
{{- $rows = append $rows (list "= budget for pools" $a.budget "") -}}
{{- $rows = append $rows (list "cap per pool" $a.cap (printf "= floor(%d / %d pools)" $a.budget $a.pools)) -}}
{{- $rows = append $rows (list "demand per pool" $a.demand $demand) -}}
{{- if .plan -}}
{{- $rows = append $rows (list "pool size" .plan.poolSize (printf "= min(%d, %d); max_overflow 0" $a.cap $a.demand)) -}}
{{- $rows = append $rows (list "all pools" .plan.poolConnections (printf "= %d workers x %d pools x %d" $a.peakWorkers (int64 .enginesPerWorker) .plan.poolSize)) -}}
{{- $rows = append $rows (list "role's connections" .plan.roleConnections "all of ours at the server: its CONNECTION LIMIT must allow them") -}}
{{- $rows = append $rows (list "peak connections" .plan.peakConnections (printf "of %d usable" $a.usable)) -}}
{{- $rows = append $rows (list "waiters per worker" .plan.waitersPerWorker (printf "= %d x %.6g ms wait / %.6g ms hold, within 1..%d" .plan.poolSize (float64 .waitBudgetMs) (float64 .holdTimeMs) $k.waitersCeiling)) -}}
{{- end -}}
{{- include "stockroom.columns" $rows -}}
{{- if .plan -}}
{{- range .plan.warnings }}
warning: {{ . }}
{{- end -}}
{{- else }}
REFUSED: {{ if ge $a.cap $k.smallestPool }}what PgBouncer may open is {{ sub 0 $a.spare }} more than the server has left.{{ else }}a pool needs at least {{ $k.smallestPool }} connections and its share is {{ $a.cap }}.{{ end }}
{{- $names := default (dict) .names }}
What binds: {{ .refusal.binding }} = {{ get . .refusal.binding }}{{ with get $names .refusal.binding }}   (value: {{ .name }}{{ with .factor }} x {{ . }}{{ end }}){{ end }}
What would fit, each on its own:
{{- $changes := list -}}
{{- range .refusal.suggestions -}}
{{- $words := list -}}{{- $reason := .reason -}}
{{- range $change := .changes -}}
{{- $value := default (dict "name" (first .)) (get $names (first .)) -}}
{{- with $value.factor -}}{{- $reason = $reason | replace "in PgBouncer, instead" (printf "in PgBouncer, %d in all instead" (last $change)) -}}{{- end -}}
{{- if $value.name -}}{{- $words = append $words (printf "%s=%d" $value.name (div (last .) (default 1 $value.factor))) -}}{{- end -}}
{{- end -}}
{{- $changes = append $changes (list (join ", " $words) "->" $reason) -}}
{{- end -}}
{{- with $changes }}
{{ include "stockroom.columns" . | indent 2 }}
{{- end -}}
{{- with .refusal.pgbouncer }}
  PgBouncer {{ . }}{{ with get $names "pgbouncer" }}{{ if not (hasPrefix "does not" $.refusal.pgbouncer) }}   (value: {{ .name }}){{ end }}{{ end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "stockroom.capacity.podsInWords" -}}
{{- printf "= %d replicas + %d surge + %d terminating" (index . 0 | int64) (index . 1 | ceil | int64) (index . 2 | int64) -}}
{{- end -}}

{{/* Rows of (name, value, origin), the names and values each as wide as the widest. */}}
{{- define "stockroom.columns" -}}
{{- $nameWidth := 0 -}}{{- $valueWidth := 0 -}}{{- $lines := list -}}
{{- range . -}}
{{- $nameWidth = max $nameWidth (len (index . 0)) | int -}}
{{- $valueWidth = max $valueWidth (index . 1 | toString | len) | int -}}
{{- end -}}
{{- range . -}}
{{- $line := printf "%-*s  %*s  %s" $nameWidth (index . 0) $valueWidth (index . 1 | toString) (index . 2) -}}
{{- $lines = append $lines (regexReplaceAll " +$" $line "") -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end -}}
