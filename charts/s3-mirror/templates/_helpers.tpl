{{- define "s3-mirror.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that the suffixes of pods and services still fit in 63. */}}
{{- define "s3-mirror.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "s3-mirror.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "s3-mirror.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "s3-mirror.selectorLabels" -}}
app.kubernetes.io/name: {{ include "s3-mirror.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "s3-mirror.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "s3-mirror.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "s3-mirror.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "s3-mirror.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "s3-mirror.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.existingSecret)) -}}
{{- end -}}

{{- define "s3-mirror.port" -}}
{{- .Values.service.port | default (ternary 443 80 (not (empty .Values.tls.existingSecret))) -}}
{{- end -}}

{{/* `https://s3-proxy.s3-mirror.svc.cluster.local`, with the port where it is not the usual one. */}}
{{- define "s3-mirror.url" -}}
{{- $scheme := include "s3-mirror.scheme" . -}}
{{- $port := include "s3-mirror.port" . -}}
{{- printf "%s://%s.%s.svc.cluster.local" $scheme .Values.service.name .Release.Namespace -}}
{{- if ne $port (ternary "443" "80" (eq $scheme "https")) }}:{{ $port }}{{ end -}}
{{- end -}}

{{/* What the chart's own Secret holds, as YAML; empty when there is nothing to hold. */}}
{{- define "s3-mirror.secretData" -}}
{{- if not .Values.s3.existingSecret }}
{{- with .Values.s3.mainAccessKey }}
MAIN_ACCESS_KEY: {{ . | quote }}
{{- end }}
{{- with .Values.s3.mainSecretKey }}
MAIN_SECRET_KEY: {{ . | quote }}
{{- end }}
{{- with .Values.s3.mirrorAccessKey }}
MIRROR_ACCESS_KEY: {{ . | quote }}
{{- end }}
{{- with .Values.s3.mirrorSecretKey }}
MIRROR_SECRET_KEY: {{ . | quote }}
{{- end }}
{{- end }}
{{- if not .Values.admin.existingSecret }}
{{- with .Values.admin.token }}
ADMIN_TOKEN: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.events.webhookUrl }}
EVENTS_WEBHOOK_URL: {{ . | quote }}
{{- end }}
{{- with .Values.events.webhookSecret }}
EVENTS_WEBHOOK_SECRET: {{ . | quote }}
{{- end }}
{{- if and .Values.database.enabled (not .Values.postgresql.existingSecret) }}
{{- with .Values.postgresql.url }}
POSTGRES_URL: {{ . | quote }}
{{- end }}
{{- with .Values.postgresql.password }}
POSTGRES_PASSWORD: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Mistakes that would only show as a proxy that does not start, or as a wrong inventory. */}}
{{- define "s3-mirror.validate" -}}
{{- $pg := .Values.postgresql -}}
{{- if not .Values.s3.mirrorEndpoint -}}
{{- fail "s3.mirrorEndpoint is required: the S3 that receives the copies" -}}
{{- end -}}
{{- range $side := list "main" "mirror" -}}
{{- $access := index $.Values.s3 (printf "%sAccessKey" $side) -}}
{{- $secret := index $.Values.s3 (printf "%sSecretKey" $side) -}}
{{- if ne (empty $access) (empty $secret) -}}
{{- fail (printf "s3.%sAccessKey and s3.%sSecretKey go together: set both or neither" $side $side) -}}
{{- end -}}
{{- if and $access $.Values.s3.existingSecret -}}
{{- fail (printf "s3.existingSecret and s3.%sAccessKey exclude each other" $side) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.admin.token .Values.admin.existingSecret -}}
{{- fail "admin.token and admin.existingSecret exclude each other" -}}
{{- end -}}
{{- if .Values.database.enabled -}}
{{- if and $pg.existingSecret (or $pg.url $pg.password) -}}
{{- fail "postgresql.existingSecret excludes postgresql.url and postgresql.password" -}}
{{- end -}}
{{- $settings := .Values.settings -}}
{{- $passwordElsewhere := or (get $settings "POSTGRES_IAM") (get $settings "POSTGRES_PASSWORD_FILE") .Values.s3.existingSecret -}}
{{- if and $pg.host (not $pg.password) (not $pg.existingSecret) (not $passwordElsewhere) -}}
{{- fail "postgresql.host needs postgresql.password, postgresql.existingSecret, or POSTGRES_IAM or POSTGRES_PASSWORD_FILE in settings" -}}
{{- end -}}
{{- if and $pg.password (not $pg.host) (not $pg.url) -}}
{{- fail "postgresql.password needs postgresql.host" -}}
{{- end -}}
{{- if and $pg.existingSecret (not $pg.secretKeys.url) (not $pg.host) -}}
{{- fail "postgresql.existingSecret needs postgresql.host, or postgresql.secretKeys.url" -}}
{{- end -}}
{{- $several := or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}
{{- /* With s3.existingSecret the URL may be in there; only the proxy can know. */ -}}
{{- $elsewhere := .Values.s3.existingSecret -}}
{{- range concat .Values.env .Values.extraEnv -}}
{{- if or (hasPrefix "POSTGRES_" .name) (eq .name "DISABLE_DATABASE") }}{{ $elsewhere = .name }}{{ end -}}
{{- end -}}
{{- if and $several (not (or $pg.url $pg.host $pg.existingSecret $elsewhere)) -}}
{{- fail "more than one replica needs PostgreSQL (postgresql.url or postgresql.host), or database.enabled=false: the SQLite inventory belongs to one replica" -}}
{{- end -}}
{{- end -}}
{{- end -}}
