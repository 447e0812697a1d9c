"""Write the two networks in ONNX. make calls this file.

Usage: python workflow/export.py --out runs/onnx [--run runs/quick-standin]
"""

import argparse
import sys

from startup import start_keras


def main(texts=None):
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description="Write the two networks in ONNX.")
    parser.add_argument("--out", required=True, help="folder for the two files")
    parser.add_argument("--run", help="folder of a finished run; without it, the networks of the repository")
    given = parser.parse_args(texts)
    start_keras()
    from galaxynb.apply.export import export_onnx
    from galaxynb.apply.networks import load_networks

    try:
        differences = export_onnx(load_networks(given.run), given.out)
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, difference in differences.items():
        print(f"{given.out}/{name}.onnx is written; its output differs from that of Keras by at most {difference:.1g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
