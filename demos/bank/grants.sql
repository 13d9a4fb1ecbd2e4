-- Roles and exact privileges, on either side: run it as a superuser in the database, on the source
-- after source.sql, on a shard before pgportage lays down target.sql. No role here is a superuser.
-- Can be run again. (A role belongs to the whole server, hence the questions before CREATE ROLE.)

DO $$
BEGIN
    IF to_regrole('bank_owner') IS NULL THEN
        CREATE ROLE bank_owner NOLOGIN;
    END IF;
    IF to_regrole('bank') IS NULL THEN
        CREATE ROLE bank LOGIN;
    END IF;
    IF to_regrole('portage') IS NULL THEN
        CREATE ROLE portage LOGIN REPLICATION;
    END IF;
END $$;

-- Both sides: the schema portage, the publication, the state of other sessions.
DO $$
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO portage', current_database());
END $$;
GRANT pg_read_all_stats TO portage;

-- The source: what is there belongs to bank_owner. Membership in the owner is what a publication,
-- a trigger and a dropped foreign key need; the rest is for the copy and for the way back.
DO $$
DECLARE
    object record;
BEGIN
    IF to_regclass('public.customers') IS NULL THEN
        RETURN;
    END IF;
    FOR object IN
        SELECT 'TABLE ' || c.oid::regclass AS name FROM pg_class c
        WHERE c.relnamespace IN ('public'::regnamespace, 'ref'::regnamespace)
          AND c.relkind IN ('r', 'p')
        UNION ALL
        SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN ' ELSE 'TYPE ' END || t.oid::regtype
        FROM pg_type t
        WHERE t.typnamespace IN ('public'::regnamespace, 'ref'::regnamespace)
          AND (t.typtype IN ('d', 'e')
               OR t.typrelid IN (SELECT oid FROM pg_class WHERE relkind = 'c'))
        UNION ALL
        SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace IN ('public'::regnamespace, 'ref'::regnamespace)
    LOOP
        EXECUTE 'ALTER ' || object.name || ' OWNER TO bank_owner';
    END LOOP;
    ALTER SCHEMA ref OWNER TO bank_owner;
    GRANT USAGE, CREATE ON SCHEMA public TO bank_owner;
    GRANT bank_owner TO portage;

    GRANT USAGE ON SCHEMA public, ref TO bank, portage;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public, ref TO portage;
    GRANT SELECT, UPDATE, USAGE ON ALL SEQUENCES IN SCHEMA public TO portage;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO bank;
    GRANT SELECT ON ALL TABLES IN SCHEMA ref TO bank;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO bank;
END $$;

-- A shard: pgportage lays down the schema and owns it. From 15 on the right to apply without firing
-- triggers can be granted; bank gets its privileges at the end of target.sql.
DO $$
BEGIN
    IF to_regclass('public.customers') IS NULL THEN
        GRANT USAGE, CREATE ON SCHEMA public TO portage;
        IF current_setting('server_version_num')::integer >= 150000 THEN
            EXECUTE 'GRANT SET ON PARAMETER session_replication_role TO portage';
        END IF;
    END IF;
END $$;
