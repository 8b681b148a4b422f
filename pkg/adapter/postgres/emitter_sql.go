package postgres

// notifySQL notifies the channel $1 of the payload $2, in a transaction of its own: no commit waits for the disk for that.
const notifySQL = `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1::text, $2::text)`

// notifyNumberedSQL is that in a transaction which may have sent the same before. PostgreSQL would make one of equal
// notifications, so this one's number in the transaction is at its end as white space: its binary digits. The first has none.
// sio_emit counts with it.
const notifyNumberedSQL = `SELECT pg_notify($1::text, $2::text || translate(ltrim(n::bit(32)::text, '0'), '01', E' \t'))
FROM (SELECT set_config('patchbay.sent',
	(coalesce(nullif(current_setting('patchbay.sent', true), ''), '-1')::int + 1)::text, true)::int AS n) AS sent`

// maxNumber is how long such a number may be.
const maxNumber = 32

// notifyAttachmentSQL stores the attachment $1 in table, which is quoted, and notifies the channel $2 of it. own says that it
// has a transaction of its own: another may have begun so long ago that what has its age would be deleted at once.
func notifyAttachmentSQL(table string, own bool) string {
	columns := ""
	if own {
		columns = "set_config('synchronous_commit', 'off', true), "
	}
	return `WITH attachment AS (INSERT INTO ` + table + ` (created_at, payload) VALUES (clock_timestamp(), $1::bytea) RETURNING id)
SELECT ` + columns + `pg_notify($2::text, $3::text || id || $4::text) FROM attachment`
}
