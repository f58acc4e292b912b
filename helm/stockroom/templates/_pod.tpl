{{/* What all pods of Stockroom's own image have in common. Takes (list $ workload), where workload holds nodeSelector and the like. */}}
{{- define "stockroom.podSpec" -}}
{{- $root := index . 0 -}}{{- $workload := index . 1 -}}
automountServiceAccountToken: false
{{- /* A Service named `app` would else put APP_PORT into the environment. */}}
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "stockroom.podSecurityContext" $root | nindent 2 }}
{{- with $workload.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $workload.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $workload.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $workload.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes (list $ component). Each roll-out is spread by itself, or the old pods would decide where the new ones go. */}}
{{- define "stockroom.topologySpread" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- with $root.Values.topologySpread -}}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | indent 4 | trim }}
    labelSelector:
      matchLabels: {{- include "stockroom.selectorLabels" (list $root $component) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Without what is unset (null, or "" for a parent chart, which cannot pass null on): OpenShift chooses users and groups itself. */}}
{{- define "stockroom.podSecurityContext" -}}
{{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- range $name, $value := .Values.podSecurityContext -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) -}}{{- $_ := set $context $name $value -}}{{- end -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- define "stockroom.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* A container of Stockroom's image up to its command. Takes the root. */}}
{{- define "stockroom.container" -}}
image: {{ include "stockroom.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "stockroom.securityContext" . | nindent 2 }}
{{- end -}}

{{/* Hooks are no part of the release: what has failed would outlive it for ever. A day is enough to look at it. */}}
{{- define "stockroom.jobTtl" -}}
ttlSecondsAfterFinished: 86400
{{- end -}}

{{/* Files go to memory: the root filesystem is read-only, and a slow disk must not block a heartbeat. */}}
{{- define "stockroom.volumeMounts" -}}
- name: memory
  mountPath: /dev/shm
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stockroom.volumes" -}}
- name: memory
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A value as a text. Go would write 2000000, which Helm reads as a floating point number, as 2e+06; JSON does not. */}}
{{- define "stockroom.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* Settings that are no secrets, as a dict: the ConfigMap's data. */}}
{{- define "stockroom.settings" -}}
{{- $in := (include "stockroom.plan" . | fromJson).inputs -}}
{{- $settings := dict -}}
{{- range $name, $value := .Values.settings -}}{{- $_ := set $settings $name (include "stockroom.text" $value) -}}{{- end -}}
{{- $_ := set $settings "APP_ENVIRONMENT" "production" -}}
{{- $_ := set $settings "APP_HOST" .Values.host -}}
{{- $_ := set $settings "APP_PORT" "8000" -}}
{{- $_ := set $settings "APP_DRAIN_SECONDS" (include "stockroom.text" .Values.drainSeconds) -}}
{{- $_ := set $settings "APP_SHUTDOWN_SECONDS" (include "stockroom.text" .Values.shutdownSeconds) -}}
{{- $_ := set $settings "APP_REPLICA_CEILING" (include "stockroom.text" $in.replicaCeiling) -}}
{{- $_ := set $settings "APP_SURGE_PODS" (include "stockroom.text" $in.surgePods) -}}
{{- $_ := set $settings "APP_TERMINATING_PODS" (include "stockroom.text" $in.terminatingPods) -}}
{{- $_ := set $settings "APP_JOB_WORKER_PODS" (add $in.jobReplicaCeiling $in.jobSurgePods $in.jobTerminatingPods | toString) -}}
{{- $_ := set $settings "APP_OTHER_CONNECTIONS" (include "stockroom.text" $in.otherClientConnections) -}}
{{- $_ := set $settings "APP_PGBOUNCER_SERVER_CONNECTIONS" (include "stockroom.text" $in.pgbouncerServerConnections) -}}
{{- $_ := set $settings "APP_HOLD_TIME_MS" (include "stockroom.text" $in.holdTimeMs) -}}
{{- $_ := set $settings "APP_WAIT_BUDGET_MS" (include "stockroom.text" $in.waitBudgetMs) -}}
{{- $optional := dict "APP_WORKERS_CEILING" $in.workersPerPodCeiling "APP_PGBOUNCER_MAX_CLIENT_CONNECTIONS" $in.pgbouncerMaxClientConnections "APP_DATABASE_CORES" $in.databaseCores "APP_ARRIVAL_RATE_PER_WORKER_PER_SECOND" $in.arrivalRatePerWorkerPerSecond -}}
{{- range $name, $value := $optional -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $settings $name (include "stockroom.text" $value) -}}{{- end -}}
{{- end -}}
{{- if include "stockroom.migrationLimitsRole" . -}}
{{- /* Here, because plain manifests change it with the numbers that it follows from. */ -}}
{{- $_ := set $settings "ROLE_CONNECTION_LIMIT" (include "stockroom.text" (include "stockroom.plan" . | fromJson).roleLimit) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- define "stockroom.envFrom" -}}
- configMapRef:
    name: {{ include "stockroom.fullname" . }}
{{- end -}}

{{/* The limit that the container really has, in thousandths: without a divisor 1500m would be rounded up to 2. */}}
{{- define "stockroom.cpuEnv" -}}
{{- if (default (dict) .Values.resources.limits).cpu -}}
- name: CPU_LIMIT_MILLICORES
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
      divisor: 1m
- name: APP_CPU_LIMIT
  value: $(CPU_LIMIT_MILLICORES)m
{{- else -}}
- name: APP_CPU_LIMIT
  value: {{ .Values.capacity.workersPerPodCeiling | quote }}
{{- end -}}
{{- end -}}

{{/* What comes from Secrets. */}}
{{- define "stockroom.env" -}}
{{ include "stockroom.databaseEnv" . }}
- name: APP_SIGNING_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ include "stockroom.secretName" . }}
      key: signing-keys
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stockroom.databaseEnv" -}}
{{- $direct := ternary "APP_DATABASE_DIRECT_URL" "APP_DATABASE_URL" (or .Values.pgbouncer.enabled (not (empty .Values.capacity.pgbouncerMaxClientConnections))) -}}
- name: {{ $direct }}
  valueFrom:
    secretKeyRef:
{{- if .Values.cloudNativePG.enabled }}
      name: {{ include "stockroom.fullname" . }}-db-app
      key: uri
{{- else }}
      name: {{ include "stockroom.secretName" . }}
      key: database-url
{{- end }}
{{- if eq $direct "APP_DATABASE_DIRECT_URL" }}
{{- if .Values.cloudNativePG.enabled }}
{{- range list "username" "password" }}
- name: POOLER_{{ upper . }}
  valueFrom:
    secretKeyRef:
      name: {{ include "stockroom.fullname" $ }}-db-app
      key: {{ . }}
{{- end }}
- name: APP_DATABASE_URL
  value: postgresql://$(POOLER_USERNAME):$(POOLER_PASSWORD)@{{ include "stockroom.fullname" . }}-pgbouncer:5432/stockroom
{{- else }}
- name: APP_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "stockroom.secretName" . }}
      key: pgbouncer-url
{{- end }}
{{- end }}
{{- end -}}

{{/* What a pod's first containers do: see that the schema is there, or make it where nobody else can. Takes the root. */}}
{{- define "stockroom.initContainers" -}}
{{- if eq .Values.mode "evaluation" }}
{{ include "stockroom.prepareDatabase" . }}
{{- end }}
{{- if include "stockroom.migratesInPods" . }}
- name: migrate
  {{- include "stockroom.container" . | nindent 2 }}
  args: [migrate, --wait-seconds, "300"{{ if include "stockroom.migrationLimitsRole" . }}, --connection-limit, $(ROLE_CONNECTION_LIMIT){{ end }}]
  {{- include "stockroom.initRest" (list . .Values.resources) | nindent 2 }}
{{- else }}
{{ include "stockroom.awaitSchema" (list . .Values.resources) }}
{{- end }}
{{- if eq .Values.mode "evaluation" }}
- name: first-admin
  {{- include "stockroom.container" . | nindent 2 }}
  args: [user, ensure-admin]
  {{- include "stockroom.initRest" (list . .Values.resources) | nindent 2 }}
    - name: APP_ADMIN_EMAIL
      value: {{ .Values.evaluation.adminEmail }}
    - name: APP_ADMIN_PASSWORD
      valueFrom:
        secretKeyRef:
          name: {{ include "stockroom.secretName" . }}
          key: admin-password
{{- end }}
{{- end -}}

{{/* Takes (list $ resources), as the next. */}}
{{- define "stockroom.awaitSchema" -}}
- name: await-schema
  {{- include "stockroom.container" (index . 0) | nindent 2 }}
  args: [await-schema, --wait-seconds, "300"]
  {{- include "stockroom.initRest" . | nindent 2 }}
{{- end -}}

{{/* Ends with `env`, so that more of it can follow. */}}
{{- define "stockroom.initRest" -}}
{{- $root := index . 0 -}}
resources: {{- toYaml (index . 1) | nindent 2 }}
volumeMounts: {{- include "stockroom.volumeMounts" $root | nindent 2 }}
envFrom: {{- include "stockroom.envFrom" $root | nindent 2 }}
env: {{- include "stockroom.env" $root | nindent 2 }}
{{- end -}}

{{/* Takes the root and the port of the metrics. */}}
{{- define "stockroom.podAnnotations" -}}
{{- $root := index . 0 -}}
{{- $scraped := dict "prometheus.io/scrape" "true" "prometheus.io/port" (index . 1 | toString) "prometheus.io/path" "/metrics" -}}
{{ include "stockroom.checksums" $root }}
{{- /* Yours win. */}}
{{- with merge (dict) $root.Values.podAnnotations (ternary $scraped (dict) $root.Values.scrapeAnnotations.enabled) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A change of these restarts pods. What a Secret of yours holds is seen only where Helm can look at the cluster. */}}
{{- define "stockroom.checksums" -}}
checksum/config: {{ include "stockroom.settings" . | sha256sum }}
{{- with include "stockroom.secretChecksum" . }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "stockroom.secretChecksum" -}}
{{- with .Values.existingSecret }}
{{- with lookup "v1" "Secret" $.Release.Namespace . -}}
checksum/secret: {{ toJson .data | sha256sum }}
{{- end }}
{{- end }}
{{- end -}}
