package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/peers"
)

// States of PostgreSQL (SQLSTATE).
const (
	statePermission  = "42501"
	stateReadOnly    = "25006"
	stateTooMany     = "53300"
	stateNoDatabase  = "3D000"
	statePrepared    = "42P05" // is there already
	stateNotPrepared = "26000"
)

func stateOf(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// postgres checks the PostgreSQL of the configuration. The registry is nil if there is none to be had.
func (c *checker) postgres(ctx context.Context) (peers.Registry, func()) {
	config, listen, err := c.cfg.PostgresConfig()
	var pool *pgxpool.Pool
	if err == nil {
		config.MaxConns = min(config.MaxConns, 2)
		config.ConnConfig.RuntimeParams["application_name"] = "patchbay check " + c.cfg.Node
		pool, err = pgxpool.NewWithConfig(ctx, config)
	}
	if err != nil { // the configuration was fine a moment ago
		c.fail("postgres.connect", "", "%s", c.text(err))
		return nil, func() {}
	}
	c.towards = c.cfg.PostgresAddrs()
	separate := listen != nil
	listen = cmp.Or(listen, config.ConnConfig)
	if !c.postgresConnect(ctx, pool) {
		return nil, pool.Close
	}
	registry := peers.NewPostgres(pool, c.cfg.PostgresSchema, c.cfg.PostgresChannelPrefix)
	c.bounded(ctx, stepTimeout, func(ctx context.Context) { c.count(ctx, registry) })
	steps := []func(context.Context, *pgxpool.Pool) error{c.postgresServer, c.postgresClock, c.postgresConnections, c.postgresQueue, c.postgresTable}
	for _, step := range steps {
		c.bounded(ctx, stepTimeout, func(ctx context.Context) {
			if err := step(ctx, pool); err != nil {
				c.pooled("postgres.query", err)
			}
		})
	}
	c.postgresListen(ctx, pool, listen, separate)
	c.tryRegistry(ctx, "postgres.registry", registry, "the table patchbay_nodes can be written, or made",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON patchbay_nodes TO the user")
	return registry, pool.Close
}

// pooled says what is wrong with a statement, which may be a pooler's doing.
func (c *checker) pooled(check string, err error) {
	advice := ""
	switch stateOf(err) {
	case statePrepared, stateNotPrepared:
		advice = "a pooler in transaction mode: set GATEWAY_POSTGRES_LISTEN_URL past it, and let GATEWAY_POSTGRES_URL lead to the pooler if it has to"
	case statePermission:
		advice = "grant it to the user"
	}
	c.fail(check, advice, "%s", c.text(err))
}

func (c *checker) postgresConnect(ctx context.Context, pool *pgxpool.Pool) bool {
	const check = "postgres.connect"
	ctx, cancel := context.WithTimeout(ctx, stepTimeout+time.Second)
	defer cancel()
	begun := time.Now()
	conn, err := pool.Acquire(ctx)
	if err == nil {
		defer conn.Release()
		var pid uint32
		if err = conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid); err == nil {
			through := "directly"
			if pid != conn.Conn().PgConn().PID() {
				through = "through a pooler"
			}
			c.ok(check, "%s answers, %s, after %s with what it takes to connect", join(c.towards, "the socket"), through, ms(time.Since(begun)))
			return true
		}
	}
	text := c.text(err)
	advice := "is it the right address, does PostgreSQL run, does a firewall let this host through?"
	switch state := stateOf(err); {
	case strings.HasPrefix(state, "28"):
		advice = "correct the user or the password in GATEWAY_POSTGRES_URL, or pg_hba.conf"
	case state == stateNoDatabase:
		advice = "correct the database in GATEWAY_POSTGRES_URL, or create it"
	case state == stateTooMany:
		advice = "raise max_connections, or let GATEWAY_POSTGRES_URL lead to a pooler"
	case state == statePrepared || state == stateNotPrepared:
		advice = "a pooler in transaction mode: set GATEWAY_POSTGRES_LISTEN_URL past it"
	case contains(text, "x509", "certificate"):
		advice = "sslrootcert in the URL names the CA that has signed its certificate"
	case contains(text, "tls"):
		advice = "does it take TLS? sslmode in the URL says what is asked of it"
	case contains(text, "read only", "read-only"):
		advice = "none of the hosts takes writes"
	}
	c.fail(check, advice, "%s: %s", join(c.towards, "the socket"), text)
	return false
}

// postgresServer looks at what server this is.
func (c *checker) postgresServer(ctx context.Context, pool *pgxpool.Pool) error {
	var version, readOnly, idle string
	var number int
	var standby, secure bool
	err := pool.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(),
		current_setting('transaction_read_only'), coalesce(nullif(current_setting('idle_session_timeout', true), ''), '0'),
		coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), true)`).Scan(&version, &number, &standby, &readOnly, &idle, &secure)
	if err != nil {
		return err
	}
	const oldest = 130_000
	if number < oldest {
		c.warn("postgres.version", "use 13 or later", "PostgreSQL %s is older than what is tested", version)
	} else {
		c.ok("postgres.version", "PostgreSQL %s", version)
	}
	const advice = "name all hosts, and target_session_attrs=read-write: postgres://h1,h2/db?target_session_attrs=read-write"
	switch {
	case standby:
		c.fail("postgres.role", advice, "this is a standby: it has no notifications, and takes no writes")
	case readOnly == "on":
		c.fail("postgres.role", "default_transaction_read_only=off for this user and database", "transactions are read-only here")
	default:
		c.ok("postgres.role", "it takes writes")
	}
	if idle != "0" {
		c.warn("postgres.timeouts", "ALTER ROLE the user SET idle_session_timeout = 0", "idle_session_timeout is %s: PostgreSQL ends the connection that listens, and what is sent meanwhile is lost", idle)
	}
	if !secure && slices.ContainsFunc(c.towards, distant) {
		c.note("postgres.tls", "sslmode=verify-full", "what goes to PostgreSQL is not encrypted")
	}
	return nil
}

func (c *checker) postgresClock(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx) // first, not to measure how long it takes to connect
	if err != nil {
		return err
	}
	defer conn.Release()
	var now time.Time
	begun := time.Now()
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return err
	}
	took := time.Since(begun)
	c.skew("postgres.clock", now.Sub(begun.Add(took/2)), took/2)
	return nil
}

// postgresConnections looks whether there is room for this node's.
func (c *checker) postgresConnections(ctx context.Context, pool *pgxpool.Pool) error {
	var most, reserved, now, ofRole, ofDatabase int64
	err := pool.QueryRow(ctx, `SELECT current_setting('max_connections')::bigint,
		current_setting('superuser_reserved_connections')::bigint + coalesce(nullif(current_setting('reserved_connections', true), '')::bigint, 0),
		(SELECT count(*) FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend'),
		(SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
		(SELECT datconnlimit FROM pg_database WHERE datname = current_database())`).Scan(&most, &reserved, &now, &ofRole, &ofDatabase)
	if err != nil {
		return err
	}
	const check = "postgres.connections"
	need := int64(c.cfg.PostgresPoolSize) + 1
	left := most - reserved - now
	all := int64(c.nodes) * need
	text := fmt.Sprintf("%s of %s connections are in use; %s need up to %s, with those that listen", number(now), number(most-reserved), c.nodesText(), number(all))
	switch {
	case left < need && c.node == nil:
		c.fail(check, "raise max_connections, lower GATEWAY_POSTGRES_POOL_SIZE, or use a pooler", "%s", text)
	case left < 2*need || most-reserved < all:
		c.warn(check, "raise max_connections, lower GATEWAY_POSTGRES_POOL_SIZE, or use a pooler", "%s", text)
	default:
		c.ok(check, "%s", text)
	}
	for name, limit := range map[string]int64{"role": ofRole, "database": ofDatabase} {
		if limit >= 0 && limit < 2*need {
			c.warn(check, "ALTER "+strings.ToUpper(name)+" … CONNECTION LIMIT -1", "the %s may have %d connections at once, of all nodes together", name, limit)
		}
	}
	return nil
}

func (c *checker) postgresQueue(ctx context.Context, pool *pgxpool.Pool) error {
	const check = "postgres.queue"
	const advice = "SELECT pid, state, xact_start FROM pg_stat_activity WHERE xact_start < now() - interval '1 min': end who listens in a long transaction"
	var usage float64
	if err := pool.QueryRow(ctx, "SELECT pg_notification_queue_usage()").Scan(&usage); err != nil {
		return err
	}
	text := "the queue of notifications is " + strconv.FormatFloat(100*usage, 'f', 1, 64) + " % full"
	switch {
	case usage > 0.5:
		c.fail(check, advice, "%s: when it is full, nothing can be sent", text)
	case usage > 0.05:
		c.warn(check, advice, "%s: somebody who listens does not read", text)
	default:
		c.ok(check, "%s", text)
	}
	return nil
}

// postgresTable looks whether the table for what is large can be used, or made.
func (c *checker) postgresTable(ctx context.Context, pool *pgxpool.Pool) error {
	const check = "postgres.table"
	name := pgx.Identifier{c.cfg.PostgresTable}
	if c.cfg.PostgresSchema != "" {
		name = pgx.Identifier{c.cfg.PostgresSchema, c.cfg.PostgresTable}
	}
	table := name.Sanitize()
	var exists bool
	var lacks []string
	err := pool.QueryRow(ctx, `SELECT oid IS NOT NULL, array_remove(ARRAY[
			CASE WHEN NOT has_table_privilege(oid, 'INSERT') THEN 'INSERT' END, CASE WHEN NOT has_table_privilege(oid, 'SELECT') THEN 'SELECT' END,
			CASE WHEN NOT has_table_privilege(oid, 'DELETE') THEN 'DELETE' END,
			CASE WHEN oid IS NOT NULL AND NOT has_sequence_privilege(pg_get_serial_sequence($1, 'id'), 'USAGE') THEN 'USAGE of its sequence' END], NULL)
		FROM (SELECT to_regclass($1)::oid AS oid) AS attachments`, table).Scan(&exists, &lacks)
	if err != nil {
		return err
	}
	create := "CREATE TABLE " + table + " (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)"
	switch {
	case exists && len(lacks) > 0:
		c.fail(check, "grant it", "the table %s is there, but the user lacks %s", table, strings.Join(lacks, ", "))
		return nil
	case exists:
		c.ok(check, "the table %s is there, for what is large or binary", table)
		return nil
	}
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // nothing of it shall stay
	switch _, err = tx.Exec(ctx, create); {
	case err == nil:
		c.ok(check, "the table %s is missing, and the user may make it: a node does at its start", table)
	case stateOf(err) == stateReadOnly: // which was said
	default:
		c.fail(check, "run: "+create+"; and grant INSERT, SELECT, DELETE, and USAGE of its sequence", "the table %s is missing, and the user may not make it: %s", table, c.text(err))
	}
	return nil
}

// postgresListen notifies itself: through the pool, as a node does, to a connection that listens.
func (c *checker) postgresListen(ctx context.Context, pool *pgxpool.Pool, config *pgx.ConnConfig, separate bool) {
	const check = "postgres.listen"
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	variable := "GATEWAY_POSTGRES_URL"
	if separate {
		variable = "GATEWAY_POSTGRES_LISTEN_URL"
	}
	config = config.Copy()
	config.RuntimeParams["application_name"] = "patchbay check " + c.cfg.Node
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		c.fail(check, "correct "+variable, "%s: %s", variable, c.text(err))
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // pgx bounds it
	channel := c.cfg.PostgresChannelPrefix + "-check#" + peers.NewID()[:8]
	if err := conn.PgConn().Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()).Close(); err != nil {
		c.fail(check, "let "+variable+" lead to a server that takes writes, past any pooler", "LISTEN: %s", c.text(err))
		return
	}
	var took []time.Duration
	for i := range roundTrips {
		begun := time.Now()
		text := strconv.Itoa(i)
		if _, err := pool.Exec(ctx, "SELECT pg_notify($1::text, $2::text)", channel, text); err != nil {
			c.pooled(check, err)
			return
		}
		for {
			got, err := conn.WaitForNotification(ctx)
			if err != nil {
				advice := "do GATEWAY_POSTGRES_URL and GATEWAY_POSTGRES_LISTEN_URL lead to the same database?"
				if !separate {
					advice = "a pooler in transaction mode cannot LISTEN: set GATEWAY_POSTGRES_LISTEN_URL past it"
				}
				c.fail(check, advice, "a notification to itself does not arrive: %s", c.text(err))
				return
			}
			if got.Payload == text {
				break
			}
		}
		took = append(took, time.Since(begun))
	}
	c.latency(check, took, "a notification to itself")
}
