"""The protocols, as models for SPIN (docs/model): they hold, and without any one step they do not."""
import pathlib
import re
import subprocess

import pytest

MODELS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "model"
MEMORY_MIB = 3500

BOUNDS = [
    ("copy", "TRANSACTIONS=2 CRASHES=2"),
    ("copy", "TRANSACTIONS=3 CRASHES=0"),
    ("copy", "TRANSACTIONS=2 KEYS=3 CRASHES=0"),
    ("copy", "TRANSACTIONS=3 SYNCHRONOUS=1"),
    ("cutover", "RUNS=2 WRITES=1"),
    ("look", "CHANGES=3 TRUNCATES=2 CRASHES=2 TRIES=3"),
    ("reverse", "CHANGES=7 ROLLBACKS=2"),
]
LARGE_BOUNDS = [
    ("copy", "TRANSACTIONS=3"),
    ("copy", "TRANSACTIONS=2 KEYS=3"),
]
# What only a source shows that waits for us.
SYNCHRONOUS = {("copy", "W_BEFORE_HOLD"), ("copy", "ONLY_BEFORE_H")}
# What the protocol can do without; see docs/model/README.md.
SPARE = {("reverse", "DIRTY_BY_DELETE"), ("reverse", "DIRTY_BY_UPDATE")}


def mutants(model):
    listed = (MODELS / f"{model}.pml").read_text().split("/* Mutants:")[1].split("#ifndef")[0]
    return re.findall(r"^#define (\w+) +\d+$", listed, re.MULTILINE)


def all_mutants():
    return [(path.stem, name) for path in sorted(MODELS.glob("*.pml")) for name in mutants(path.stem)]


def errors(folder, model, defines, optimize):
    """How many violations SPIN finds; it stops at the first. Generated files are in the folder."""
    options = [f"-D{define}" for define in defines.split()]
    subprocess.run(["spin", *options, "-a", MODELS / f"{model}.pml"], cwd=folder, check=True)
    subprocess.run(["gcc", "-w", optimize, "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB}",
                    "-o", "pan", "pan.c"], cwd=folder, check=True)
    output = subprocess.run(["./pan", "-w22"], cwd=folder, check=True, capture_output=True,
                            text=True).stdout
    print(*options, output, sep="\n")
    assert "max search depth too small" not in output and "reached -DMEMLIM" not in output
    return int(re.search(r"errors: (\d+)", output)[1])


@pytest.mark.parametrize("model, bounds", BOUNDS)
def test_holds(tmp_path, model, bounds):
    assert errors(tmp_path, model, bounds, "-O2") == 0


@pytest.mark.full
@pytest.mark.parametrize("model, bounds", LARGE_BOUNDS)
def test_holds_in_large_bounds(tmp_path, model, bounds):
    assert errors(tmp_path, model, bounds, "-O2") == 0


@pytest.mark.parametrize("model, step", all_mutants())
def test_breaks_without(tmp_path, model, step):
    bounds = "SYNCHRONOUS=1" if (model, step) in SYNCHRONOUS else ""
    expected = 0 if (model, step) in SPARE else 1
    assert errors(tmp_path, model, f"{bounds} WITHOUT={step}", "-O0") == expected


def test_readme_has_each_mutant():
    listed = re.findall(r"^\| `([A-Z_]+)` \|", (MODELS / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(step for _, step in all_mutants())
