-- The passwords of the two roles, as compose-secrets.sh has made them.
\set owner `cat /run/secrets/owner-password`
\set process `cat /run/secrets/taskapp-password`
ALTER ROLE taskapp_owner PASSWORD :'owner';
ALTER ROLE taskapp PASSWORD :'process';
