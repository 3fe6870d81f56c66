# What scripts/bench.sh and scripts/growth.sh share: services under load. Sourced after lib.sh; `keys`,
# `seconds` and `warm_up` are set.
# shellcheck shell=bash disable=SC2034,SC2154

declare -A server_of
postgres_dir=

# PostgreSQL runs as a user of its own, who cannot look into our folder, and its socket's path is short.
at_end() {
    [ "$status" = 0 ] || tail -n 3 "$out/logs/set-up.err" >&2 || true
    [ -z "$postgres_dir" ] || rm -rf "$postgres_dir"
}

# of NAME : from here on everything is about that service.
of() {
    service=$out/$1 homes=$out/home-$1 ca_state=$out/ca-$1
    export COUNTERSIGN_SERVER=${server_of[$1]:-} COUNTERSIGN_CA_FILE=$service/tls/cert.pem
}

# set_up NAME [DATABASE] : a service by that name (stopped), on `sqlite` or `postgres`: a tenant, with
# a certified key of each kind that a pipeline may use.
set_up() {
    local ready k database=${2:-$1}
    of "$1"
    mkdir -p "$homes"
    case $database in
    sqlite) start_service ;;
    postgres)
        [ -z "$postgres_dir" ] || die "one PostgreSQL in a run"
        postgres_dir=$(mktemp -d "${TMPDIR:-/tmp}/bench-pg.XXXXXX")
        chmod 711 "$postgres_dir"
        ready=$(start postgres countersign-testkit postgres --dir "$postgres_dir/pg")
        start_service "$(field url <<<"$ready")" "$(field owner_url <<<"$ready")"
        ;;
    *) die "a database is sqlite or postgres, not $database" ;;
    esac
    server_of[$1]=$COUNTERSIGN_SERVER
    start_ca
    login operator olga
    make_tenant bench
    trust_platform bench
    for k in "${keys[@]}"; do
        make_signer bench "$k" "$k"
        order_certificate bench "$key"
        grant bench "$k" cms
    done
    drain
}

# load SIGNER CALLERS BATCH [ARGUMENTS…] : one row, as JSON.
load() {
    local signer=$1 callers=$2 batch=$3 worker; shift 3
    job_token 4711 >"$out/ci/token"
    # The bench tenant's is the first of countersignd's children.
    worker=$(cat /proc/"$service_pid"/task/*/children 2>/dev/null | awk 'NF { print $1; exit }') || true
    countersign-testkit load --server "$COUNTERSIGN_SERVER" --ca-file "$COUNTERSIGN_CA_FILE" --tenant bench \
        --signer "$signer" --id-token-file "$out/ci/token" --callers "$callers" --batch "$batch" \
        --seconds "$seconds" --warm-up "$warm_up" \
        --cpu-of "countersignd=$service_pid" --cpu-of "worker=${worker:-0}" "$@"
}
