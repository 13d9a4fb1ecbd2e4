/*
 * The statements of the gate, together where one can read them. Only for gate.c, gate_lay.c.
 *
 * DO takes no parameters, so they have blanks, {epoch}, which gate_fill() fills. @deadline@ is filled by
 * the server, whose clock it is.
 */
#ifndef SWITCHOVER_GATE_SQL_H
#define SWITCHOVER_GATE_SQL_H

#include "util/buffer.h"

/* Body of the function. Whatever the session's search_path says, nothing of the user's is called. What it
 * rejects it counts: a sequence is not rolled back with the statement. By its number, because who is
 * rejected may not look into our schema; and where it cannot be counted it is rejected all the same. */
#define GATE_BODY_OPEN "BEGIN RETURN NULL; END"
#define GATE_BODY_CLOSED                                                                           \
    "BEGIN"                                                                                        \
    " IF COALESCE(pg_catalog.current_setting(''portage.pass'', true), '''')"                       \
    "    OPERATOR(pg_catalog.=) ''on''"                                                            \
    "    OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>=)"                                  \
    "       ''@deadline@''::pg_catalog.timestamptz THEN RETURN NULL; END IF;"                      \
    " BEGIN PERFORM pg_catalog.nextval(''@rejected@''::pg_catalog.regclass);"                      \
    " EXCEPTION WHEN OTHERS THEN NULL; END;"                                                       \
    " RAISE EXCEPTION USING ERRCODE = ''57P06'', MESSAGE = pg_catalog.format("                     \
    "''table %I.%I takes no writes here'', TG_TABLE_SCHEMA, TG_TABLE_NAME),"                       \
    " DETAIL = ''{detail}'', HINT = ''{hint}''; END"

/* Expressions of the statement that makes the function; `deadline` is one of type timestamptz. */
#define GATE_FUNCTION(body)                                                                        \
    "'CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $gate$" body "$gate$'"
#define GATE_MAKE_OPEN GATE_FUNCTION(GATE_BODY_OPEN)
#define GATE_MAKE_CLOSED(deadline)                                                                 \
    "pg_catalog.replace(pg_catalog.replace(" GATE_FUNCTION(GATE_BODY_CLOSED)                       \
    ", '@deadline@', (" deadline ")::text), '@rejected@',"                                         \
    "  COALESCE(pg_catalog.to_regclass('{name}_rejected')::oid, 0)::text)"

/* Which relations are behind the gate; $1: a JSON array of tables. A statement on a parent by
 * inheritance writes to its children without their triggers, so ancestors are behind it too. */
#define GATE_RELATIONS(tables)                                                                     \
    "root AS (SELECT pg_catalog.to_regclass(n)::oid AS oid"                                        \
    "           FROM pg_catalog.json_array_elements_text(" tables "::json) AS n),"                 \
    " down AS (SELECT oid FROM root"                                                               \
    "   UNION SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i"                           \
    "                             ON i.inhparent = down.oid),"                                     \
    " up AS (SELECT oid FROM down"                                                                 \
    "   UNION SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid),"   \
    " relation AS ("                                                                               \
    "  SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relnatts,"        \
    "         c.relreplident, c.relfilenode,"                                                      \
    "         g.tgname IS NOT NULL AS has_trigger,"                                                \
    "         g.tgname IS NOT NULL AND g.tgenabled = 'A' AS gated"                                 \
    "    FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid AND c.relkind IN ('r', 'p')"         \
    "    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                                 \
    "    LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid AND g.tgname = 'portage_gate')"

/* Of the table {table}. */
#define GATE_CREATE_TRIGGER                                                                        \
    "CREATE TRIGGER portage_gate BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"         \
    " FOR EACH STATEMENT EXECUTE FUNCTION {name}();"
#define GATE_ENABLE_TRIGGER "ALTER TABLE {table} ENABLE ALWAYS TRIGGER portage_gate;"

struct gate_blank {
    const char *name;  /* "{epoch}" */
    const char *value; /* NULL name ends the array */
};

/* Appends the text with its blanks filled. One that is not in the array stays as it is. */
void gate_fill(struct buffer *sql, const char *text, const struct gate_blank *blanks);

#endif
