package postgres

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

var errPrefix = errors.New("postgres: channel prefix is too long")

const (
	defaultPrefix = "socket.io"
	defaultTable  = "socket_io_attachments"

	maxChannelBytes = 63 // NAMEDATALEN - 1
	// maxPrefixBytes leaves room for what stands for a namespace whose own name does not fit.
	maxPrefixBytes = maxChannelBytes - len("#~") - digestChars
	digestBytes    = 16
	digestChars    = 22 // of base64, without padding
)

// channelName returns the channel of a namespace, as official nodes have it. What PostgreSQL does not take for the name of a
// channel, and official nodes therefore cannot use, gives way to a digest, which no namespace looks like: those begin with a
// slash.
func channelName(prefix, ns string) string {
	name := prefix + "#" + ns
	if len(name) <= maxChannelBytes && utf8.ValidString(ns) && strings.IndexByte(ns, 0) < 0 {
		return name
	}
	sum := sha256.Sum256([]byte(ns))
	return prefix + "#~" + base64.RawURLEncoding.EncodeToString(sum[:digestBytes])
}

// quotedTable returns the name of a table for SQL. Without a schema the search_path says where it is.
func quotedTable(schema, table string) string {
	if schema == "" {
		return pgx.Identifier{table}.Sanitize()
	}
	return pgx.Identifier{schema, table}.Sanitize()
}

// checkPrefix tells why prefix cannot begin the names of channels.
func checkPrefix(prefix string) error {
	if len(prefix) > maxPrefixBytes {
		return fmt.Errorf("%w: %q has more than %d bytes", errPrefix, prefix, maxPrefixBytes)
	}
	return nil
}
