-- sio_emit sends an event to the clients of a Socket.IO cluster from SQL: from a trigger, a function, psql. The servers are
-- those with the PostgreSQL adapter, Patchbay's or @socket.io/postgres-adapter 0.4 or newer, on this database.
--
--   SELECT sio_emit('/orders', ARRAY['shop 7'], 'order', jsonb_build_object('id', 12));
--   SELECT sio_emit('/', NULL, 'news', '["two", "arguments"]', except_rooms => '{muted}');
--
-- namespace       "/" is put before a name without it.
-- rooms           NULL: all sockets of the namespace. Else those in any of the rooms; of an empty array there are none.
-- event           Its name.
-- args            An array is the arguments. Anything else is one argument. NULL is none. (One array: '[[1, 2]]'.)
-- except_rooms    Sockets in any of these do not get it.
-- channel_prefix  As the servers have it.
-- attachments     The servers' table, through which messages go that NOTIFY does not take (8000 bytes and more).
--
-- Nothing is sent before the transaction commits, nor if it does not. It should do so within the servers' retention (60 s), or the
-- messages that go through the table are deleted before they are read. Who calls needs INSERT on the table and USAGE on its
-- sequence if messages may be that long. This file may be run again at any time. PostgreSQL 11 or newer.

DO $$
BEGIN
	IF to_regclass('socket_io_attachments') IS NULL THEN
		CREATE TABLE socket_io_attachments (
			id         bigserial UNIQUE,
			created_at timestamptz DEFAULT NOW(),
			payload    bytea
		);
	END IF;
EXCEPTION WHEN unique_violation OR duplicate_table THEN
	NULL; -- a server has created it at this moment
END
$$;

-- sio_msgpack_head returns the head of text, an array or a map of n bytes or elements.
CREATE OR REPLACE FUNCTION sio_msgpack_head(n bigint, fix int, fix_end int, code8 int, code16 int, code32 int) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT CASE
		WHEN n < fix_end THEN substring(int8send(fix + n), 8)
		WHEN n < 256 AND code8 IS NOT NULL THEN substring(int8send((code8::bigint << 8) + n), 7)
		WHEN n < 65536 THEN substring(int8send((code16::bigint << 16) + n), 6)
		ELSE substring(int8send((code32::bigint << 32) + n), 4)
	END
$$;

-- sio_msgpack_text returns text as MessagePack.
CREATE OR REPLACE FUNCTION sio_msgpack_text(content text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
	bytes bytea := convert_to(content, 'UTF8');
BEGIN
	RETURN sio_msgpack_head(octet_length(bytes), 160, 32, 217, 218, 219) || bytes;
END
$$;

-- sio_msgpack_number returns a number as MessagePack: whole ones as integers as far as 64 bits reach, all others as float64.
CREATE OR REPLACE FUNCTION sio_msgpack_number(n numeric) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
	i bigint;
BEGIN
	IF n BETWEEN -9223372036854775808 AND 9223372036854775807 AND n = trunc(n) THEN
		i := n;
		RETURN CASE
			WHEN i BETWEEN -32 AND 127 THEN substring(int8send(i), 8)
			WHEN i BETWEEN 0 AND 255 THEN '\xcc'::bytea || substring(int8send(i), 8)
			WHEN i BETWEEN 0 AND 65535 THEN '\xcd'::bytea || substring(int8send(i), 7)
			WHEN i BETWEEN 0 AND 4294967295 THEN '\xce'::bytea || substring(int8send(i), 5)
			WHEN i >= 0 THEN '\xcf'::bytea || int8send(i)
			WHEN i >= -128 THEN '\xd0'::bytea || substring(int8send(i), 8)
			WHEN i >= -32768 THEN '\xd1'::bytea || substring(int8send(i), 7)
			WHEN i >= -2147483648 THEN '\xd2'::bytea || substring(int8send(i), 5)
			ELSE '\xd3'::bytea || int8send(i)
		END;
	ELSIF n BETWEEN 9223372036854775808 AND 18446744073709551615 AND n = trunc(n) THEN
		RETURN '\xcf'::bytea || int8send((n - 18446744073709551616)::bigint);
	END IF;
	-- What a float64 cannot hold is infinite, or zero, as for JSON.parse. The cast would raise an error.
	RETURN '\xcb'::bytea || float8send(CASE
		WHEN abs(n) >= 1.797693134862315808e308 THEN sign(n)::float8 * 'Infinity'::float8
		WHEN abs(n) <= 2.4703282292062328e-324 THEN 0
		ELSE n::float8
	END);
END
$$;

-- sio_msgpack returns a value as MessagePack. depth is how many it is in.
CREATE OR REPLACE FUNCTION sio_msgpack(value jsonb, depth int DEFAULT 0) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
	kind   text := jsonb_typeof(value);
	length bigint;
	body   bytea;
BEGIN
	CASE kind
	WHEN 'string' THEN
		RETURN sio_msgpack_text(value #>> '{}');
	WHEN 'number' THEN
		RETURN sio_msgpack_number(value::numeric);
	WHEN 'boolean' THEN
		RETURN CASE WHEN value::boolean THEN '\xc3'::bytea ELSE '\xc2'::bytea END;
	WHEN 'null' THEN
		RETURN '\xc0'::bytea;
	ELSE
		IF depth > 200 THEN
			RAISE EXCEPTION 'sio_emit: args are nested too deep' USING ERRCODE = 'program_limit_exceeded';
		END IF;
	END CASE;
	IF kind = 'array' THEN
		SELECT count(*), string_agg(sio_msgpack(element, depth + 1), '') INTO length, body
		FROM jsonb_array_elements(value) AS element;
		RETURN sio_msgpack_head(length, 144, 16, NULL, 220, 221) || coalesce(body, '');
	END IF;
	SELECT count(*), string_agg(sio_msgpack_text(member.key) || sio_msgpack(member.value, depth + 1), '') INTO length, body
	FROM jsonb_each(value) AS member;
	RETURN sio_msgpack_head(length, 128, 16, NULL, 222, 223) || coalesce(body, '');
END
$$;

-- Its functions and the table are found wherever the caller has its search_path.
CREATE OR REPLACE FUNCTION sio_emit(
	namespace      text,
	rooms          text[],
	event          text,
	args           jsonb,
	except_rooms   text[]   DEFAULT '{}',
	channel_prefix text     DEFAULT 'socket.io',
	attachments    regclass DEFAULT 'socket_io_attachments'
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
	channel  text;
	length   int;
	number   int;
	data     jsonb;
	target   jsonb;
	excluded jsonb;
	payload  text;
	row_id   bigint;
	contents bytea;
BEGIN
	IF namespace IS NULL OR event IS NULL OR channel_prefix IS NULL OR attachments IS NULL THEN
		RAISE EXCEPTION 'sio_emit: % must not be NULL', CASE
			WHEN namespace IS NULL THEN 'namespace' WHEN event IS NULL THEN 'event'
			WHEN channel_prefix IS NULL THEN 'channel_prefix' ELSE 'attachments' END
			USING ERRCODE = 'null_value_not_allowed';
	ELSIF event IN ('connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener') THEN
		RAISE EXCEPTION 'sio_emit: event name "%" is reserved', event USING ERRCODE = 'invalid_parameter_value';
	ELSIF array_position(rooms, NULL) IS NOT NULL OR array_position(except_rooms, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'sio_emit: the name of a room must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	ELSIF octet_length(convert_to(channel_prefix, 'UTF8')) > 39 THEN
		RAISE EXCEPTION 'sio_emit: channel_prefix is longer than 39 bytes: "%"', channel_prefix
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF cardinality(rooms) = 0 THEN
		RETURN;
	END IF;

	IF namespace NOT LIKE '/%' THEN
		namespace := '/' || namespace;
	END IF;
	channel := channel_prefix || '#' || namespace;
	IF octet_length(convert_to(channel, 'UTF8')) > 63 THEN -- which PostgreSQL does not take; the servers do the same
		channel := channel_prefix || '#~' || translate(
			encode(substring(sha256(convert_to(namespace, 'UTF8')), 1, 16), 'base64'), '+/=', '-_');
	END IF;

	data := jsonb_build_array(event) || CASE
		WHEN args IS NULL THEN '[]'::jsonb
		WHEN jsonb_typeof(args) = 'array' THEN args
		ELSE jsonb_build_array(args)
	END;
	target := coalesce(to_jsonb(rooms), '[]');
	excluded := coalesce(to_jsonb(except_rooms), '[]');
	payload := '{"type":3,"data":{"packet":{"type":2,"data":' || data::text || '},"opts":{"rooms":' || target::text
		|| ',"except":' || excluded::text || ',"flags":{}}},"uid":"emitter","nsp":' || to_json(namespace)::text || '}';

	-- jsonb has a blank behind each comma and colon, a third of the text at most. They go only where there is no room for them.
	length := octet_length(convert_to(payload, 'UTF8'));
	IF length < 12000 THEN
		IF length > 7900 THEN
			payload := regexp_replace(payload, '("(?:[^"\\]|\\.)*")| ', '\1', 'g');
		END IF;
		-- PostgreSQL makes one of equal notifications in a transaction: the white space at the end is the number of this one.
		number := coalesce(nullif(current_setting('patchbay.sent', true), ''), '-1')::int + 1;
		PERFORM set_config('patchbay.sent', number::text, true);
		payload := payload || translate(ltrim(number::bit(32)::text, '0'), '01', E' \t');
		IF octet_length(convert_to(payload, 'UTF8')) < 8000 THEN
			IF length(payload) - length(translate(payload, '[{', '')) > 200 THEN
				PERFORM sio_msgpack(data, 3); -- which looks at the depth
			END IF;
			PERFORM pg_notify(channel, payload);
			RETURN;
		END IF;
	END IF;

	contents := sio_msgpack(jsonb_build_object(
		'type', 3, 'uid', 'emitter', 'nsp', namespace,
		'data', jsonb_build_object(
			'packet', jsonb_build_object('type', 2, 'data', data),
			'opts', jsonb_build_object('rooms', target, 'except', excluded, 'flags', '{}'::jsonb))));
	IF octet_length(contents) > 33554432 THEN
		RAISE EXCEPTION 'sio_emit: message of % bytes is too long: servers read up to 33554432', octet_length(contents)
			USING ERRCODE = 'program_limit_exceeded';
	END IF;
	-- The servers delete what is old. The transaction may have begun long ago.
	EXECUTE format('INSERT INTO %s (created_at, payload) VALUES (clock_timestamp(), $1) RETURNING id', attachments) INTO row_id USING contents;
	PERFORM pg_notify(channel, '{"uid":"emitter","type":3,"attachmentId":"' || row_id || '"}');
END
$$;
