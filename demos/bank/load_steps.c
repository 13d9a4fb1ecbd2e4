#include "load_steps.h"

const char load_pick[] =
    "CREATE FUNCTION pg_temp.pick(n bigint, salt bigint, below bigint) RETURNS bigint"
    " LANGUAGE sql IMMUTABLE AS"
    " 'SELECT (hashint8extended(n, salt * 1000003 + %s) & 1152921504606846975) %% below'";

const char load_sequences[] =
    "SELECT setval('public.transactions_id_seq', max(id)) FROM public.transactions;"
    "SELECT setval(pg_get_serial_sequence('public.audit_log', 'id'), max(id))"
    " FROM public.audit_log;"
    "SELECT setval(pg_get_serial_sequence('public.notifications', 'id'), max(id))"
    " FROM public.notifications;"
    "SELECT setval(pg_get_serial_sequence('public.savings_goals', 'goal_no'), max(goal_no))"
    " FROM public.savings_goals;";

/* The year of the data is fixed, so that two loads are equal: December 2025 to November 2026. */
#define DAY_ZERO "timestamptz '2025-12-01 00:00:00+00'"
#define SPREAD(n, of) DAY_ZERO " + " n " * (interval '350 days' / " of ")"

const struct load_step load_steps[] = {
    {.table = "ref.countries",
     .sql = "INSERT INTO ref.countries VALUES"
            " ('DE', 'Deutschland', true), ('FR', 'France', true), ('AT', 'Österreich', true),"
            " ('CH', 'Schweiz', false), ('GB', 'United Kingdom', false), ('JP', '日本', false)"},

    {.table = "ref.currencies",
     .sql =
         "INSERT INTO ref.currencies VALUES"
         " ('EUR', 'Euro', 2), ('CHF', 'Swiss franc', 2), ('GBP', 'Pound', 2), ('JPY', 'Yen', 0)"},

    {.table = "ref.branches",
     .sql = "INSERT INTO ref.branches"
            " SELECT n, nullif(n / 3, 0), 'Branch ' || n,"
            "  ROW('Straße \"' || n || '\", rear', 'Köln', NULL, 'DE')::ref.postal_address,"
            "  int4range(8, 16 + n % 4), point(n, -n)"
            " FROM generate_series(1, 40) n"},

    {.table = "ref.products",
     .sql =
         "INSERT INTO ref.products"
         " SELECT code, initcap(code), ARRAY['app', NULL, 'with, comma', '{\"' || code || '\"}'],"
         "  jsonb_build_object('notice days', 30, 'text', E'line\\nbreak \\\\ é')::text"
         " FROM unnest(ARRAY['giro', 'savings', 'credit', 'depot', 'Ärzte', 'zoo']) code"},

    {.table = "ref.fee_schedules",
     .sql = "INSERT INTO ref.fee_schedules"
            " SELECT code, date '2020-01-01' + year * 365, length(code) + year / 100.0,"
            "  nullif(year, 3) * 1.5"
            " FROM ref.products, generate_series(0, 6) year",
     .late = true},

    {.table = "ref.exchange_rates",
     .sql = "INSERT INTO ref.exchange_rates"
            " SELECT 'EUR', code, date '2025-12-01' + day,"
            "  CASE WHEN day % 7 = 6 THEN 'NaN' WHEN day = 3 THEN repeat('9', 300)::numeric"
            "  ELSE (1000 + pg_temp.pick(day, 1, 1000)) / 3333.0 END"
            " FROM ref.currencies, generate_series(0, 349) day WHERE code <> 'EUR'",
     .late = true},

    {.table = "ref.holidays",
     .sql = "INSERT INTO ref.holidays"
            " SELECT code, CASE n WHEN 4 THEN 'infinity' ELSE date '2026-01-01' + n * 77 END,"
            "  'Holiday ' || n FROM ref.countries, generate_series(0, 4) n",
     .late = true},

    {.table = "ref.merchant_categories",
     .sql = "INSERT INTO ref.merchant_categories"
            " SELECT lpad((n * 10)::text, 4, '0'), 'Category ' || n, n / 7.0::real"
            " FROM generate_series(1, 300) n"},

    {.table = "ref.\"Settings\"",
     .sql =
         "INSERT INTO ref.\"Settings\" VALUES"
         " ('bank.customers', $1::text, " DAY_ZERO "), ('bank.transactions', $2::text, " DAY_ZERO
         "),"
         " ('empty', '', '-infinity'), ('null', NULL, '0044-03-15 12:00:00+00 BC'),"
         " ('Copy', E'\\\\N', 'infinity'), ('end', E'\\\\.', " DAY_ZERO "),"
         " ('lines', E'a\\r\\nb\\tc\\\\d', " DAY_ZERO "), ('é \"quoted\"', '🛶', " DAY_ZERO ")"},

    {.table = "customers",
     .sql =
         "INSERT INTO public.customers"
         " SELECT n, 'Customer ' || n || CASE WHEN n % 50 = 0 THEN ' O''Néill, \"Jr\"' ELSE '' END,"
         "  CASE n % 1000 WHEN 1 THEN '0044-03-15 BC' WHEN 2 THEN 'infinity'"
         "   ELSE date '1940-01-01' + pg_temp.pick(n, 1, 24000)::integer END,"
         "  CASE pg_temp.pick(n, 2, 3) WHEN 0 THEN 'DE' WHEN 1 THEN 'FR' ELSE 'AT' END,"
         "  jsonb_build_object('segment', pg_temp.pick(n, 3, 9), 'note', E'a \"b\" \\\\ ü')::text,"
         "  NULL, " SPREAD("n", "$1") ", " SPREAD("n", "$1") " FROM generate_series(1, $1) n"},

    {.table = "customer_addresses",
     .sql =
         "INSERT INTO public.customer_addresses"
         " SELECT n, kind, 1, ROW('Street (' || n || ')', 'Town, \"old\"', n::text, 'DE')"
         "   ::ref.postal_address,"
         "  CASE WHEN n % 5 = 0 THEN daterange('2020-01-01', NULL) END"
         " FROM generate_series(1, $1) n, unnest(ARRAY['home', 'billing']::public.address_kind[]) kind"
         " WHERE kind = 'home' OR n % 4 = 0"},

    {.table = "customer_emails",
     .sql =
         "INSERT INTO public.customer_emails"
         " SELECT n, CASE no WHEN 0 THEN 'C' ELSE 'second.' END || n || '@example.com',"
         "  CASE WHEN n % 3 > 0 THEN " SPREAD(
             "n",
             "$1") " END, no = 0"
                   " FROM generate_series(1, $1) n, generate_series(0, 1) no WHERE no = 0 OR n % 5 = 0"},

    {.table = "customer_phones",
     .sql = "INSERT INTO public.customer_phones"
            " SELECT n, '+49' || lpad(n::text, 9, '0'), NULL, true FROM generate_series(1, $1) n"},

    {.table = "customer_profiles",
     .sql = "INSERT INTO public.customer_profiles"
            " SELECT n, CASE WHEN n % 7 > 0 THEN 'occupation ' || n % 40 END,"
            "  repeat('employer ', (n % 4)::integer),"
            "  CASE WHEN n % 9 > 0 THEN pg_temp.pick(n, 1, 10000000) / 100.0 END,"
            "  pg_temp.pick(n, 2, 1000000) / 999983.0::double precision, 'de', n % 2 = 0,"
            "  jsonb_build_object('theme', 'light', 'text', n)::text, " SPREAD(
                "n", "$1") " FROM generate_series(1, $1) n"},

    {.table = "referrals",
     .sql = "INSERT INTO public.referrals"
            " SELECT n, nullif(n / 2, 0), 'R' || n, CASE WHEN n % 3 = 0 THEN 5.00 END"
            " FROM generate_series(1, $1) n"},

    /* Two accounts a customer, 2n-1 and 2n: the client knows it. */
    {.table = "accounts",
     .sql =
         "INSERT INTO public.accounts"
         " SELECT a, (a + 1) / 2, CASE WHEN a % 2 = 0 THEN a - 1 END,"
         "  'DE' || lpad((a % 97)::text, 2, '0') || 'BANK' || lpad(a::text, 10, '0'), 'EUR', 'open',"
         "  money / 100.0, money / 100.0, " SPREAD("a", "(2 * $1)") ", " SPREAD(
             "a",
             "(2 * $1)") " FROM generate_series(1, 2 * $1) a, pg_temp.pick(a, 1, 10000000) money"},

    {.table = "account_holders",
     .sql =
         "INSERT INTO public.account_holders"
         " SELECT a, (a + 1) / 2, 'owner'::public.holder_role, date '2025-12-01' FROM generate_series(1, 2 * $1) a"
         " UNION ALL SELECT 2 * n, 1 + n % $1, 'joint'::public.holder_role, date '2026-02-01'"
         " FROM generate_series(1, $1 - 1, 10) n"},

    {.table = "account_limits",
     .sql = "INSERT INTO public.account_limits"
            " SELECT a, (a + 1) / 2, 1000 + a % 10, 20000.50,"
            "  CASE WHEN a % 20 = 0 THEN ARRAY['JP', 'GB']::character(2)[] ELSE '{}' END"
            " FROM generate_series(1, 2 * $1) a"},

    {.table = "transactions",
     .sql =
         "INSERT INTO public.transactions"
         " SELECT n, customer, 2 * customer - pg_temp.pick(n, 2, 2), 1 + pg_temp.pick(n, 3, 2 * $1),"
         "  (1 + pg_temp.pick(n, 4, 100000)) / 100.0, 'EUR',"
         "  CASE WHEN luck < 950 THEN 'settled' WHEN luck < 970 THEN 'pending settlement'"
         "   WHEN luck < 990 THEN 'rejected' ELSE 'reversed' END,"
         "  NULL, CASE WHEN luck % 10 > 0 THEN '{\"mcc\": \"' || 1000 + luck || '\", \"shop\": \"Käse & '"
         "   || n % 977 || '\"}' END, at, at + interval '1 minute'"
         " FROM (SELECT n, 1 + pg_temp.pick(n, 1, $1) AS customer, pg_temp.pick(n, 5, 1000) AS luck,"
         "   " SPREAD("n", "$2") " AS at FROM generate_series(1, $2) n OFFSET 0) made"},

    /* The last quarter; what came before is in the archive. */
    {.table = "ledger_entries",
     .sql =
         "INSERT INTO public.ledger_entries"
         " SELECT n, 1, customer, 2 * customer - pg_temp.pick(n, 2, 2), -amount, true, at"
         " FROM (SELECT n, 1 + pg_temp.pick(n, 1, $1) AS customer,"
         "   (1 + pg_temp.pick(n, 4, 100000)) / 100.0 AS amount, " SPREAD(
             "n", "$2") " AS at"
                        "   FROM generate_series($2 - $2 / 4 + 1, $2) n OFFSET 0) made"
                        " UNION ALL SELECT n, 2, (account + 1) / 2, account, amount, true, at"
                        " FROM (SELECT n, 1 + pg_temp.pick(n, 3, 2 * $1) AS account,"
                        "   (1 + pg_temp.pick(n, 4, 100000)) / 100.0 AS amount, " SPREAD(
                            "n",
                            "$2") " AS at"
                                  "   FROM generate_series($2 - $2 / 4 + 1, $2) n OFFSET 0) made"},

    {.table = "transaction_holds",
     .sql = "INSERT INTO public.transaction_holds"
            " SELECT md5('hold' || n)::uuid, customer, 2 * customer, 1 + n % 100, '0010',"
            "  CASE WHEN n % 10 = 0 THEN 'infinity' ELSE " SPREAD(
                "n", "$1") " END"
                           " FROM generate_series(1, $1 / 5) n, pg_temp.pick(n, 1, $1 - 1) less,"
                           "  LATERAL (SELECT less + 1 AS customer) c"},

    {.table = "standing_orders",
     .sql = "INSERT INTO public.standing_orders"
            " SELECT n, 1, 'FR76BANK' || lpad(n::text, 10, '0'), 10 + n % 90,"
            "  CASE n % 3 WHEN 0 THEN interval '1 mon' WHEN 1 THEN interval '-1 day 04:05:06.789'"
            "   ELSE interval '1 year 2 mons 3 days' END,"
            "  ARRAY[1, NULL, n % 28]::integer[], timestamp '2026-12-01 00:00:00'"
            " FROM generate_series(1, $1, 4) n"},

    {.table = "beneficiaries",
     .sql =
         "INSERT INTO public.beneficiaries"
         " SELECT n, no, no, 'Beneficiary ' || no, 'AT00BANK' || lpad((n * 3 + no)::text, 10, '0'), true"
         " FROM generate_series(1, $1) n, generate_series(1, 3) no"},

    {.table = "savings_goals",
     .sql = "INSERT INTO public.savings_goals (customer_id, name, target, saved, expected_return)"
            " SELECT n, 'Boat', 1000 + n % 77, n % 1000,"
            "  CASE n % 40 WHEN 1 THEN '-0' WHEN 5 THEN '1e-300' WHEN 9 THEN '-216237.00000035969'"
            "   WHEN 13 THEN 'NaN' WHEN 17 THEN 'Infinity' ELSE '0.1' END::double precision"
            " FROM generate_series(1, $1, 4) n"},

    {.table = "statements",
     .sql = "INSERT INTO public.statements"
            " SELECT a, date '2026-10-01', (a + 1) / 2, pg_temp.pick(a, 1, 100000) / 100.0,"
            "  CASE WHEN a % 3 > 0 THEN decode(repeat(md5(a::text), 8), 'hex') END"
            " FROM generate_series(1, 2 * $1) a"},

    /* A card a customer, with the customer's number. */
    {.table = "cards",
     .sql =
         "INSERT INTO public.cards (id, customer_id, account_id, pan_hash, last4, exp_year, exp_month,"
         "  status, credit_limit)"
         " SELECT n, n, 2 * n, sha256(n::text::bytea), lpad((n % 10000)::text, 4, '0'),"
         "  2027 + n % 5, 1 + n % 12, 'active', CASE WHEN n % 4 > 0 THEN 500 + n % 1000 / 100.0 END"
         " FROM generate_series(1, $1) n"},

    {.table = "\"CardTokens\"",
     .sql = "INSERT INTO public.\"CardTokens\""
            " SELECT md5('token' || n)::uuid, n, n, 'Wallet', CASE WHEN n % 3 = 0 THEN '' END,"
            "  E'\\\\.' || n FROM generate_series(1, $1, 2) n"},

    {.table = "disputes",
     .sql =
         "INSERT INTO public.disputes"
         " SELECT n, customer, 1 + pg_temp.pick(n, 2, $2),"
         "  CASE WHEN n % 2 = 0 THEN n - 1 END,"
         "  CASE n % 4 WHEN 0 THEN 'won' WHEN 1 THEN 'lost' ELSE 'opened' END::public.dispute_state,"
         "  (1 + pg_temp.pick(n, 3, 10000)) / 100.0, ARRAY['receipt', 'e-mail \"' || n || '\"'],"
         "  " SPREAD(
             "n",
             "($2 / 500 + 1)") " FROM generate_series(1, $2 / 500 + 1) n, pg_temp.pick((n + 1) / 2, 1, $1 - 1) less,"
                               "  LATERAL (SELECT less + 1 AS customer) c"},

    {.table = "dispute_messages",
     .sql =
         "INSERT INTO public.dispute_messages"
         " SELECT id, no, customer_id, 'clerk ' || no, repeat('What happened? ', no * no), opened_at"
         " FROM public.disputes, generate_series(1, 3) no",
     .late = true},

    {.table = "support_tickets",
     .sql = "INSERT INTO public.support_tickets"
            " SELECT n, 1 + pg_temp.pick(n, 1, $1), 'Ticket ' || n,"
            "  CASE n % 3 WHEN 0 THEN '' WHEN 1 THEN 'card' ELSE 'card,app,urgent' END,"
            "  CASE WHEN n % 2 = 0 THEN repeat('It does not work. ', 20) END, n % 5 > 0,"
            "  timestamp '2025-12-01' + n * interval '1 minute'"
            " FROM generate_series(1, $1 / 5) n"},

    {.table = "loans",
     .sql =
         "INSERT INTO public.loans"
         " SELECT n, 10 * ((n + 1) / 2), CASE WHEN n % 2 = 0 THEN n - 1 END, 1000 + n,"
         "  (pg_temp.pick(n, 1, 90000) + 10000) / 1000000.0, date '2025-12-01' + n::integer % 28,"
         "  jsonb_build_object('secured', n % 2 = 0, 'rate', '1.50')::text"
         " FROM generate_series(1, $1 / 10) n"},

    {.table = "loan_payments",
     .sql = "INSERT INTO public.loan_payments"
            " SELECT id, no, customer_id, (started_on + no * interval '1 month')::date,"
            "  round(principal / 24, 2), CASE WHEN no < 10 THEN " SPREAD(
                "no", "24") " END"
                            " FROM public.loans, generate_series(1, 24) no",
     .late = true},

    /* Every hundredth document has megabytes. */
    {.table = "kyc_documents",
     .sql =
         "INSERT INTO public.kyc_documents (customer_id, no, title, content, ocr, uploaded_at)"
         " SELECT 20 * n, 1, 'Passport ' || n,"
         "  decode(repeat(md5(n::text), (CASE WHEN n % 100 = 1 THEN 65536 * (1 + n / 100 % 4)"
         "   ELSE 256 END)::integer), 'hex'),"
         "  CASE WHEN n % 3 > 0 THEN jsonb_build_object('text', repeat('0123456789', 300))::text END,"
         "  " SPREAD("n", "$1") " FROM generate_series(1, $1 / 20) n"},

    {.table = "kyc_checks",
     .sql = "INSERT INTO public.kyc_checks"
            " SELECT md5('check' || n)::uuid, 1 + pg_temp.pick(n, 1, $1), 'provider ' || n % 3,"
            "  jsonb_build_object('pep', n % 50 = 0, 'hits', ARRAY[n, NULL])::text,"
            "  (n % 10000) / 10000.0, " SPREAD("n", "$1") " FROM generate_series(1, $1 / 2) n"},

    {.table = "audit_log",
     .sql =
         "INSERT INTO public.audit_log"
         " SELECT 1 + pg_temp.pick(n, 1, $1), n, " SPREAD(
             "n",
             "($2 / 4 + 1)") ", 'clerk ' || n % 90,"
                             "  'looked', CASE WHEN n % 4 > 0 THEN jsonb_build_object('page', n)::text END"
                             " FROM generate_series(1, $2 / 4 + 1) n"},

    /* Some clicked twice: two rows that are equal in all columns. */
    {.table = "login_events",
     .sql =
         "INSERT INTO public.login_events"
         " SELECT 1 + pg_temp.pick(n / 2, 1, $1), " SPREAD(
             "n / 2",
             "($2 / 20 + 1)") ","
                              "  '2001:db8::'::inet + n / 2, CASE WHEN n % 1000 < 2 THEN NULL ELSE 'browser' END,"
                              "  CASE WHEN n % 500 > 1 THEN n % 2 = 0 END"
                              " FROM generate_series(2, $2 / 10 + 1) n"},

    {.table = "sessions",
     .sql =
         "INSERT INTO public.sessions"
         " SELECT md5('session' || n), n, 0, " SPREAD("n", "$1") " FROM generate_series(1, $1) n"},

    {.table = "devices",
     .sql = "INSERT INTO public.devices"
            " SELECT md5('device' || n)::uuid, n, 'Phone of ' || n, '08:00:2b:01:02:03', 0"
            " FROM generate_series(1, $1) n"},

    {.table = "notifications",
     .sql = "INSERT INTO public.notifications OVERRIDING SYSTEM VALUE"
            " SELECT n, 1 + pg_temp.pick(n, 1, $1), NULL, jsonb_build_object('welcome', n),"
            "  " SPREAD("n", "($2 / 10 + 1)") " FROM generate_series(1, $2 / 10 + 1) n"},

    {.table = "notification_preferences",
     .sql =
         "INSERT INTO public.notification_preferences"
         " SELECT n, CASE n % 3 WHEN 0 THEN '{}' ELSE '{push,e-mail}' END::public.notice_channel[],"
         "  CASE WHEN n % 4 > 0 THEN int4range(22, 30) END, B'0101'"
         " FROM generate_series(1, $1) n"},
};

const unsigned load_steps_count = sizeof(load_steps) / sizeof(load_steps[0]);
