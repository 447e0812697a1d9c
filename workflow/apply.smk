# Denoise and classify many images in pieces, on several cores or on a cluster. Run it with
#   make apply IMAGES=cutouts.h5 SHARDS=200 EXECUTOR=slurm
# workflow/apply.py describes the pieces.
import json
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

sys.path[:0] = [workflow.basedir, str(Path(workflow.basedir).parent)]
import launch

GIVEN = json.loads(unquote(config["make"]))
OUT = GIVEN["out"]
COMMAND = shlex.join(
    [*launch.command("workflow/apply.py"), "--images", GIVEN["images"], "--out", OUT]
    + (["--run", GIVEN["run"]] if GIVEN.get("run") else [])
).replace("{", "{{").replace("}", "}}")
PIECES = [f"{OUT}/pieces/{number:06d}.parquet" for number in range(int(GIVEN["pieces"]))]


rule all:
    input:
        f"{OUT}/summary.json",


# A piece appears only when it is complete, so a repeated job makes it anew. On one machine, a piece uses all cores.
rule piece:
    output:
        f"{OUT}/pieces/{{number}}.parquet",
    retries: 2
    threads: 1000 if GIVEN["executor"] == "local" else 2
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        number=lambda wildcards: int(wildcards.number),
    shell:
        COMMAND + " --piece {params.number}"


rule join:
    input:
        PIECES,
    output:
        f"{OUT}/summary.json",
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        COMMAND + " --join"


# The join leaves the pieces, so that it can be repeated.
onsuccess:
    if workflow.is_main_process:
        shutil.rmtree(f"{OUT}/pieces", ignore_errors=True)
        print("\n".join(json.loads(Path(OUT, "summary.json").read_text(encoding="utf-8"))["sentences"]))
        print(f"The page is ready: {Path(OUT, 'index.html').resolve()}")
