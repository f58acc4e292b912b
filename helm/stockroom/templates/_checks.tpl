{{/* Everything that is wrong with the values, all at once; before there is a plan. */}}
{{- define "stockroom.check" -}}
{{- $wrong := list -}}
{{- $values := .Values -}}
{{- $limits := default (dict) $values.resources.limits -}}
{{- $given := $values.capacity -}}
{{- $found := dict "root" . -}}
{{- include "stockroom.inputs" $found -}}
{{- if eq $values.mode "production" -}}
{{- if not $values.existingSecret -}}
{{- $wrong = append $wrong "existingSecret is empty: make a Secret with the keys database-url and signing-keys (docs/kubernetes.md shows how) and name it" -}}
{{- end -}}
{{- if and (kindIs "invalid" $given.maxConnections) (not $values.cloudNativePG.enabled) -}}
{{- $wrong = append $wrong "capacity.maxConnections is not set: say what your PostgreSQL has (SHOW max_connections), because the plan rests on it" -}}
{{- end -}}
{{- if not $limits.memory -}}
{{- $wrong = append $wrong "resources.limits.memory is not set: production needs a limit, and the plan reads how many workers fit from it" -}}
{{- end -}}
{{- range $who, $resources := dict "worker" $values.worker.resources "migrations" $values.migrations.resources -}}
{{- if not (default (dict) $resources.limits).memory -}}
{{- $wrong = append $wrong (printf "%s.resources.limits.memory is not set: production needs a limit" $who) -}}
{{- end -}}
{{- end -}}
{{- else if $values.cloudNativePG.enabled -}}
{{- $wrong = append $wrong "cloudNativePG.enabled is for mode production: an evaluation brings its own PostgreSQL" -}}
{{- end -}}
{{- if not (or $limits.cpu $given.workersPerPodCeiling) -}}
{{- $wrong = append $wrong "resources.limits.cpu is not set: set it, or capacity.workersPerPodCeiling to the number of workers a pod shall run; the plan needs to know how many there are" -}}
{{- end -}}
{{- if lt $found.inputs.replicaCeiling $found.replicas -}}
{{- $wrong = append $wrong (printf "capacity.replicaCeiling is %d and there may be %d pods: make it at least that, or leave it out" $found.inputs.replicaCeiling $found.replicas) -}}
{{- end -}}
{{- if lt $found.inputs.surgePods $found.surge -}}
{{- $wrong = append $wrong (printf "capacity.surgePods is %d and strategy.maxSurge starts %d: make it at least that, or leave it out" $found.inputs.surgePods $found.surge) -}}
{{- end -}}
{{- if ge (add $found.inputs.superuserReservedConnections $found.inputs.reservedConnections) $found.inputs.maxConnections -}}
{{- $wrong = append $wrong (printf "capacity: superuserReservedConnections + reservedConnections is %d: give less than maxConnections (%d), as PostgreSQL itself demands" (add $found.inputs.superuserReservedConnections $found.inputs.reservedConnections) $found.inputs.maxConnections) -}}
{{- end -}}
{{- if and $values.pgbouncer.enabled (or $given.pgbouncerMaxClientConnections $given.pgbouncerServerConnections) -}}
{{- $wrong = append $wrong "pgbouncer.enabled makes a PgBouncer, and capacity.pgbouncerMaxClientConnections and pgbouncerServerConnections describe one of yours: use one of the two" -}}
{{- end -}}
{{- if ne (empty $given.pgbouncerMaxClientConnections) (empty $given.pgbouncerServerConnections) -}}
{{- $wrong = append $wrong "give capacity.pgbouncerMaxClientConnections and capacity.pgbouncerServerConnections both, or neither" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int64 $values.autoscaling.minReplicas) (int64 $values.autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong (printf "autoscaling.minReplicas is %d: give at most maxReplicas (%d)" (int64 $values.autoscaling.minReplicas) (int64 $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- $none := list "0" "0%" -}}
{{- if and (has (toString $values.strategy.maxSurge) $none) (has (toString $values.strategy.maxUnavailable) $none) -}}
{{- $wrong = append $wrong "strategy.maxSurge and strategy.maxUnavailable are both 0: a roll-out could never begin" -}}
{{- end -}}
{{- $grace := $values.terminationGracePeriodSeconds -}}
{{- $needed := include "stockroom.gracePeriodSeconds" . | int64 -}}
{{- if and (not (kindIs "invalid" $grace)) (lt (int64 $grace) $needed) -}}
{{- $wrong = append $wrong (printf "terminationGracePeriodSeconds is %d: make it at least %d (2 x drainSeconds %g + shutdownSeconds %g + 5), or leave it out; requests would be cut off" (int64 $grace) $needed (float64 $values.drainSeconds) (float64 $values.shutdownSeconds)) -}}
{{- end -}}
{{- $scraped := list -}}
{{- range $way := list "serviceMonitor" "podMonitor" "scrapeAnnotations" -}}
{{- if (index $values $way).enabled -}}{{- $scraped = append $scraped (print $way ".enabled") -}}{{- end -}}
{{- end -}}
{{- if gt (len $scraped) 1 -}}
{{- $wrong = append $wrong (printf "%s would scrape every pod more than once: use one of them" (join " and " $scraped)) -}}
{{- end -}}
{{- if and (eq $values.autoscaling.by "keda") $values.autoscaling.poolUtilization (not $values.autoscaling.prometheusAddress) -}}
{{- $wrong = append $wrong "autoscaling.poolUtilization by keda needs autoscaling.prometheusAddress" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (not (or $values.autoscaling.cpuUtilization $values.autoscaling.poolUtilization)) -}}
{{- $wrong = append $wrong "autoscaling needs something to scale by: cpuUtilization, poolUtilization, or both" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled $values.autoscaling.cpuUtilization (not (default (dict) $values.resources.requests).cpu) -}}
{{- $wrong = append $wrong "autoscaling.cpuUtilization is a percentage of resources.requests.cpu, which is not set" -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- $wrong = append $wrong "httpRoute.enabled needs httpRoute.parentRefs: the Gateway that it belongs to" -}}
{{- end -}}
{{- $extra := $values.cloudNativePG.extraSpec -}}
{{- range $way, $bootstrap := $extra.bootstrap -}}
{{- $bootstrap = default (dict) $bootstrap -}}
{{- if $bootstrap.secret -}}
{{- $wrong = append $wrong (printf "cloudNativePG.extraSpec.bootstrap.%s.secret: leave it out; the operator then makes the Secret that Stockroom reads" $way) -}}
{{- end -}}
{{- if or (ne (toString $bootstrap.database) "stockroom") (ne (toString $bootstrap.owner) "stockroom") -}}
{{- $wrong = append $wrong (printf "cloudNativePG.extraSpec.bootstrap.%s needs database: stockroom and owner: stockroom; the operator's default is app" $way) -}}
{{- end -}}
{{- end -}}
{{- $parameters := default (dict) (default (dict) $extra.postgresql).parameters -}}
{{- range $parameter, $value := dict "max_connections" "maxConnections" "superuser_reserved_connections" "superuserReservedConnections" "reserved_connections" "reservedConnections" -}}
{{- if hasKey $parameters $parameter -}}
{{- $wrong = append $wrong (printf "cloudNativePG.extraSpec.postgresql.parameters.%s: the plan rests on it, so set capacity.%s instead" $parameter $value) -}}
{{- end -}}
{{- end -}}
{{- range (default (dict) $extra.managed).roles -}}
{{- if eq .name "stockroom" -}}
{{- $wrong = append $wrong "cloudNativePG.extraSpec.managed.roles names the role stockroom, which the chart manages with the plan's connection limit: leave it out" -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nThese values cannot be used:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}

{{/* preStop drains; should it fail, SIGTERM drains again; then requests end, and gunicorn has 5 s to spare. */}}
{{- define "stockroom.gracePeriodSeconds" -}}
{{- addf (mulf 2 .Values.drainSeconds) .Values.shutdownSeconds 5 | ceil | int64 -}}
{{- end -}}
