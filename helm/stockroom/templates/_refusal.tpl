{{/* Why a deployment does not fit, and what would: `app.capacity.refusing`. Sets `refusal`: binding, suggestions and pgbouncer. */}}
{{- define "stockroom.capacity.refusal" -}}
{{- include "stockroom.capacity.binding" . -}}
{{- include "stockroom.capacity.suggestions" . -}}
{{- include "stockroom.capacity.pgbouncer" . -}}
{{- $_ := set . "refusal" (dict "binding" .binding "suggestions" .suggestions "pgbouncer" .pgbouncerAdvice) -}}
{{- end -}}

{{/* Sets `lacking`: connections that are missing, in the pools or for PgBouncer, whichever is worse. */}}
{{- define "stockroom.capacity.lacking" -}}
{{- include "stockroom.capacity.arithmetic" . -}}
{{- $missing := sub (mul .a.pools .k.smallestPool) .a.budget -}}
{{- if .a.hasPgbouncer -}}{{- $missing = max $missing (sub 0 .a.spare) -}}{{- end -}}
{{- $_ := set . "lacking" $missing -}}
{{- end -}}

{{- define "stockroom.capacity.binding" -}}
{{- $in := . -}}
{{- $workers := "cpuLimitMillicores" -}}
{{- if not (kindIs "invalid" .workersPerPodCeiling) -}}
{{- if eq (int64 .workersPerPodCeiling) .a.workersPerPod -}}{{- $workers = "workersPerPodCeiling" -}}{{- end -}}
{{- end -}}
{{- $tries := list
  (list $workers (dict "workersPerPodCeiling" 1))
  (list "replicaCeiling" (dict "replicaCeiling" 1 "terminatingPods" (min 1 .terminatingPods)))
  (list "jobReplicaCeiling" (dict "jobReplicaCeiling" (min 1 .jobReplicaCeiling) "jobTerminatingPods" (min 1 .jobTerminatingPods))) -}}
{{- range list "enginesPerWorker" "connectionsPerJobWorker" -}}{{- $tries = append $tries (list . (dict . 1)) -}}{{- end -}}
{{- range list "surgePods" "terminatingPods" "jobSurgePods" "jobTerminatingPods" "directConnectionsPerWorker" "migrationConnections" "otherClientConnections" "superuserReservedConnections" "reservedConnections" -}}
{{- $tries = append $tries (list . (dict . 0)) -}}
{{- end -}}
{{- $tries = append $tries (list "roleConnectionLimit" (dict "roleConnectionLimit" nil)) -}}
{{- if .pgbouncerServerConnections -}}
{{- $tries = append $tries (list "pgbouncerServerConnections" (dict "pgbouncerServerConnections" 1)) -}}
{{- end -}}
{{- $binding := "" -}}{{- $least := 0 -}}
{{- range $try := $tries -}}
{{- $changed := omit $in "a" "lacking" -}}
{{- range $name, $value := index $try 1 -}}{{- $_ := set $changed $name $value -}}{{- end -}}
{{- include "stockroom.capacity.lacking" $changed -}}
{{- if or (eq $binding "") (lt $changed.lacking $least) -}}
{{- $binding = index $try 0 -}}{{- $least = $changed.lacking -}}
{{- end -}}
{{- end -}}
{{- if gt $least 0 -}}{{- $binding = ternary "pgbouncerMaxClientConnections" "maxConnections" .a.hasPgbouncer -}}{{- end -}}
{{- $_ := set . "binding" $binding -}}
{{- end -}}

{{/* Sets `suggestions`: dicts of `changes`, a list of (name, value), and `reason`. Each is enough on its own. */}}
{{- define "stockroom.capacity.suggestions" -}}
{{- $a := .a -}}
{{- $forPools := list -}}{{- $atServer := list -}}
{{- if and $a.hasPgbouncer (lt $a.spare 0) -}}
{{- $fewer := add .pgbouncerServerConnections $a.spare -}}
{{- if ge $fewer 1 -}}
{{- $atServer = append $atServer (dict "changes" (list (list "pgbouncerServerConnections" $fewer)) "reason" (printf "smaller pools in PgBouncer, instead of %d" (int64 .pgbouncerServerConnections))) -}}
{{- end -}}
{{- include "stockroom.capacity.higherAtServer" (set . "missing" (sub 0 $a.spare)) -}}
{{- if .higher -}}{{- $atServer = append $atServer (dict "changes" .higher "reason" "at least") -}}{{- end -}}
{{- end -}}
{{- if lt $a.cap .k.smallestPool -}}
{{- include "stockroom.capacity.forPools" . -}}
{{- $forPools = .forPools -}}
{{- end -}}
{{- $suggestions := $atServer -}}
{{- if lt $a.cap .k.smallestPool -}}
{{- $suggestions = $forPools -}}
{{- if and $a.hasPgbouncer (lt $a.spare 0) -}}
{{- $suggestions = list -}}
{{- if $atServer -}}
{{- $other := first $atServer -}}
{{- range $one := $forPools -}}
{{- $suggestions = append $suggestions (dict "changes" (concat $one.changes $other.changes) "reason" (printf "%s; %s" $one.reason $other.reason)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set . "suggestions" $suggestions -}}
{{- end -}}

{{/* Sets `forPools`. */}}
{{- define "stockroom.capacity.forPools" -}}
{{- $a := .a -}}{{- $found := list -}}
{{- $perWorker := add (mul .enginesPerWorker .k.smallestPool) .directConnectionsPerWorker -}}
{{- $workersThatFit := div (add $a.budget $a.direct) $perWorker -}}
{{- $workers := div $workersThatFit $a.peakPods -}}
{{- if and (ge $workers 1) (lt $workers $a.workersPerPod) -}}
{{- $found = append $found (dict "changes" (list (list "workersPerPodCeiling" $workers)) "reason" (printf "fewer workers a pod, instead of %d" $a.workersPerPod)) -}}
{{- end -}}
{{- $pods := sub (div $workersThatFit $a.workersPerPod) (ceil .surgePods | int64) -}}
{{- $replicas := max (sub $pods .terminatingPods) (div $pods 2) -}}
{{- if and (ge $replicas 1) (lt $replicas (int64 .replicaCeiling)) -}}
{{- $changes := list (list "replicaCeiling" $replicas) (list "terminatingPods" (min $replicas .terminatingPods)) -}}
{{- $found = append $found (dict "changes" $changes "reason" (printf "a lower ceiling, instead of %d" (int64 .replicaCeiling))) -}}
{{- end -}}
{{- include "stockroom.capacity.higher" (set . "missing" (sub (mul $a.pools .k.smallestPool) $a.budget)) -}}
{{- if .higher -}}
{{- $least := .higher -}}{{- $reason := "at least" -}}
{{- $name := first (first $least) -}}
{{- include "stockroom.capacity.higher" (set . "missing" (sub (mul $a.pools $a.demand) $a.budget)) -}}
{{- range .higher -}}
{{- if eq (first .) $name -}}{{- $reason = printf "at least; %d for pools of %d" (last .) $a.demand -}}{{- end -}}
{{- end -}}
{{- $found = append $found (dict "changes" $least "reason" $reason) -}}
{{- end -}}
{{- $_ := set . "forPools" $found -}}
{{- end -}}

{{/* Sets `higher`: which limits to raise, and to what, for `missing` connections more in the pools; nothing when PostgreSQL does not go so high. */}}
{{- define "stockroom.capacity.higher" -}}
{{- if .a.hasPgbouncer -}}
{{- $_ := set . "higher" (list (list "pgbouncerMaxClientConnections" (add .pgbouncerMaxClientConnections .missing))) -}}
{{- else -}}
{{- include "stockroom.capacity.higherAtServer" . -}}
{{- end -}}
{{- end -}}

{{- define "stockroom.capacity.higherAtServer" -}}
{{- $changes := list -}}
{{- $needed := add .a.ours .missing -}}
{{- $all := add $needed (sub .maxConnections .a.usable) .otherClientConnections -}}
{{- if le $all .k.maxConnectionsCeiling -}}
{{- if gt $all (int64 .maxConnections) -}}{{- $changes = append $changes (list "maxConnections" $all) -}}{{- end -}}
{{- if not (kindIs "invalid" .roleConnectionLimit) -}}
{{- if gt $needed (int64 .roleConnectionLimit) -}}{{- $changes = append $changes (list "roleConnectionLimit" $needed) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set . "higher" $changes -}}
{{- end -}}

{{/* Sets `pgbouncerAdvice`: what a PgBouncer in between would have to be set to; empty when there is one. */}}
{{- define "stockroom.capacity.pgbouncer" -}}
{{- $advice := "" -}}
{{- if not .a.hasPgbouncer -}}
{{- $beside := add .a.job .migrationConnections -}}
{{- $serverSide := sub .a.ours $beside -}}
{{- if lt $serverSide .k.smallestPool -}}
{{- $advice = printf "does not help: %d connections must go around it, and %d are ours" $beside .a.ours -}}
{{- else -}}
{{- $clients := add (mul .a.pools .a.demand) .a.direct -}}
{{- $advice = printf "in transaction mode: max_client_conn >= %d, default_pool_size x its replicas <= %d" $clients $serverSide -}}
{{- end -}}
{{- end -}}
{{- $_ := set . "pgbouncerAdvice" $advice -}}
{{- end -}}
