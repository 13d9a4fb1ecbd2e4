"""Measures pgportage beside the tools that people use today, on the same servers and by turns. Run it
with ./bench, which builds a release first. Peers: copy against psql | psql and pgcopydb, stream
against a native subscription, verify against COPY and hashes in SQL; lag, memory
and cutover have none."""
import argparse
import json
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from copy_bench import CopyBench  # noqa: E402
from cutover_bench import CutoverBench  # noqa: E402
from lag_bench import LagBench  # noqa: E402
from memory_bench import MemoryBench  # noqa: E402
from report import as_json, table  # noqa: E402
from stream_bench import StreamBench  # noqa: E402
from verify_bench import VerifyBench  # noqa: E402

BENCHES = {bench.name: bench for bench in (CopyBench, StreamBench, LagBench, MemoryBench,
                                        VerifyBench, CutoverBench)}


def parse():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="BENCH",
                        help=f"{', '.join(BENCHES)}; all of them if none is named")
    parser.add_argument("--case", metavar="NAME", help="only this case")
    parser.add_argument("--quick", action="store_true", help="less of everything, and fewer runs")
    parser.add_argument("--runs", type=int, metavar="N", help="how often each side runs")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="the figures for scripts")
    parser.add_argument("--folder", metavar="DIR", help="where the servers' folders are made")
    parser.add_argument("--keep", action="store_true", help="leave the folders, with all logs")
    options = parser.parse_args()
    options.benches = options.benches or list(BENCHES)
    check(parser, options)
    return options


def check(parser, options):
    unknown = [name for name in options.benches if name not in BENCHES]
    if unknown:
        parser.error(f"no bench {unknown[0]!r}; there are {', '.join(BENCHES)}")
    if options.runs is not None and options.runs < 1:
        parser.error("--runs must be at least 1")
    if options.case is None:
        return
    options.benches = [name for name in options.benches if options.case in BENCHES[name].cases]
    if not options.benches:
        parser.error(f"no case {options.case!r}; there are " + "; ".join(
            f"{name}: {', '.join(bench.cases)}" for name, bench in BENCHES.items()))


def run(name, options):
    print(f"{name}{' (quick)' if options.quick else ''}", flush=True)
    bench = BENCHES[name](options)
    good = False
    try:
        figures = bench.measure(options.case)
        print(f"\n{name}: {bench.versions()}\n\n{table(figures)}\n")
        print("".join(f"  {note}\n" for note in bench.notes), flush=True)
        good = True
        return as_json(name, figures)
    finally:
        keep = options.keep or not good
        bench.close(keep)
        if keep:
            print(f"The logs are in {bench.folder}", file=sys.stderr)


def main():
    # As on Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = parse()
    try:
        results = [run(name, options) for name in options.benches]
    except AssertionError as error:
        print(f"\nThe bench failed: {error}", file=sys.stderr)
        return 1
    if options.json:
        whole = results[0] if len(results) == 1 else results
        options.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
