{{/*
The arithmetic of app/capacity, which a test holds equal to it. Inputs are a dict with the names of `app.capacity.model.Inputs` in camelCase; a template
puts what it finds into that dict, because templates return nothing but text. `nil` is Python's None.
*/}}
{{- define "stockroom.capacity.constants" -}}
mib: 1048576
baseMemoryMib: 110
memoryPerWorkerMib: 90
smallestPool: 2
largestPool: 10
defaultDemand: 5
busyPercent: 70
waitersCeiling: 1000
connectionsPerDatabaseCore: 10
maxConnectionsCeiling: 262143
{{- end -}}

{{/* Sets `k`: the constants; once, they are the same for all. */}}
{{- define "stockroom.capacity.prepare" -}}
{{- if not (hasKey . "k") -}}
{{- $k := dict -}}
{{- range $name, $value := include "stockroom.capacity.constants" . | fromYaml -}}{{- $_ := set $k $name (int64 $value) -}}{{- end -}}
{{- $_ := set . "k" $k -}}
{{- end -}}
{{- end -}}

{{/* Sets `a`: the numbers on the way to the decision, as `app.capacity.arithmetic`. */}}
{{- define "stockroom.capacity.arithmetic" -}}
{{- $k := .k -}}
{{- $workersByCpu := max 1 (div .cpuLimitMillicores 1000) -}}
{{- $workersPerPod := $workersByCpu -}}
{{- $workersByMemory := "-" -}}
{{- if not (kindIs "invalid" .memoryLimitBytes) -}}
{{- $workersByMemory = max 1 (div (sub .memoryLimitBytes (mul $k.baseMemoryMib $k.mib)) (mul $k.memoryPerWorkerMib $k.mib)) -}}
{{- $workersPerPod = min $workersPerPod $workersByMemory -}}
{{- end -}}
{{- if not (kindIs "invalid" .workersPerPodCeiling) -}}{{- $workersPerPod = min $workersPerPod .workersPerPodCeiling -}}{{- end -}}
{{- $peakPods := add .replicaCeiling (ceil .surgePods | int64) .terminatingPods -}}
{{- $peakJobPods := add .jobReplicaCeiling (ceil .jobSurgePods | int64) .jobTerminatingPods -}}
{{- $peakWorkers := mul $peakPods $workersPerPod -}}
{{- $usable := sub (sub .maxConnections .superuserReservedConnections) .reservedConnections -}}
{{- $job := mul $peakJobPods .connectionsPerJobWorker -}}
{{- $direct := mul $peakWorkers .directConnectionsPerWorker -}}
{{- $ours := sub $usable .otherClientConnections -}}
{{- if not (kindIs "invalid" .roleConnectionLimit) -}}{{- $ours = min $ours .roleConnectionLimit -}}{{- end -}}
{{- $spare := sub $ours (add $job .migrationConnections .pgbouncerServerConnections) -}}
{{- $hasPgbouncer := not (kindIs "invalid" .pgbouncerMaxClientConnections) -}}
{{- $budget := sub $spare $direct -}}
{{- if $hasPgbouncer -}}{{- $budget = sub .pgbouncerMaxClientConnections $direct -}}{{- end -}}
{{- $pools := mul $peakWorkers .enginesPerWorker -}}
{{- /* Go divides towards zero, Python downwards. */ -}}
{{- $cap := div $budget $pools -}}
{{- if lt (mul $cap $pools) $budget -}}{{- else if gt (mul $cap $pools) $budget -}}{{- $cap = sub $cap 1 -}}{{- end -}}
{{- $busy := "" -}}
{{- $demand := $k.defaultDemand -}}
{{- if not (kindIs "invalid" .arrivalRatePerWorkerPerSecond) -}}
{{- $load := mulf .arrivalRatePerWorkerPerSecond .holdTimeMs -}}
{{- $busy = divf $load 1000 -}}
{{- $demand = $k.smallestPool -}}
{{- /* ceil(load / step) by comparing, which rounds nothing. */ -}}
{{- $step := float64 (mul 10 $k.busyPercent) -}}
{{- range $size := untilStep (int $k.smallestPool) (int $k.largestPool) 1 -}}
{{- if gt (float64 $load) (mulf $step $size | float64) -}}{{- $demand = int64 (add $size 1) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $fits := and (ge $cap $k.smallestPool) (or (not $hasPgbouncer) (ge $spare 0)) -}}
{{- $a := dict "workersByCpu" $workersByCpu "workersByMemory" $workersByMemory "workersPerPod" $workersPerPod "peakPods" $peakPods "peakWorkers" $peakWorkers -}}
{{- $a = merge $a (dict "peakJobPods" $peakJobPods "usable" $usable "ours" $ours "job" $job "direct" $direct "budget" $budget "spare" $spare "pools" $pools) -}}
{{- $a = merge $a (dict "cap" $cap "busy" $busy "demand" $demand "hasPgbouncer" $hasPgbouncer "fits" $fits) -}}
{{- $_ := set . "a" $a -}}
{{- end -}}

{{/* Sets `a`, and `plan` as `app.capacity.model.Plan`; or `plan` to nil, and `refusal`. */}}
{{- define "stockroom.capacity.plan" -}}
{{- include "stockroom.capacity.prepare" . -}}
{{- include "stockroom.capacity.arithmetic" . -}}
{{- $k := .k -}}{{- $a := .a -}}
{{- if $a.fits -}}
{{- $poolSize := min $a.cap $a.demand -}}
{{- $poolConnections := mul $a.pools $poolSize -}}
{{- $apiConnections := add $poolConnections $a.direct -}}
{{- $atTheServer := $poolConnections -}}
{{- if .pgbouncerServerConnections -}}
{{- $apiConnections = .pgbouncerServerConnections -}}
{{- $atTheServer = .pgbouncerServerConnections -}}
{{- end -}}
{{- $roleConnections := add $apiConnections $a.job .migrationConnections -}}
{{- $waiters := divf (mulf $poolSize .waitBudgetMs) .holdTimeMs | floor | int64 | min $k.waitersCeiling | max 1 -}}
{{- $warnings := list -}}
{{- $neededMib := add $k.baseMemoryMib (mul $a.workersPerPod $k.memoryPerWorkerMib) -}}
{{- if not (kindIs "invalid" .memoryLimitBytes) -}}
{{- if lt (int64 .memoryLimitBytes) (mul $neededMib $k.mib) -}}
{{- $warnings = append $warnings (printf "a pod needs %d MiB and its limit is %d MiB: raise it, or the kernel may kill the pod" $neededMib (div .memoryLimitBytes $k.mib)) -}}
{{- end -}}
{{- end -}}
{{- if $a.busy -}}
{{- if gt (float64 $a.busy) (mul $poolSize .enginesPerWorker | float64) -}}
{{- $warnings = append $warnings (printf "the load keeps %.6g connections busy in each worker and its pool has %d: shorten the hold time, or spread the load over more workers" $a.busy $poolSize) -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" .databaseCores) -}}
{{- $knee := mul $k.connectionsPerDatabaseCore .databaseCores -}}
{{- $all := add $atTheServer $a.job -}}
{{- if gt $all $knee -}}
{{- $warnings = append $warnings (printf "all pools together are %d connections and %d database cores work well with up to %d: fewer replicas, or a larger server, may be faster" $all (int64 .databaseCores) $knee) -}}
{{- end -}}
{{- end -}}
{{- $plan := dict "workersPerPod" $a.workersPerPod "poolSize" $poolSize "poolConnections" $poolConnections "roleConnections" $roleConnections -}}
{{- $plan = merge $plan (dict "peakConnections" (add $roleConnections .otherClientConnections) "waitersPerWorker" $waiters "warnings" $warnings) -}}
{{- $_ := set . "plan" $plan -}}
{{- else -}}
{{- $_ := set . "plan" nil -}}
{{- include "stockroom.capacity.refusal" . -}}
{{- end -}}
{{- end -}}
