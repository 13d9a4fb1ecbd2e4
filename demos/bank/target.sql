-- The bank as it is to be: PostgreSQL 15, this schema on every shard. 17 of the 41 tables of
-- source.sql have another structure here (README.md); the rest is the same. Keys that held across
-- customers, who now live on different shards, are gone. The partitions by month are not here:
-- pgportage makes those that the data needs, and the months to come.

CREATE SCHEMA ref;

CREATE TYPE public.account_status AS ENUM ('open', 'frozen', 'closed');
CREATE TYPE public.card_status AS ENUM ('ordered', 'active', 'blocked', 'expired');
CREATE TYPE public.dispute_state AS ENUM ('opened', 'evidence', 'won', 'lost');
CREATE TYPE public.address_kind AS ENUM ('home', 'work', 'billing');
CREATE TYPE public.holder_role AS ENUM ('owner', 'joint', 'proxy');
CREATE TYPE public.notice_channel AS ENUM ('push', 'sms', 'e-mail');
CREATE TYPE ref.postal_address AS (street text, city text, postal_code text, country character(2));

CREATE DOMAIN public.iban AS text CHECK (VALUE ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{8,30}$');
CREATE DOMAIN public.email AS text CHECK (VALUE LIKE '_%@_%');
CREATE DOMAIN public.amount AS numeric(18, 2);
CREATE DOMAIN public.positive_amount AS public.amount CHECK (VALUE > 0);

-- Reference tables: small, the same on every shard.

CREATE TABLE ref.countries (
    code character(2) PRIMARY KEY,
    name text NOT NULL,
    eu boolean NOT NULL DEFAULT false
);

CREATE TABLE ref.currencies (
    code character(3) PRIMARY KEY,
    name text NOT NULL,
    exponent smallint NOT NULL DEFAULT 2
);

CREATE TABLE ref.branches (
    id integer PRIMARY KEY,
    parent_id integer REFERENCES ref.branches (id),
    name text NOT NULL,
    address ref.postal_address,
    opening_hours int4range,
    location point
);

CREATE TABLE ref.products (
    code text PRIMARY KEY,
    name text NOT NULL,
    features text[] NOT NULL DEFAULT '{}',
    terms jsonb NOT NULL
);

CREATE TABLE ref.fee_schedules (
    product text NOT NULL REFERENCES ref.products (code),
    valid_from date NOT NULL,
    basis_points integer NOT NULL,
    minimum_cents bigint,
    PRIMARY KEY (product, valid_from)
);

-- Rates without a scale; NaN stands for days without trade.
CREATE TABLE ref.exchange_rates (
    base character(3) NOT NULL REFERENCES ref.currencies (code),
    quote character(3) NOT NULL REFERENCES ref.currencies (code),
    day date NOT NULL,
    rate numeric NOT NULL,
    PRIMARY KEY (base, quote, day)
);

CREATE TABLE ref.holidays (
    country character(2) NOT NULL REFERENCES ref.countries (code),
    day date NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (country, day)
);

CREATE TABLE ref.merchant_categories (
    mcc character(4) PRIMARY KEY,
    name text NOT NULL,
    risk real NOT NULL DEFAULT 0
);

CREATE TABLE ref."Settings" (
    "Key" text PRIMARY KEY,
    "Value" text,
    "ChangedAt" timestamp with time zone NOT NULL DEFAULT now()
);

-- Customers.

CREATE TABLE public.users (
    id bigint PRIMARY KEY,
    display_name text NOT NULL,
    born_on date,
    country character(2) NOT NULL REFERENCES ref.countries (code),
    attributes jsonb NOT NULL DEFAULT '{}',
    origin text NOT NULL DEFAULT 'shard',
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE INDEX users_name ON public.users (lower(display_name));
CREATE INDEX users_segment ON public.users ((attributes ->> 'segment'));

CREATE TABLE public.customer_addresses (
    customer_id integer NOT NULL REFERENCES public.users (id),
    kind public.address_kind NOT NULL,
    no smallint NOT NULL,
    address ref.postal_address NOT NULL,
    valid daterange,
    PRIMARY KEY (customer_id, kind, no)
);

-- E-mail addresses and phone numbers, which were two tables.
CREATE TABLE public.contacts (
    user_id bigint NOT NULL REFERENCES public.users (id),
    kind text NOT NULL CHECK (kind IN ('e-mail', 'phone')),
    value text NOT NULL,
    verified_at timestamp with time zone,
    is_primary boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, kind, value)
);
CREATE INDEX contacts_value ON public.contacts (value);

-- What was one table, with profile_preferences.
CREATE TABLE public.profiles (
    user_id bigint PRIMARY KEY REFERENCES public.users (id),
    occupation text,
    employer text,
    income_cents bigint,
    risk_score double precision,
    updated_at timestamp with time zone NOT NULL DEFAULT now()
);

CREATE TABLE public.profile_preferences (
    user_id bigint PRIMARY KEY REFERENCES public.users (id),
    language character(2) NOT NULL DEFAULT 'en',
    marketing_opt_in boolean NOT NULL DEFAULT false,
    preferences jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX profile_preferences_marketing ON public.profile_preferences (user_id)
    WHERE marketing_opt_in;

CREATE TABLE public.referrals (
    customer_id bigint PRIMARY KEY REFERENCES public.users (id),
    referred_by bigint,
    code text NOT NULL,
    bonus public.amount
);
CREATE INDEX referrals_by ON public.referrals (referred_by);

-- Accounts and money.

CREATE TABLE public.accounts (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES public.users (id),
    parent_id bigint REFERENCES public.accounts (id),
    iban public.iban NOT NULL,
    currency character(3) NOT NULL REFERENCES ref.currencies (code),
    status public.account_status NOT NULL DEFAULT 'open',
    opening_cents bigint NOT NULL DEFAULT 0,
    balance_cents bigint NOT NULL DEFAULT 0,
    opened_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE INDEX accounts_user ON public.accounts (user_id);
CREATE INDEX accounts_iban ON public.accounts (iban);

CREATE TABLE public.account_holders (
    account_id bigint NOT NULL,
    customer_id bigint NOT NULL REFERENCES public.users (id),
    role public.holder_role NOT NULL,
    since date NOT NULL DEFAULT current_date,
    PRIMARY KEY (account_id, customer_id)
);

CREATE TABLE public.account_limits (
    account_id bigint PRIMARY KEY REFERENCES public.accounts (id),
    customer_id bigint NOT NULL,
    daily public.positive_amount,
    monthly public.positive_amount,
    blocked_countries character(2)[] NOT NULL DEFAULT '{}'
);

CREATE TABLE public.transactions (
    id bigserial,
    user_id bigint NOT NULL REFERENCES public.users (id),
    account_id bigint NOT NULL REFERENCES public.accounts (id),
    counterparty_id bigint,
    amount_cents bigint NOT NULL,
    currency character(3) NOT NULL REFERENCES ref.currencies (code),
    status text NOT NULL DEFAULT 'pending settlement'
        CHECK (status IN ('pending settlement', 'settled', 'rejected', 'reversed')),
    reference text,
    metadata jsonb,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX transactions_user ON public.transactions (user_id, created_at DESC);
CREATE INDEX transactions_pending ON public.transactions (user_id, id)
    WHERE status = 'pending settlement';

CREATE TABLE public.ledger_entries (
    transaction_id bigint NOT NULL,
    entry_no smallint NOT NULL,
    user_id bigint NOT NULL,
    account_id bigint NOT NULL REFERENCES public.accounts (id),
    amount_cents bigint NOT NULL,
    imported boolean NOT NULL DEFAULT false,
    posted_at timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (transaction_id, entry_no, posted_at)
) PARTITION BY RANGE (posted_at);
CREATE INDEX ledger_entries_account ON public.ledger_entries (account_id, posted_at);

CREATE TABLE public.transaction_holds (
    id uuid PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.users (id),
    account_id bigint NOT NULL,
    held public.positive_amount NOT NULL,
    mcc character(4) REFERENCES ref.merchant_categories (mcc),
    expires_at timestamp with time zone NOT NULL DEFAULT 'infinity'
);
CREATE INDEX transaction_holds_customer ON public.transaction_holds (customer_id);

CREATE TABLE public.standing_orders (
    customer_id bigint NOT NULL REFERENCES public.users (id),
    no integer NOT NULL,
    to_iban public.iban NOT NULL,
    amount public.positive_amount NOT NULL,
    every interval NOT NULL,
    run_days integer[] NOT NULL DEFAULT '{}',
    next_run timestamp without time zone,
    PRIMARY KEY (customer_id, no)
);

-- Two rows swap their positions in one transaction: the constraint is deferred.
CREATE TABLE public.beneficiaries (
    customer_id bigint NOT NULL REFERENCES public.users (id),
    id integer NOT NULL,
    position integer NOT NULL,
    name text NOT NULL,
    iban public.iban NOT NULL,
    active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (customer_id, id),
    CONSTRAINT beneficiaries_position UNIQUE (customer_id, position)
        DEFERRABLE INITIALLY DEFERRED
);
CREATE UNIQUE INDEX beneficiaries_iban ON public.beneficiaries (customer_id, iban) WHERE active;

CREATE TABLE public.savings_goals (
    customer_id bigint NOT NULL REFERENCES public.users (id),
    goal_no integer GENERATED BY DEFAULT AS IDENTITY,
    name text NOT NULL,
    target public.positive_amount NOT NULL,
    saved public.amount NOT NULL DEFAULT 0,
    progress numeric GENERATED ALWAYS AS (round(saved / target, 4)) STORED,
    expected_return double precision,
    PRIMARY KEY (customer_id, goal_no)
);

CREATE TABLE public.statements (
    account_id bigint NOT NULL,
    month date NOT NULL,
    customer_id bigint NOT NULL REFERENCES public.users (id),
    closing public.amount NOT NULL,
    document bytea,
    PRIMARY KEY (account_id, month)
);

-- Cards.

CREATE TABLE public.cards (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES public.users (id),
    account_id bigint NOT NULL REFERENCES public.accounts (id),
    pan_hash bytea NOT NULL,
    last4 character(4) NOT NULL,
    expires_on date NOT NULL,
    status public.card_status NOT NULL DEFAULT 'ordered',
    credit_limit_cents bigint
);
CREATE UNIQUE INDEX cards_pan ON public.cards (pan_hash);
CREATE INDEX cards_expiring ON public.cards (expires_on) WHERE status = 'active';

CREATE TABLE public."CardTokens" (
    "TokenId" uuid PRIMARY KEY,
    "CustomerId" bigint NOT NULL REFERENCES public.users (id),
    "card id" bigint NOT NULL REFERENCES public.cards (id),
    "Wallet" text NOT NULL,
    "select" text,
    "é""quoted" text
);

-- Disputes, support, credit.

CREATE TABLE public.disputes (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES public.users (id),
    transaction_id bigint NOT NULL,
    reopened_from bigint REFERENCES public.disputes (id),
    status public.dispute_state NOT NULL DEFAULT 'opened',
    claimed_cents bigint NOT NULL,
    evidence text[] NOT NULL DEFAULT '{}',
    opened_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE INDEX disputes_open ON public.disputes (opened_at) WHERE status IN ('opened', 'evidence');

CREATE TABLE public.dispute_messages (
    dispute_id integer NOT NULL REFERENCES public.disputes (id),
    no smallint NOT NULL,
    customer_id bigint NOT NULL,
    author text NOT NULL,
    body text NOT NULL,
    written_at timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (dispute_id, no)
);

CREATE TABLE public.support_tickets (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES public.users (id),
    subject text NOT NULL,
    tags text[] NOT NULL,
    body text,
    closed boolean NOT NULL DEFAULT false,
    created_at timestamp without time zone NOT NULL DEFAULT now()
);
CREATE INDEX support_tickets_tags ON public.support_tickets USING gin (tags);

CREATE TABLE public.loans (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES public.users (id),
    refinanced_from bigint REFERENCES public.loans (id),
    principal_cents bigint NOT NULL,
    rate numeric(9, 6) NOT NULL,
    started_on date NOT NULL,
    terms jsonb NOT NULL
);

-- A payment that is put off moves to another partition.
CREATE TABLE public.loan_payments (
    loan_id bigint NOT NULL REFERENCES public.loans (id),
    no integer NOT NULL,
    user_id bigint NOT NULL,
    due_on date NOT NULL,
    amount_cents bigint NOT NULL,
    paid_at timestamp with time zone,
    PRIMARY KEY (loan_id, no, due_on)
) PARTITION BY RANGE (due_on);
CREATE INDEX loan_payments_user ON public.loan_payments (user_id, due_on);

-- Know your customer. The content is not compressed: megabytes stay megabytes.

CREATE TABLE public.kyc_documents (
    user_id bigint NOT NULL REFERENCES public.users (id),
    no integer NOT NULL,
    title text NOT NULL,
    content bytea NOT NULL,
    ocr jsonb,
    reviewed boolean NOT NULL DEFAULT false,
    uploaded_at timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, no)
);
ALTER TABLE public.kyc_documents ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE public.kyc_checks (
    id uuid PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES public.users (id),
    provider text NOT NULL,
    result jsonb NOT NULL,
    score numeric(5, 4),
    checked_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE INDEX kyc_checks_user ON public.kyc_checks (user_id);
CREATE INDEX kyc_checks_result ON public.kyc_checks USING gin (result jsonb_path_ops);

-- What happened.

CREATE TABLE public.audit_log (
    user_id bigint NOT NULL,
    id bigserial,
    at timestamp with time zone NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    details jsonb,
    PRIMARY KEY (user_id, id, at)
) PARTITION BY RANGE (at);
CREATE INDEX audit_log_at ON public.audit_log USING brin (at);

-- No key at all.
CREATE TABLE public.login_events (
    customer_id bigint NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT now(),
    address inet,
    agent text,
    ok boolean
);
CREATE INDEX login_events_customer ON public.login_events (customer_id, at);
ALTER TABLE public.login_events REPLICA IDENTITY FULL;

-- The token, which is the key, changes with each rotation.
CREATE TABLE public.sessions (
    token text COLLATE "C" PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.users (id),
    rotations integer NOT NULL DEFAULT 0,
    seen_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX sessions_customer ON public.sessions (customer_id, token);

CREATE TABLE public.devices (
    id uuid PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.users (id),
    name text,
    mac macaddr,
    moves integer NOT NULL DEFAULT 0
);

CREATE TABLE public.notifications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    campaign text,
    payload jsonb NOT NULL DEFAULT '{}',
    created_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX notifications_placement ON public.notifications (customer_id, id);
CREATE INDEX notifications_campaign ON public.notifications (campaign)
    WHERE campaign IS NOT NULL;

CREATE TABLE public.notification_preferences (
    customer_id bigint PRIMARY KEY REFERENCES public.users (id),
    channels public.notice_channel[] NOT NULL DEFAULT '{}',
    quiet_hours int4range,
    muted bit varying(16)
);

-- Every request of a client, in the transaction that did what was asked: the client's proof.
CREATE TABLE public.api_requests (
    client_id integer NOT NULL,
    seq bigint NOT NULL,
    customer_id bigint NOT NULL,
    kind text NOT NULL,
    touched bigint[] NOT NULL DEFAULT '{}',
    note text,
    at timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, seq)
);

-- Triggers.

CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE UPDATE ON public.accounts
    FOR EACH ROW EXECUTE FUNCTION public.touch();
CREATE TRIGGER touch BEFORE UPDATE ON public.transactions
    FOR EACH ROW EXECUTE FUNCTION public.touch();
CREATE TRIGGER touch BEFORE UPDATE ON public.profiles
    FOR EACH ROW EXECUTE FUNCTION public.touch();

-- If this fired again where the change is applied, its rows would be there twice.
CREATE FUNCTION public.audit_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit_log (user_id, actor, action, details)
    VALUES (NEW.user_id, session_user, 'account ' || NEW.status::text,
            jsonb_build_object('account', NEW.id, 'was', OLD.status));
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE OF status ON public.accounts
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION public.audit_account();

-- What the application calls. Each returns the number of rows it changed. `client` and `seq` are
-- the request: its row in api_requests makes a second execution fail.

CREATE FUNCTION public.bank_note(client integer, seq bigint, customer bigint, kind text,
                                 touched bigint[] DEFAULT '{}', note text DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO public.api_requests (client_id, seq, customer_id, kind, touched, note)
    VALUES (client, seq, customer, kind, touched, note);
$$;

-- Who changes several rows of a customer comes here first, or two of them could deadlock.
CREATE FUNCTION public.bank_lock(customer bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM public.users WHERE id = customer FOR NO KEY UPDATE;
END $$;

CREATE FUNCTION public.bank_customers() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(id), 0)::bigint FROM public.users WHERE id < 100000000;
$$;

CREATE FUNCTION public.bank_last(client integer) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(seq), 0) FROM public.api_requests WHERE client_id = client;
$$;

CREATE FUNCTION public.bank_post(account bigint, cents bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.accounts SET balance_cents = balance_cents + cents WHERE id = account;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account % is not here', account;
    END IF;
END $$;

CREATE FUNCTION public.bank_transfer(client integer, seq bigint, payer bigint, payer_account bigint,
                                     payee bigint, payee_account bigint, cents bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    tx bigint;
BEGIN
    INSERT INTO public.transactions (user_id, account_id, counterparty_id, amount_cents, currency,
                                     reference, metadata)
    VALUES (payer, payer_account, payee_account, cents, 'EUR', client || '-' || seq,
            jsonb_build_object('client', client, 'seq', seq))
    RETURNING id INTO tx;
    INSERT INTO public.ledger_entries (transaction_id, entry_no, user_id, account_id, amount_cents)
    VALUES (tx, 1, payer, payer_account, -cents),
           (tx, 2, payee, payee_account, cents);
    -- Always the smaller account first: two transfers that cross do not deadlock.
    IF payer_account < payee_account THEN
        PERFORM public.bank_post(payer_account, -cents);
        PERFORM public.bank_post(payee_account, cents);
    ELSE
        PERFORM public.bank_post(payee_account, cents);
        PERFORM public.bank_post(payer_account, -cents);
    END IF;
    PERFORM public.bank_note(client, seq, payer, 'transfer', ARRAY[tx]);
    RETURN 6;
END $$;

CREATE FUNCTION public.bank_settle(client integer, seq bigint, customer bigint, most integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    settled bigint[];
BEGIN
    WITH due AS (
        SELECT id, created_at FROM public.transactions
        WHERE user_id = customer AND status = 'pending settlement'
        ORDER BY id LIMIT most FOR UPDATE SKIP LOCKED
    ), done AS (
        UPDATE public.transactions t SET status = 'settled' FROM due
        WHERE t.id = due.id AND t.created_at = due.created_at
        RETURNING t.id
    )
    SELECT coalesce(array_agg(id), '{}') INTO settled FROM done;
    PERFORM public.bank_note(client, seq, customer, 'settle', settled);
    RETURN 1 + cardinality(settled);
END $$;

CREATE FUNCTION public.bank_append(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit_log (user_id, actor, action, details)
    VALUES (customer, 'client ' || client, 'append',
            jsonb_build_object('seq', seq, 'text', E'tab\t, "quote", \\ and \\N'));
    INSERT INTO public.notifications (customer_id, payload)
    VALUES (customer, jsonb_build_object('client', client, 'seq', seq));
    INSERT INTO public.login_events (customer_id, at, address, agent, ok)
    VALUES (customer, clock_timestamp(), '192.0.2.0'::inet + (seq % 250), 'client ' || client,
            nullif(seq % 3, 0) = 1);
    PERFORM public.bank_note(client, seq, customer, 'append');
    RETURN 4;
END $$;

CREATE FUNCTION public.bank_rotate(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.sessions
    SET token = customer || '.' || client || '.' || seq, rotations = rotations + 1, seen_at = now()
    WHERE customer_id = customer;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the session of customer % is not here', customer;
    END IF;
    PERFORM public.bank_note(client, seq, customer, 'rotate');
    RETURN 2;
END $$;

CREATE FUNCTION public.bank_hold(client integer, seq bigint, customer bigint, account bigint,
                                 cents bigint)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.transaction_holds (id, customer_id, account_id, held)
    VALUES (md5(client || '-' || seq)::uuid, customer, account, cents / 100.0);
    PERFORM public.bank_note(client, seq, customer, 'hold');
    RETURN 2;
END $$;

CREATE FUNCTION public.bank_purge(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    purged bigint[];
    holds integer;
    logins integer;
BEGIN
    WITH old AS (
        SELECT id FROM public.notifications WHERE customer_id = customer AND campaign IS NULL
        ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM public.notifications n USING old WHERE n.id = old.id RETURNING n.id
    )
    SELECT coalesce(array_agg(id), '{}') INTO purged FROM gone;
    DELETE FROM public.transaction_holds WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM public.transaction_holds WHERE customer_id = customer
        ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS holds = ROW_COUNT;
    DELETE FROM public.login_events WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM public.login_events WHERE customer_id = customer
        ORDER BY at LIMIT 2 FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS logins = ROW_COUNT;
    PERFORM public.bank_note(client, seq, customer, 'purge', purged);
    RETURN 1 + cardinality(purged) + holds + logins;
END $$;

-- The content is made here: the bank's own network is not what is tested.
CREATE FUNCTION public.bank_upload(client integer, seq bigint, customer bigint, bytes integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    page bytea := decode(md5(client || '.' || seq), 'hex') || decode(md5(seq::text), 'hex');
BEGIN
    PERFORM public.bank_lock(customer);
    INSERT INTO public.kyc_documents (user_id, no, title, content, ocr)
    SELECT customer, coalesce(max(no), 0) + 1, 'upload ' || client || '-' || seq,
           decode(repeat(encode(page, 'hex'), bytes / 32), 'hex'),
           jsonb_build_object('pages', bytes / 32, 'text', repeat(md5(seq::text), bytes / 512))
    FROM public.kyc_documents WHERE user_id = customer;
    PERFORM public.bank_note(client, seq, customer, 'upload');
    RETURN 2;
END $$;

-- Leaves the large values as they are: the stream carries them as unchanged.
CREATE FUNCTION public.bank_review(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    PERFORM public.bank_lock(customer);
    UPDATE public.kyc_documents SET reviewed = NOT reviewed WHERE user_id = customer;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM public.bank_note(client, seq, customer, 'review');
    RETURN 1 + changed;
END $$;

CREATE FUNCTION public.bank_swap(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    PERFORM public.bank_lock(customer);
    UPDATE public.beneficiaries SET position = 3 - position
    WHERE customer_id = customer AND position IN (1, 2);
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM public.bank_note(client, seq, customer, 'swap');
    RETURN 1 + changed;
END $$;

-- Contact data, with a key change.
CREATE FUNCTION public.bank_profile(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    emails integer;
    phones integer;
BEGIN
    PERFORM public.bank_lock(customer);
    UPDATE public.profiles SET income_cents = coalesce(income_cents, 0) + 100
    WHERE user_id = customer;
    UPDATE public.profile_preferences
    SET preferences = jsonb_build_object('theme', 'dark', 'seq', seq)
    WHERE user_id = customer;
    DELETE FROM public.contacts
    WHERE user_id = customer AND kind = 'phone' AND value LIKE '+88%';
    GET DIAGNOSTICS phones = ROW_COUNT;
    INSERT INTO public.contacts (user_id, kind, value)
    VALUES (customer, 'phone', '+88' || client || '-' || seq);
    UPDATE public.contacts
    SET value = 'c' || customer || '.' || client || '.' || seq || '@example.org'
    WHERE user_id = customer AND kind = 'e-mail' AND is_primary;
    GET DIAGNOSTICS emails = ROW_COUNT;
    PERFORM public.bank_note(client, seq, customer, 'profile');
    RETURN 4 + phones + emails;
END $$;

CREATE FUNCTION public.bank_postpone(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    UPDATE public.loan_payments
    SET due_on = CASE WHEN no % 2 = 1 THEN due_on + 31 ELSE due_on - 31 END, no = no
    WHERE (loan_id, no) IN (SELECT loan_id, no FROM public.loan_payments
                            WHERE user_id = customer ORDER BY due_on LIMIT 1);
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM public.bank_note(client, seq, customer, 'postpone');
    RETURN 1 + changed;
END $$;

CREATE FUNCTION public.bank_block(client integer, seq bigint, customer bigint, account bigint)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.accounts
    SET status = CASE status WHEN 'open' THEN 'frozen' ELSE 'open' END::public.account_status
    WHERE id = account;
    UPDATE public.cards
    SET status = CASE status WHEN 'active' THEN 'blocked' ELSE 'active' END::public.card_status,
        expires_on = expires_on
            + make_interval(years => 1 - 2 * (extract(year FROM expires_on)::integer % 2))
    WHERE id = customer;
    PERFORM public.bank_note(client, seq, customer, 'block');
    RETURN 4;
END $$;

-- `seen_from` is the customer by whom the client chose the database; the receiver shares the shard.
-- Where the device is not in this database, nothing moves.
CREATE FUNCTION public.bank_move_device(client integer, seq bigint, seen_from bigint,
                                        device bigint, receiver bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    UPDATE public.devices SET customer_id = receiver, moves = moves + 1
    WHERE id = md5('device' || device)::uuid;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM public.bank_note(client, seq, seen_from, 'device', ARRAY[changed]::bigint[]);
    RETURN 1 + changed;
END $$;

CREATE FUNCTION public.bank_open(client integer, seq bigint, customer bigint)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.users (id, display_name, born_on, country, attributes)
    VALUES (customer, 'Näme ' || customer, '1990-01-01', 'DE', '{"segment": "new"}');
    INSERT INTO public.accounts (id, user_id, iban, currency)
    VALUES (customer, customer, 'DE00BANK' || lpad(customer::text, 10, '0'), 'EUR');
    INSERT INTO public.account_holders (account_id, customer_id, role)
    VALUES (customer, customer, 'owner');
    PERFORM public.bank_note(client, seq, customer, 'open');
    RETURN 4;
END $$;

-- The large transaction: `each` notifications for each of the customers, who share a shard.
CREATE FUNCTION public.bank_campaign(client integer, seq bigint, customers bigint[], each integer)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.notifications (customer_id, campaign, payload)
    SELECT c, client || '-' || seq, jsonb_build_object('offer', n)
    FROM unnest(customers) c, generate_series(1, each) n;
    PERFORM public.bank_note(client, seq, customers[1], 'campaign',
                             ARRAY[cardinality(customers) * each]::bigint[], client || '-' || seq);
    RETURN 1 + cardinality(customers) * each;
END $$;

CREATE FUNCTION public.bank_withdraw(client integer, seq bigint, customer bigint, dropped text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    DELETE FROM public.notifications WHERE campaign = dropped;
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM public.bank_note(client, seq, customer, 'withdraw', '{}', dropped);
    RETURN 1 + changed;
END $$;

-- What `bank check` asks. Names that end in _off count contradictions; the others are summed over
-- the shards and compared with each other.
CREATE FUNCTION public.bank_audit() RETURNS TABLE (name text, value numeric)
LANGUAGE sql STABLE AS $$
    SELECT 'customers', count(*)::numeric FROM public.users
    UNION ALL SELECT 'accounts', count(*) FROM public.accounts
    UNION ALL SELECT 'transactions', count(*) FROM public.transactions
    UNION ALL SELECT 'requests', count(*) FROM public.api_requests
    UNION ALL SELECT 'balance_cents', coalesce(sum(balance_cents), 0) FROM public.accounts
    UNION ALL SELECT 'opening_cents', coalesce(sum(opening_cents), 0) FROM public.accounts
    UNION ALL SELECT 'accounts_off', count(*)
        FROM public.accounts a
        FULL JOIN (SELECT account_id, sum(amount_cents) AS moved FROM public.ledger_entries
                   WHERE NOT imported GROUP BY account_id) l ON l.account_id = a.id
        WHERE a.id IS NULL OR a.balance_cents <> a.opening_cents + coalesce(l.moved, 0)
    UNION ALL SELECT 'transfers_off', count(*)
        FROM (SELECT client_id || '-' || seq AS ref FROM public.api_requests
              WHERE kind = 'transfer') r
        FULL JOIN (SELECT reference AS ref, count(*) AS times FROM public.transactions
                   WHERE reference IS NOT NULL GROUP BY reference) t ON t.ref = r.ref
        WHERE r.ref IS NULL OR t.ref IS NULL OR t.times <> 1
    UNION ALL SELECT 'ledger_off', count(*)
        FROM (SELECT id FROM public.transactions WHERE reference IS NOT NULL) t
        FULL JOIN (SELECT transaction_id, count(*) AS entries, sum(amount_cents) AS total
                   FROM public.ledger_entries WHERE NOT imported GROUP BY transaction_id) l
        ON l.transaction_id = t.id
        WHERE t.id IS NULL OR l.entries IS DISTINCT FROM 2 OR l.total <> 0
    UNION ALL SELECT 'settled_off', count(*)
        FROM (SELECT unnest(touched) AS id FROM public.api_requests WHERE kind = 'settle') r
        LEFT JOIN public.transactions t ON t.id = r.id AND t.status = 'settled'
        WHERE t.id IS NULL
    UNION ALL SELECT 'purged_off', count(*)
        FROM (SELECT unnest(touched) AS id FROM public.api_requests WHERE kind = 'purge') r
        JOIN public.notifications n ON n.id = r.id
    UNION ALL SELECT 'uploads_off', count(*)
        FROM (SELECT 'upload ' || client_id || '-' || seq AS title FROM public.api_requests
              WHERE kind = 'upload') r
        FULL JOIN (SELECT title, count(*) AS times FROM public.kyc_documents
                   WHERE title LIKE 'upload %' GROUP BY title) d ON d.title = r.title
        WHERE r.title IS NULL OR d.title IS NULL OR d.times <> 1
    UNION ALL SELECT 'campaigns_off', count(*)
        FROM (SELECT r.note AS campaign, r.touched[1] AS size FROM public.api_requests r
              WHERE r.kind = 'campaign' AND NOT EXISTS (
                  SELECT FROM public.api_requests w
                  WHERE w.kind = 'withdraw' AND w.note = r.note)) r
        FULL JOIN (SELECT campaign, count(*) AS size FROM public.notifications
                   WHERE campaign IS NOT NULL GROUP BY campaign) n ON n.campaign = r.campaign
        WHERE r.size IS DISTINCT FROM n.size
    UNION ALL SELECT 'appends_off', abs(
        (SELECT count(*) FROM public.api_requests WHERE kind = 'append') -
        (SELECT count(*) FROM public.audit_log WHERE action = 'append'))
    UNION ALL SELECT 'rotations', coalesce(sum(rotations), 0) FROM public.sessions
    UNION ALL SELECT 'rotations_asked', count(*) FROM public.api_requests WHERE kind = 'rotate'
    UNION ALL SELECT 'device_moves', coalesce(sum(moves), 0) FROM public.devices
    UNION ALL SELECT 'device_moves_asked', coalesce(sum(touched[1]), 0) FROM public.api_requests
        WHERE kind = 'device'
$$;

-- The application. Roles exist before (grants.sql).
GRANT USAGE ON SCHEMA ref TO bank;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO bank;
GRANT SELECT ON ALL TABLES IN SCHEMA ref TO bank;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO bank;
