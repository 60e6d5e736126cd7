{{- define "ecr-sync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ecr-sync.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "ecr-sync.name" . }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Names of cluster-wide objects: two releases in two namespaces must not share them. */}}
{{- define "ecr-sync.clusterName" -}}
{{- $name := include "ecr-sync.fullname" . }}
{{- ternary $name (printf "%s-%s" .Release.Namespace $name) (eq .Release.Namespace (printf "%s-system" $name)) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ecr-sync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ecr-sync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ecr-sync.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "ecr-sync.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ecr-sync.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "ecr-sync.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "ecr-sync.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}

{{/* Whether Secrets are watched, which needs permission to list them. "true" or empty. */}}
{{- define "ecr-sync.watchesSecrets" -}}
{{- if and .Values.secrets.enabled .Values.secrets.watch (not .Values.secrets.names) }}true{{ end }}
{{- end }}

{{/* Secrets with logins of mirrors, as YAML: namespace -> names. */}}
{{- define "ecr-sync.mirrorSecrets" -}}
{{- $secrets := dict }}
{{- range .Values.mirrors }}
{{- with .credentialsSecretRef }}
{{- $_ := set $secrets .namespace (append (default list (get $secrets .namespace)) .name | uniq | sortAlpha) }}
{{- end }}
{{- end }}
{{- toYaml $secrets }}
{{- end }}

{{/* The files of the ConfigMap, as YAML: name -> content. */}}
{{- define "ecr-sync.files" -}}
{{- with .Values.defaults.lifecyclePolicy }}
lifecycle-policy.json: {{ toJson . | quote }}
{{- end }}
{{- with .Values.defaults.permissionPolicy }}
permission-policy.json: {{ toJson . | quote }}
{{- end }}
{{- with .Values.defaults.resourceTags }}
resource-tags.json: {{ toJson . | quote }}
{{- end }}
{{- with .Values.aws.roles }}
roles.yaml: {{ toYaml . | quote }}
{{- end }}
{{- with .Values.mirrors }}
mirrors.yaml: {{ toYaml (dict "mirrors" .) | quote }}
{{- end }}
{{- with .Values.tenants.config }}
tenants.yaml: {{ toYaml . | quote }}
{{- end }}
{{- end }}

{{/* The arguments of the operator. Values that are not set are left out, so that the defaults of the program apply. */}}
{{- define "ecr-sync.args" -}}
- controller
- --listen=0.0.0.0:8080
{{- with .Values.watch.namespace }}
- --namespace={{ . }}
{{- end }}
{{- with .Values.watch.labelSelector }}
- {{ printf "--watch-label-selector=%s" . | quote }}
{{- end }}
{{- if not (include "ecr-sync.watchesSecrets" .) }}
- --watch-secrets=false
{{- end }}
{{- with .Values.aws.region }}
- --region={{ . }}
{{- end }}
{{- with .Values.aws.accountId }}
- {{ printf "--account-id=%s" . | quote }}
{{- end }}
{{- with .Values.aws.ecrEndpointUrl }}
- --ecr-endpoint-url={{ . }}
{{- end }}
{{- with .Values.aws.putImageRate }}
- --put-image-rate={{ . }}
{{- end }}
{{- with .Values.aws.layerUploadRate }}
- --layer-upload-rate={{ . }}
{{- end }}
{{- if .Values.aws.publicEcrLogin }}
- --public-ecr-login=true
{{- end }}
{{- with .Values.controller }}
{{- if .clusterId }}
- {{ printf "--cluster-id=%s" .clusterId | quote }}
{{- end }}
{{- if .formerClusterIds }}
- {{ printf "--former-cluster-ids=%s" (join "," .formerClusterIds) | quote }}
{{- end }}
{{- if .adoption }}
- {{ printf "--adoption=%s" (join "," .adoption) | quote }}
{{- end }}
{{- if .allowTakeover }}
- --allow-takeover=true
{{- end }}
{{- if not .ownerTags }}
- --owner-tags=false
{{- end }}
{{- if .dryRun }}
- --dry-run=true
{{- end }}
{{- if .maxJobs }}
- --max-jobs={{ .maxJobs }}
{{- end }}
{{- if .concurrency }}
- --concurrency={{ .concurrency }}
{{- end }}
{{- if .maxTags }}
- --max-tags={{ .maxTags }}
{{- end }}
{{- if .rateReserve }}
- {{ printf "--rate-reserve=%s" .rateReserve | quote }}
{{- end }}
{{- if .allowPrivateSources }}
- {{ printf "--allow-private-sources=%s" (join "," .allowPrivateSources) | quote }}
{{- end }}
{{- if .allowRealms }}
- {{ printf "--allow-realm=%s" (join "," .allowRealms) | quote }}
{{- end }}
{{- if .resourceMetrics }}
- {{ printf "--resource-metrics=%s" (join "," .resourceMetrics) | quote }}
{{- end }}
{{- if .maxTimeout }}
- --max-timeout={{ .maxTimeout }}
{{- end }}
{{- if .memoryBudget }}
- --memory-budget={{ .memoryBudget }}
{{- end }}
{{- if .startupSpread }}
- --startup-spread={{ .startupSpread }}
{{- end }}
{{- if .watchdog }}
- --watchdog={{ .watchdog }}
{{- end }}
{{- if not .leaderElection }}
- --leader-election=false
{{- end }}
{{- if gt (int .shards) 1 }}
- --shards={{ int .shards }}
{{- end }}
- {{ printf "--log-level=%s" .logLevel | quote }}
- --log-format={{ .logFormat }}
{{- end }}
{{- $files := include "ecr-sync.files" . | fromYaml }}
{{- range $file, $flag := dict
    "lifecycle-policy.json" "default-lifecycle-policy-file" "permission-policy.json" "default-permission-policy-file"
    "resource-tags.json" "default-resource-tags-file" "tenants.yaml" "tenants" "roles.yaml" "roles-file"
    "mirrors.yaml" "mirrors-file" }}
{{- if hasKey $files $file }}
- --{{ $flag }}=/etc/ecr-sync/{{ $file }}
{{- end }}
{{- end }}
{{- with .Values.tenants.default }}
- --tenants-default={{ . }}
{{- end }}
{{- if .Values.registryConfig.secretName }}
- --registry-config=/etc/ecr-sync-registry/config.json
{{- end }}
{{- with .Values.controller.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Checks that compare two values, which JSON schema cannot do. */}}
{{- define "ecr-sync.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.controller.leaderElection) }}
{{- fail "replicas: more than 1 needs controller.leaderElection: true; otherwise each replica copies everything" }}
{{- end }}
{{- if and (gt (int .Values.controller.shards) 1) (not .Values.controller.leaderElection) }}
{{- fail "controller.shards: more than 1 needs controller.leaderElection: true; the shards are Leases" }}
{{- end }}
{{- if and .Values.monitoring.serviceMonitor.enabled (not .Values.service.enabled) }}
{{- fail "monitoring.serviceMonitor.enabled needs service.enabled: true; alternatively, use monitoring.podMonitor" }}
{{- end }}
{{- range splitList "," (.Values.controller.logLevel | trim | lower) }}
{{- $isLevel := has . (list "error" "warn" "warning" "info" "debug" "trace" "off" "critical") }}
{{- $isFilter := regexMatch `^(ecr_sync[a-z0-9_:]*|[a-z0-9_]+(::[a-z0-9_]+)+|([a-z0-9_:]*(\[[^\]]*\])?=|[a-z0-9_:]*\[[^\]]*\]=?)(error|warn|info|debug|trace|off|[0-5])?)$` . }}
{{- if not (or $isLevel $isFilter) }}
{{- fail (printf "controller.logLevel: %q is neither a level (error, warn, info, debug, trace, off) nor a filter like info,ecr_sync=debug" .) }}
{{- end }}
{{- end }}
{{- $matches := dict }}
{{- range $index, $mirror := .Values.mirrors }}
{{- $name := printf "mirrors[%d]" $index }}
{{- $place := `^([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost|\[[0-9A-Fa-f:.]+\](:[0-9]+)?)(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*/*$` }}
{{- if not (regexMatch $place .match) }}
{{- fail (printf "%s.match: %q is neither a host nor the first part of an image's name: write docker.io, or docker.io/library" $name .match) }}
{{- end }}
{{- if and .rewrite (not (regexMatch $place (.rewrite | default ""))) }}
{{- fail (printf "%s.rewrite: %q is not a host with a path: write mirror.example.com/path, without a scheme" $name .rewrite) }}
{{- end }}
{{- if and .rewrite .direct }}
{{- fail (printf "%s has both rewrite and direct: true: remove one of them" $name) }}
{{- end }}
{{- if not (or .rewrite .direct) }}
{{- fail (printf "%s has no rewrite: write where the mirror has its images, for example mirror.example.com/hub" $name) }}
{{- end }}
{{- if and .credentialsFile .credentialsSecretRef }}
{{- fail (printf "%s has both credentialsFile and credentialsSecretRef: remove one of them" $name) }}
{{- end }}
{{- $match := regexReplaceAll "^(index|registry-1)\\.docker\\.io" (.match | trimSuffix "/" | lower) "docker.io" }}
{{- if hasKey $matches $match }}
{{- fail (printf "%s: %s is matched twice: remove one of the two mirrors" $name $match) }}
{{- end }}
{{- $_ := set $matches $match true }}
{{- $parts := len (splitList "/" $match) }}
{{- if and .rewrite (not (contains "/" (.rewrite | default "" | trimSuffix "/"))) (gt $parts (ternary 2 1 (hasPrefix "docker.io/" $match))) }}
{{- fail (printf "%s: rewrite of %s is only a host: append the image's name" $name $match) }}
{{- end }}
{{- end }}
{{- range $key, $value := .Values.defaults.resourceTags }}
{{- if or (not $key) (gt (len $key) 128) (hasPrefix "aws:" $key) (hasPrefix "ecr-sync.io/" $key) }}
{{- fail (printf "defaults.resourceTags: %q is not a key of 1 to 128 characters without the reserved prefixes aws: and ecr-sync.io/" $key) }}
{{- end }}
{{- end }}
{{- $priorities := dict }}
{{- range .Values.defaults.lifecyclePolicy.rules }}
{{- $priority := toString .rulePriority }}
{{- if hasKey $priorities $priority }}
{{- fail (printf "defaults.lifecyclePolicy.rules: rulePriority %s is taken twice: each rule needs its own" $priority) }}
{{- end }}
{{- $_ := set $priorities $priority true }}
{{- end }}
{{- end }}
