#!/bin/sh
# Run once by the PostgreSQL image, when it makes its cluster: the service's role, which is no superuser and is bound by
# row-level security, and its database.
set -eu
password=$(cat /run/countersign/database/countersign)
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres <<SQL
CREATE ROLE countersign LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD '$password';
CREATE DATABASE countersign OWNER countersign ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE countersign FROM PUBLIC;
SQL
