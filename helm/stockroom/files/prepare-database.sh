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
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=password="$ROLE_PASSWORD" --set=limit="$CONNECTION_LIMIT" --output=/dev/null --file=- <<'SQL'
SELECT pg_advisory_lock(7306018443);
SELECT 'CREATE ROLE stockroom' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'stockroom') \gexec
ALTER ROLE stockroom LOGIN NOSUPERUSER PASSWORD :'password' CONNECTION LIMIT :limit;
ALTER DATABASE stockroom OWNER TO stockroom;
SQL
echo "the role stockroom may hold $CONNECTION_LIMIT connections"
