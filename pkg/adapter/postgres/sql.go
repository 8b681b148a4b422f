package postgres

import _ "embed"

// EmitFunctionSQL is a migration that brings the SQL function sio_emit, with which triggers and transactions emit, and the table
// of attachments if there is none. Its first lines say how to use it. It has several statements: pgx runs it with Exec and no
// arguments. It may be run again at any time.
//
//go:embed sql/sio_emit.sql
var EmitFunctionSQL string
