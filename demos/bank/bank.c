/*
 * The demo bank: an application to be carried over while it works. `bank load` fills its database,
 * `bank run` is its clients, `bank check` proves afterwards what each side holds.
 */
#include <getopt.h>

#include "check.h"
#include "load.h"
#include "run.h"
#include "util/log.h"

enum { EXIT_DIFFERENCE = 1, EXIT_USAGE = 2, EXIT_ERROR = 3 };

static const char usage_text[] =
    "bank load  --dsn DSN [--rows N] [--seed S]\n"
    "bank run   --source DSN [--dsn-template TEMPLATE] [--shards N] --ack FILE [--json FILE]\n"
    "           [--writers N] [--rate CHANGES_PER_SECOND] [--seconds S] [--seed K]\n"
    "           [--large-every SECONDS] [--large-rows N] [--progress]\n"
    "bank check --ack FILE [--ack FILE ...] --dsn DSN [--dsn DSN ...] [--json FILE]\n"
    "\n"
    "run: without a rate as fast as it can; without seconds until SIGTERM or SIGINT. {shard} in\n"
    "the template stands for the number of the shard, from 0; without a template all names are the\n"
    "source. check: several DSNs are the shards in their order. Exit codes: 0 all holds,\n"
    "1 a difference, 2 usage, 3 an error.\n";

/* All options of all commands: a command looks at its own. */
struct options {
    struct load_options load;
    struct run_options run;
    struct check_options check;
};

enum option_code {
    OPTION_DSN = 256,
    OPTION_ROWS,
    OPTION_SEED,
    OPTION_SOURCE,
    OPTION_TEMPLATE,
    OPTION_SHARDS,
    OPTION_ACK,
    OPTION_JSON,
    OPTION_WRITERS,
    OPTION_RATE,
    OPTION_SECONDS,
    OPTION_LARGE_EVERY,
    OPTION_LARGE_ROWS,
    OPTION_PROGRESS,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"dsn", required_argument, NULL, OPTION_DSN},
    {"rows", required_argument, NULL, OPTION_ROWS},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"source", required_argument, NULL, OPTION_SOURCE},
    {"dsn-template", required_argument, NULL, OPTION_TEMPLATE},
    {"shards", required_argument, NULL, OPTION_SHARDS},
    {"ack", required_argument, NULL, OPTION_ACK},
    {"json", required_argument, NULL, OPTION_JSON},
    {"writers", required_argument, NULL, OPTION_WRITERS},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"large-every", required_argument, NULL, OPTION_LARGE_EVERY},
    {"large-rows", required_argument, NULL, OPTION_LARGE_ROWS},
    {"progress", no_argument, NULL, OPTION_PROGRESS},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

_Noreturn static void usage_error(const char *message)
{
    fprintf(stderr, "bank: %s\n%s", message, usage_text);
    exit(EXIT_USAGE);
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        fprintf(stderr, "bank: \"%s\" is not a number from %.0f to %.0f\n", text, least, most);
        exit(EXIT_USAGE);
    }
    return value;
}

static void add_text(const char **texts, unsigned *count, unsigned max, const char *text)
{
    if (*count == max)
        usage_error("too many --dsn or --ack");
    texts[(*count)++] = text;
}

static void take_number(struct options *options, int option)
{
    struct run_options *run = &options->run;
    switch (option) {
    case OPTION_ROWS:
        options->load.rows = (int64_t)number(optarg, 1000, 1e9);
        break;
    case OPTION_SEED: /* clients are numbered by it, in an integer */
        options->load.seed = run->seed = (int64_t)number(optarg, 0, 1000000);
        break;
    case OPTION_SHARDS:
        run->shards = (unsigned)number(optarg, 1, SHARDS_MAX);
        break;
    case OPTION_WRITERS:
        run->writers = (unsigned)number(optarg, 1, 99);
        break;
    case OPTION_RATE:
        run->rate = number(optarg, 0, 1e7);
        break;
    case OPTION_SECONDS:
        run->seconds = number(optarg, 0, 1e7);
        break;
    case OPTION_LARGE_EVERY:
        run->large_every = number(optarg, 0, 1e7);
        break;
    case OPTION_LARGE_ROWS:
        run->large_rows = (int)number(optarg, 1, 1e8);
        break;
    default:
        usage_error("unknown option");
    }
}

static void take_option(struct options *options, int option)
{
    struct check_options *check = &options->check;
    switch (option) {
    case OPTION_DSN:
        options->load.dsn = optarg;
        add_text(check->dsns, &check->dsns_count, SHARDS_MAX, optarg);
        break;
    case OPTION_ACK:
        options->run.ack = optarg;
        add_text(check->acks, &check->acks_count, ACK_FILES_MAX, optarg);
        break;
    case OPTION_SOURCE:
        options->run.source = optarg;
        break;
    case OPTION_TEMPLATE:
        options->run.dsn_template = optarg;
        break;
    case OPTION_JSON:
        options->run.json = check->json = optarg;
        break;
    case OPTION_PROGRESS:
        options->run.progress = true;
        break;
    case OPTION_HELP:
        printf("%s", usage_text);
        exit(EXIT_SUCCESS);
    default:
        take_number(options, option);
    }
}

static int finished(bool good, const struct error *err)
{
    if (good)
        return EXIT_SUCCESS;
    log_error(err);
    return EXIT_ERROR;
}

static int load_main(const struct options *options)
{
    struct error err = ERROR_INIT;
    if (!options->load.dsn)
        usage_error("load needs --dsn");
    return finished(load_run(&options->load, &err), &err);
}

static int run_main(const struct options *options)
{
    struct error err = ERROR_INIT;
    if ((!options->run.source && !options->run.dsn_template) || !options->run.ack)
        usage_error("run needs --source or --dsn-template, and --ack");
    return finished(run_run(&options->run, &err), &err);
}

static int check_main(const struct options *options)
{
    struct error err = ERROR_INIT;
    uint64_t differences = 0;
    if (options->check.dsns_count == 0 || options->check.acks_count == 0)
        usage_error("check needs --dsn and --ack");
    int status = finished(check_run(&options->check, &differences, &err), &err);
    return status == EXIT_SUCCESS && differences > 0 ? EXIT_DIFFERENCE : status;
}

static const struct {
    const char *name;
    int (*main)(const struct options *options);
} commands[] = {{"load", load_main}, {"run", run_main}, {"check", check_main}};

int main(int argc, char **argv)
{
    struct options options = {
        .load = {.rows = 1000000, .seed = 1},
        .run = {.shards = 2, .writers = 8, .large_every = 60, .large_rows = 100000, .seed = 1},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        take_option(&options, option);
    if (optind + 1 != argc)
        usage_error("one command is needed");
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[optind], commands[i].name) == 0)
            return commands[i].main(&options);
    usage_error("unknown command");
}
