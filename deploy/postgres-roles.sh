#!/bin/sh
# Runs once, when PostgreSQL starts on an empty volume: the database and its three roles. None may bypass row-level
# security; the owner makes tables, the other two own nothing.
set -eu
password() { sed -e 's#^postgresql://[^:]*:##' -e 's#@.*$##' "/run/secrets/$1"; }
psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set owner="$(password database_url)" --set app="$(password database_app_url)" \
    --set sequencer="$(password database_sequencer_url)" <<'SQL'
CREATE ROLE agentauth_owner LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'owner';
CREATE ROLE agentauth_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'app';
CREATE ROLE agentauth_sequencer LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'sequencer';
CREATE DATABASE agentauth OWNER agentauth_owner TEMPLATE template0 ENCODING 'UTF8';
REVOKE CONNECT ON DATABASE agentauth FROM PUBLIC;
GRANT CONNECT ON DATABASE agentauth TO agentauth_app, agentauth_sequencer;
\connect agentauth
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO agentauth_owner;
GRANT USAGE ON SCHEMA public TO agentauth_app, agentauth_sequencer;
SQL
