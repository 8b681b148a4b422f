package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATE codes, and classes of them, that are treated in ways of their own.
const (
	stateReadOnly      = "25006"
	statePermission    = "42501"
	stateNoPrepared    = "26000"
	statePrepared      = "42P05"
	stateTooMuch       = "54000" // of notifications in PostgreSQL's queue
	statesOfData       = "22"    // invalid bytes, too long a payload
	statesOfConnection = "08"
	statesOfResources  = "53" // too many connections, no memory, no disk
	statesOfObjects    = "55" // locked by somebody else, for example
	statesOfOperator   = "57" // shutdown, start-up, cancelled
)

// states tells whether PostgreSQL has answered err, with a code that begins like one of these.
func states(err error, begin ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, b := range begin {
		if strings.HasPrefix(pg.Code, b) {
			return true
		}
	}
	return false
}

// answered tells whether PostgreSQL has answered, be it with an error.
func answered(err error) bool { return err == nil || states(err, "") }

// passing tells whether what err says may be over in a moment.
func passing(err error) bool {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errEncoding), errors.Is(err, errNoTable), errors.Is(err, errForbidden),
		errors.Is(err, errPrefix), errors.Is(err, errTableName):
		return false
	case answered(err):
		return states(err, statesOfConnection, statesOfResources, statesOfOperator)
	}
	return true
}

func isFatal(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC")
}

// explain adds to an error of PostgreSQL what it does not say.
func explain(err error) error {
	switch {
	case states(err, stateReadOnly):
		return fmt.Errorf("%w: this server is a read-only standby, which has no notifications: connect to the primary, "+
			"among several hosts with target_session_attrs=read-write", err)
	case states(err, stateNoPrepared, statePrepared):
		return fmt.Errorf("%w: a pooler in transaction mode that knows no prepared statements needs default_query_exec_mode=exec "+
			"in the pool's connection string", err)
	case states(err, stateTooMuch):
		return fmt.Errorf("%w: some listener does not read, or is in a transaction that does not end (pg_stat_activity, "+
			"pg_notification_queue_usage)", err)
	}
	return err
}
