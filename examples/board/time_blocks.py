"""Times an ONNX file beside another on a board; needs numpy and onnxruntime alone, and nothing of autocompress.

    python time_blocks.py CANDIDATE REFERENCE INPUTS SECONDS THREADS

prints one line of JSON with the times of alternating blocks of calls, as a profile with ``device = "command:..."`` asks
for (docs/targets.md).
"""

import json
import sys
import time

import numpy as np
import onnxruntime as ort

BLOCK_MS, MOST_CALLS = 4.0, 400  # about as long as a block lasts, and the calls in it at most
BLOCKS, FEWEST = 20, 10  # of a session: as a rule, and when a call is slow


def opened(path, threads, feeds):
    """A function that runs the file once, on the inputs in turn, and returns the milliseconds that it took."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", "500")  # then the other file has their cores
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    turn = [0]

    def call():
        feed = feeds[turn[0] % len(feeds)]
        turn[0] += 1
        began = time.perf_counter()
        session.run(None, feed)
        return 1e3 * (time.perf_counter() - began)

    return call


def calls_in_a_block(call):
    for _ in range(3):
        call()
    each = float(np.median([call() for _ in range(5)]))
    return int(np.clip(round(BLOCK_MS / each), 1, MOST_CALLS))


def main():
    candidate_path, reference_path, inputs, seconds, threads = sys.argv[1:]
    feeds = {}
    for key, value in np.load(inputs).items():
        number, _, name = key.partition("/")
        feeds.setdefault(int(number), {})[name] = value
    feeds = [feeds[number] for number in sorted(feeds)]
    candidate, reference = (opened(path, int(threads), feeds) for path in (candidate_path, reference_path))
    counts = calls_in_a_block(candidate), calls_in_a_block(reference)
    ours, theirs = [], [float(np.median([reference() for _ in range(counts[1])]))]
    ends = time.monotonic() + float(seconds)
    while len(ours) < BLOCKS and (len(ours) < FEWEST or time.monotonic() < ends):
        ours.append([candidate() for _ in range(counts[0])])
        theirs.append(float(np.median([reference() for _ in range(counts[1])])))
    print(json.dumps({"reference": theirs, "candidate": ours}))


if __name__ == "__main__":
    main()
