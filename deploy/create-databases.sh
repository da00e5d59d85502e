#!/bin/sh
# Create the databases and their owners in an empty PostgreSQL server. Its image runs this once, when its volume is empty;
# elsewhere run it as a superuser (PGHOST, PGUSER, PGPASSWORD).
set -eu
: "${DAGSTER_DB_PASSWORD:?} ${MLFLOW_DB_PASSWORD:?}"
psql -v ON_ERROR_STOP=1 -v dagster="$DAGSTER_DB_PASSWORD" -v mlflow="$MLFLOW_DB_PASSWORD" \
    --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
SQL
