-- Creates the database and its two roles, as a superuser: psql -f deploy/postgresql-roles.sql
--   taskapp_owner  owns the database and changes its tables: TASKAPP_MIGRATION_DATABASE_URL
--   taskapp        reads and writes rows, and can neither create nor drop: TASKAPP_DATABASE_URL
-- Then set a password for each: \password taskapp_owner and \password taskapp
CREATE ROLE taskapp_owner LOGIN;
CREATE ROLE taskapp LOGIN;
CREATE DATABASE taskapp OWNER taskapp_owner TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE taskapp FROM PUBLIC;
GRANT CONNECT ON DATABASE taskapp TO taskapp;

-- The session options that taskapp sets on every connection, because a pooler such as PgBouncer may drop them.
ALTER ROLE taskapp SET timezone = 'UTC';
ALTER ROLE taskapp SET datestyle = 'ISO';
ALTER ROLE taskapp SET statement_timeout = '3500ms';

\connect taskapp
ALTER DEFAULT PRIVILEGES FOR ROLE taskapp_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO taskapp;
