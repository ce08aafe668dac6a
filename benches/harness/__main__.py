"""Side by side in one run: direct, nginx, Reprise; with --peers also what a user would pick instead.

Needs nginx, wrk and h2load, with --peers also haproxy and varnish (installed with apt-get where this
runs as root), LiteLLM and GPTCache (PyPI) and Portkey's gateway (npm), which go to .tools/.

Rounds are interleaved, so that a noisy neighbour hits every system; medians are printed with their
spread. Absolute figures of a shared machine mean little: read the ratios to nginx of the same run.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

import replay
import report
import streams
import systems
import tax
import whole


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peers", action="store_true", help="also haproxy, varnish, LiteLLM, Portkey, GPTCache")
    options.add_argument("--seconds", type=int, default=4, help="of each measurement")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=pathlib.Path, help="write results.json, results.md and SVG plots there")
    options = options.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="reprise-bench-"))
    work.chmod(0o755)  # nginx's and varnish's workers give up root, and keep their caches there
    running = systems.Running(work)
    results = {}
    try:
        results["whole"] = whole.measure(running, options)
        results["half"] = whole.half_load(running, results["whole"], options)
        if options.peers:
            results["tax"] = tax.measure(running)
            results["streams"] = streams.measure(running)
            results["replay"] = replay.measure(running)
    except BaseException:
        running.tell()
        raise
    finally:
        running.stop()
        shutil.rmtree(work, ignore_errors=True)
        # Also what was measured before something failed: it took minutes.
        if results:
            text = report.markdown(results, options)
            sys.stdout.write(text)
            if options.out:
                report.write(options.out, results, text)


if __name__ == "__main__":
    main()
