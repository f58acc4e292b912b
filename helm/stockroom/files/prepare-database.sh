set -eu
waited=0
until pg_isready --quiet --timeout=2; do
    waited=$((waited + 1))
    if [ "$waited" -gt 300 ]; then
        echo "PostgreSQL at $PGHOST does not answer" >&2
        exit 1
    fi
    sleep 1
done
psql --no-psqlrc --quiet --output=/dev/null --file=- \
    --set=ON_ERROR_STOP=1 --set=role="$ROLE" --set=password="$ROLE_PASSWORD" --set=limit="$CONNECTION_LIMIT" <<'SQL'
SELECT pg_advisory_lock(7306018443);
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" LOGIN NOSUPERUSER PASSWORD :'password' CONNECTION LIMIT :limit;
SELECT format('ALTER DATABASE %I OWNER TO %I', current_database(), :'role') \gexec
SQL
echo "the role $ROLE may hold $CONNECTION_LIMIT connections"
