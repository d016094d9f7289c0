"""Do the tests notice a mistake? The two commands that a mutation tester needs.

    python tests/mutants.py                    judge the mutant that the working tree holds now
    python tests/mutants.py SESSION 10 SEED    keep ten mutants of each file in a session

cosmic-ray changes one operator or number of the engine or of an op at a time and calls the first
command: it fails as soon as one test does, and passes where there is no mutant and all is well.
CONTRIBUTING.md says how to run it all.
"""

import os
import random
import sqlite3
import subprocess
import sys
from collections import defaultdict

# Files whose tests are not in the test file of their own name.
ELSEWHERE = {
    "ops/attention_kernels": "tests/ops/test_attention.py",
    "ops/attention_weights": "tests/ops/test_attention.py",
    "ops/extremes": "tests/ops/test_reduce.py",
    "tape": "tests/test_tensor.py",
}
ENGINE = ["tests/test_tensor.py", "tests/test_broadcast.py", "tests/test_kernel.py",
          "tests/test_gradcheck.py", "tests/test_watch.py"]


def changed_lesson():
    """The lesson that differs from the last commit, as "tape" or "ops/norm"; None for no lesson."""
    command = ["git", "diff", "--name-only", "--", "tinygrad_edu"]
    paths = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if len(paths) > 1:
        raise SystemExit(f"a mutant changes one file, not {len(paths)}: commit the others first")
    return paths[0].removeprefix("tinygrad_edu/").removesuffix(".py") if paths else None


def judge():
    """The exit code of the tests: those of the changed file first, since one failure is enough."""
    lesson = changed_lesson()
    everything = [["tests/ops", *ENGINE]]
    if lesson:
        folder, _, name = lesson.rpartition("/")
        everything.insert(0, [ELSEWHERE.get(lesson) or f"tests/{folder}/test_{name}.py"])
    # Python tells old bytecode by the second in which its source was written: too coarse here.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for tests in everything:
        command = [sys.executable, "-m", "pytest", "-x", "-q", *tests]
        code = subprocess.run(command, check=False, env=environment).returncode
        if code:
            return code
    return 0


def sample(session, count, seed):
    """Forget all mutants of a cosmic-ray session but `count` of each file, drawn by seed."""
    database = sqlite3.connect(session)
    columns = "operator_name, operator_args, occurrence, job_id"
    by_file = defaultdict(list)
    for path, *mutant in database.execute(f"SELECT module_path, {columns} FROM mutation_specs"):
        by_file[path].append(tuple(map(str, mutant)))
    generator, kept = random.Random(seed), set()
    for path in sorted(by_file):
        mutants = sorted(by_file[path])
        chosen = generator.sample(mutants, min(count, len(mutants)))
        kept |= {job for *_, job in chosen}
        print(f"{len(chosen):>4} of {len(mutants):>5} mutants of {path}")
    for table in ("mutation_specs", "work_items"):
        jobs = [job for (job,) in database.execute(f"SELECT job_id FROM {table}")]
        unwanted = [(job,) for job in jobs if job not in kept]
        database.executemany(f"DELETE FROM {table} WHERE job_id = ?", unwanted)
    database.commit()
    print(f"mutants={len(kept)}")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[2].isdigit():
        sample(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    elif len(sys.argv) == 1:
        raise SystemExit(judge())
    else:
        raise SystemExit(__doc__)
