-- Sets the passwords of the two roles, which compose-secrets.sh has created.
\set owner `cat /run/secrets/owner-password`
\set process `cat /run/secrets/taskapp-password`
ALTER ROLE taskapp_owner PASSWORD :'owner';
ALTER ROLE taskapp PASSWORD :'process';
