"""Denoise and classify images of a folder or file. make calls this file through `launch.py apply`.

Usage: python workflow/apply.py --images my_cutouts --out runs/applied/my_cutouts [--run runs/quick-standin]

With --pieces, --piece and --join, several processes share the work: the first one writes the plan, any number of others
each make one piece of the results, and the last one joins them.
"""

import argparse
import json
import sys
from pathlib import Path

from startup import start_keras


def main(texts=None):
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description="Denoise and classify images.")
    parser.add_argument("--images", required=True, type=Path, help="folder or file of images")
    parser.add_argument("--out", required=True, type=Path, help="folder for the results")
    parser.add_argument("--run", help="folder of a finished run; without it, the networks of the repository")
    parser.add_argument("--pieces", type=int, help="only write the plan, with this number of pieces")
    parser.add_argument("--dry-run", action="store_true", help="with --pieces, only say how the images are divided")
    parser.add_argument("--piece", type=int, help="only make this piece")
    parser.add_argument("--join", action="store_true", help="only join the pieces")
    given = parser.parse_args(texts)
    from galaxynb.apply.inputs import open_inputs
    from galaxynb.files import one_line

    try:
        # Open the images first: Keras and the networks take seconds.
        inputs = open_inputs(given.images)
        if given.dry_run:
            pieces = min(given.pieces, inputs.number)
            earlier = given.out / "plan.json"
            if earlier.is_file():  # make_plan keeps its number
                pieces = json.loads(earlier.read_text(encoding="utf-8"))["pieces"]
            most = -(-inputs.number // pieces)
            ranges = f"{pieces:,} ranges of up to {most:,}"
            print(f"{given.images}: {inputs.number:,} images in {ranges}. Nothing is written.")
            print(pieces)  # for launch.py
            return 0
        start_keras()
        from galaxynb.apply.networks import load_networks
        from galaxynb.apply.run import apply_images, apply_piece, finished, in_use, join_pieces, make_plan, read_plan

        networks = load_networks(given.run)
        if given.pieces is not None:
            make_plan(inputs, given.out, networks, pieces=given.pieces)
            finished(given.out)
            return 0
        if given.piece is None and not given.join:
            print(f"Images: {inputs.number:,}, of {given.images}. Networks: those of {given.run or 'the repository'}.")
            sys.stdout.flush()
            summary = given.out / "summary.json"
            earlier = summary.stat().st_mtime_ns if summary.is_file() else None
            found = apply_images(inputs, given.out, networks, progress=sys.stderr.isatty())
            if summary.stat().st_mtime_ns == earlier:
                print("The images and the networks have not changed since an earlier call. These are its results:")
            print("\n".join(found["sentences"]))
            print(f"The page is ready: {(given.out / 'index.html').resolve()}")
            return int(found["unusable"] == found["number"])
        plan = read_plan(inputs, given.out, networks)
        with in_use(given.out, shared=True):
            if given.join:
                join_pieces(inputs, given.out, networks, plan=plan)
            else:
                apply_piece(inputs, given.out, networks, piece=given.piece, plan=plan)
    except (OSError, ValueError) as error:
        print(one_line(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
